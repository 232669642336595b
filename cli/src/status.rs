//! `distfun status` and `distfun explain`: what a log says, in words or as JSON.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use distfun_core::view::{Job, JobState, Limits, Time, View};

use crate::{
    logs::{Logs, Reached},
    picture::Picture,
    top::words::{line as plain, many},
};

/// Shows how things stood at the end of a log, or of several.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 if all is well, 1 if a log can't be read or has no lines, 2 for a wrong command line."
)]
pub(crate) struct Status {
    /// The logs: lines of JSON, as `distfun::log::json()` and `distfun node --log` write them; `-` is standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// As one object of JSON, for programs.
    #[arg(long)]
    json: bool,
    /// As things stood then: RFC 3339, as in the log, or seconds after its beginning.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

/// Says in a sentence why a call is not done yet, or how it ended.
#[derive(Args)]
#[command(after_help = "Exit status: 0 if the log knows the call, 1 if not, 2 for a wrong command line.")]
pub(crate) struct Explain {
    /// The number of the call, as events and `distfun top` show it.
    call: u64,
    /// The logs; `-` is standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// As things stood then: RFC 3339, as in the log, or seconds after its beginning.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

/// A time of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    At(Time),
    /// Seconds after the first line.
    After(f64),
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(seconds) = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0) {
            return Ok(Self::After(seconds));
        }
        let time = humantime::parse_rfc3339_weak(text)
            .map_err(|_| "neither a time as 2026-01-31T12:00:00Z nor a number of seconds".to_owned())?;
        let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| "that was before 1970".to_owned())?;
        Ok(Self::At(Time(since.as_micros() as u64)))
    }
}

/// What `paths` say at `moment`, or to their ends; and the time that is then.
fn read_at(paths: &[PathBuf], moment: Option<Moment>) -> Result<(View, Time), String> {
    let (view, reached) = read_to(paths, moment, Limits::default())?;
    let asked = match moment {
        Some(Moment::At(time)) => Some(time),
        Some(Moment::After(seconds)) => view.first().map(|first| first.after(seconds)),
        None => None,
    };
    // Behind the last line nobody knows how things stood.
    let now = asked.filter(|_| reached == Reached::Time).map_or(view.now(), |asked| asked.max(view.now()));
    Ok((view, now))
}

/// What `paths` say at `moment`, or to their ends.
pub(crate) fn read(paths: &[PathBuf], moment: Option<Moment>, limits: Limits) -> Result<View, String> {
    read_to(paths, moment, limits).map(|(view, _)| view)
}

fn read_to(paths: &[PathBuf], moment: Option<Moment>, limits: Limits) -> Result<(View, Reached), String> {
    let mut logs = Logs::open(paths, false)?;
    let mut view = View::new(limits);
    let reached = advance_to(&mut logs, &mut view, moment)?;
    if view.losses().lines == 0 {
        return Err(match view.losses().unreadable {
            0 if reached == Reached::Time => "the log begins later than that".into(),
            0 => "the log is empty".into(),
            count => format!("none of {count} lines is a line of a log: `distfun::log::json()` writes such lines"),
        });
    }
    Ok((view, reached))
}

/// Reads to `moment`, or to the end.
pub(crate) fn advance_to(logs: &mut Logs, view: &mut View, moment: Option<Moment>) -> Result<Reached, String> {
    let slice = Duration::from_secs(1);
    let mut seek = moment.map(Seek::to);
    loop {
        let reached = match &mut seek {
            Some(seek) => seek.step(logs, view, slice)?,
            None => logs.advance(view, None, slice)?,
        };
        match reached {
            Reached::More => {}
            // A pipe, whose writer takes its time.
            Reached::Now => std::thread::sleep(Duration::from_millis(5)),
            Reached::Time | Reached::End => return Ok(reached),
        }
    }
}

/// On the way to a time of logs.
pub(crate) struct Seek {
    pub(crate) moment: Moment,
    until: Time,
}

impl Seek {
    pub(crate) fn to(moment: Moment) -> Self {
        let until = match moment {
            Moment::At(time) => time,
            // The first line says what that is.
            Moment::After(_) => Time(0),
        };
        Self { moment, until }
    }

    /// Reads on for about as long as `budget`: there, if [`Reached::Time`].
    pub(crate) fn step(&mut self, logs: &mut Logs, view: &mut View, budget: Duration) -> Result<Reached, String> {
        let reached = logs.advance(view, Some(self.until), budget)?;
        match (reached, self.moment, logs.next_time()) {
            (Reached::Time, Moment::After(seconds), Some(first)) if self.until == Time(0) => {
                self.until = first.after(seconds);
                Ok(Reached::More)
            }
            _ => Ok(reached),
        }
    }
}

pub(crate) fn status(flags: Status) -> ExitCode {
    match read_at(&flags.logs, flags.at) {
        Ok((view, now)) if flags.json => {
            let picture = Picture::of(&view, now, 0, u64::MAX);
            crate::print(&serde_json::to_string(&picture).expect("a picture is JSON"))
        }
        Ok((view, now)) => {
            let told = text(&view, now);
            let ends = if flags.at.is_none() { the_log_ends(&view) } else { None };
            crate::print(&ends.map_or(told.clone(), |ends| format!("{told}\n{ends}")))
        }
        Err(error) => crate::fails("status", &error),
    }
}

/// What to add where calls had not ended when the log did.
fn the_log_ends(view: &View) -> Option<String> {
    let running = view.jobs().filter(|(_, job)| job.state == JobState::Running).count();
    let calls = if running == 1 { "1 call runs".into() } else { format!("{running} calls run") };
    let ends = format!("The log ends at {}, while {calls}: the program goes on, or ended without a word.", view.now());
    (running > 0).then_some(ends)
}

fn text(view: &View, now: Time) -> String {
    use std::fmt::Write;
    let mut text = format!("at {now}\n");
    for concern in view.concerns(now) {
        let _ = writeln!(text, "{} {}", if concern.is_grave { "!!" } else { " !" }, plain(&concern.text));
    }
    for process in view.processes() {
        let over = match (process.is_over(), process.is_replaced) {
            (_, true) => ", gone; another serves in its place",
            (true, _) => ", ended",
            _ => "",
        };
        let _ =
            writeln!(text, "{} ({}), on {}{over}", plain(&process.name()), plain(&process.role), plain(&process.host));
        let open = process.managers.values().filter(|manager| manager.ended.is_none() && !process.is_over());
        for manager in open {
            let (busy, live) = view.busy(process, manager, now);
            let up = manager.nodes.values().filter(|node| node.is_up()).count();
            let _ = write!(text, "  manager {}: {busy} of {live} workers busy", manager.id);
            let own = manager.workers.values().filter(|worker| worker.kind == "gpu").count();
            let _ = if own > 0 { write!(text, " ({own} on GPUs)") } else { Ok(()) };
            let gpus: u64 = manager.nodes.values().filter(|node| node.is_up()).map(|node| node.gpus).sum();
            let _ = match (manager.nodes.len(), gpus) {
                (0, _) => writeln!(text),
                (all, 0) => writeln!(text, ", {up} of {all} machines connected"),
                (all, gpus) => writeln!(text, ", {up} of {all} machines connected, with {}", many(gpus, "GPU")),
            };
        }
        let ended = process.jobs.values().filter(|job| job.state != JobState::Running).count();
        for job in process.jobs.values().filter(|job| job.state == JobState::Running) {
            let _ = writeln!(text, "  {}", plain(&view.explain(process, job, now)));
        }
        if ended > 0 {
            let has_failed = |job: &&Job| matches!(job.state, JobState::Failure | JobState::Timeout);
            let failed: Vec<_> = process.jobs.values().filter(has_failed).collect();
            // The latest.
            for job in failed.iter().rev().take(5).rev() {
                let _ = writeln!(text, "  {}", plain(&view.explain(process, job, now)));
            }
            let calls = if ended == 1 { "1 call has".into() } else { format!("{ended} calls have") };
            let _ = writeln!(text, "  {calls} ended, {} of them failed", failed.len());
        }
    }
    text.truncate(text.trim_end().len());
    text
}

pub(crate) fn explain(flags: Explain) -> ExitCode {
    let (view, now) = match read_at(&flags.logs, flags.at) {
        Ok(read) => read,
        Err(error) => return crate::fails("explain", &error),
    };
    let told: Vec<_> = view.jobs_of(flags.call).collect();
    if told.is_empty() {
        let known: Vec<_> = view.jobs().map(|(_, job)| job.id).collect();
        let known = match (known.iter().min(), known.iter().max()) {
            (Some(first), Some(last)) => format!("; it knows calls {first} to {last}"),
            _ => "; it knows no calls".into(),
        };
        return crate::fails("explain", &format!("the log has no call {}{known}", flags.call));
    }
    let is_one = told.len() == 1;
    let lines = told.iter().map(|(process, job)| {
        let sentence = plain(&view.explain(process, job, now));
        if is_one { sentence } else { format!("{}: {sentence}", plain(&process.name())) }
    });
    let ends = told.iter().any(|(_, job)| job.state == JobState::Running && flags.at.is_none());
    let ends = if ends { the_log_ends(&view) } else { None };
    crate::print(&lines.chain(ends).collect::<Vec<_>>().join("\n"))
}

/// Refuses to write over a log that is read.
pub(crate) fn is_no_log(output: &Path, logs: &[PathBuf]) -> Result<(), String> {
    let place = |path: &Path| path.canonicalize().ok();
    match place(output).is_some_and(|output| logs.iter().any(|log| place(log).as_ref() == Some(&output))) {
        true => Err(format!("{} is a log that is read; write to another file", output.display())),
        false => Ok(()),
    }
}
