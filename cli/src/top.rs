//! `distfun top`: what logs say, live or again, on a terminal.

mod demo;
mod draw;
mod look;
mod pen;
mod play;
mod press;
mod screens;
mod seen;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod ui;
pub(crate) mod words;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::Args;
use distfun_core::view::{Limits, View};

use self::{
    demo::Demo,
    look::Look,
    play::{Feed, Player},
    seen::{Going, Seen},
    ui::{Screen, Ui},
};
use crate::{
    logs::{Logs, wall_clock},
    status::{self, Moment},
};

/// Shows what logs say as it is written, or again as it was: who computes what, how far calls are, what failed.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// The logs: lines of JSON, as `distfun::log::json()` and `distfun node --log` write them; `-` is standard input. They
    /// are followed as they grow and are replaced, and merged by time.
    #[arg(required_unless_present = "demo", conflicts_with = "demo", value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Begins at that time of the log, and stands still there until `p` is pressed: RFC 3339, as in the log, or seconds
    /// after its beginning.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Replays the log so many times as fast as it was, from `--at` or its beginning on.
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
    /// Prints one screen as text, of the end of the log or of `--at`.
    #[arg(long)]
    once: bool,
    /// The screen to begin with.
    #[arg(long, value_enum, default_value_t)]
    screen: Screen,
    /// Columns of what `--once` prints; those of the terminal, or 80, if not given.
    #[arg(long, requires = "once", value_parser = clap::value_parser!(u16).range(1..=1000))]
    width: Option<u16>,
    /// Its lines; those of the terminal, or 24, if not given.
    #[arg(long, requires = "once", value_parser = clap::value_parser!(u16).range(1..=1000))]
    height: Option<u16>,
    /// Shows a story that is made up: two programs, two nodes, a crash and an outage. No log is needed.
    #[arg(long)]
    demo: bool,
    /// Chunks that ended that are kept, the latest.
    #[arg(long, value_name = "N", default_value_t = Limits::default().spans)]
    chunks: usize,
    /// Workers, and nodes, that are kept for each Manager.
    #[arg(long, value_name = "N", default_value_t = Limits::default().workers)]
    workers: usize,
}

const AFTER_HELP: &str = "\
Keys:
  1 to 8, tab    overview, tree, workers, nodes, calls, chunks, failures, data
  arrows, hjkl   move; home, end too
  page up, down  move ten rows, or details that are open
  enter, esc     all about what is selected, and back
  /              show only what has this text
  f              show only what has failed
  s, S           sort by the next column; the other way round
  p, space       stop, and go on
  < >            replay slower, faster
  + -            chunks: closer, further; left and right: earlier, later
  ?              these keys
  q, Ctrl-C      quit

It reads logs and nothing else: what it shows can't be changed from it. NO_COLOR and TERM=dumb are heeded, and where the
locale is not UTF-8 it is drawn in ASCII.

Exit status: 0 if all is well, 1 if a log can't be read, 2 for a wrong command line and where there is no terminal.";

/// Where the demo begins, and where it is printed: something happens there.
const DEMO_BEGINS: Moment = Moment::After(5.0);
const DEMO_ONCE: Moment = Moment::After(20.0);

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if speed.is_finite() && speed > 0.0 { Ok(speed) } else { Err("must be more than 0".into()) }
}

pub(crate) fn run(flags: Flags) -> ExitCode {
    let mut limits = Limits::default();
    (limits.spans, limits.workers) = (flags.chunks.max(1), flags.workers.max(1));
    if flags.once {
        return match once(&flags, limits) {
            Ok(text) => crate::print(text.trim_end()),
            Err(error) => crate::fails("top", &error),
        };
    }
    if !io::stdout().is_terminal() {
        eprintln!("distfun top: there is no terminal here; `--once` prints one screen as text");
        return ExitCode::from(2);
    }
    match watch(&flags, limits) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fails("top", &error),
    }
}

fn once(flags: &Flags, limits: Limits) -> Result<String, String> {
    let view = if flags.demo {
        let mut view = View::new(limits);
        Demo::default().seek(flags.at.unwrap_or(DEMO_ONCE), &mut view);
        view
    } else {
        status::read(&flags.logs, flags.at, limits)?
    };
    let size = terminal::size().filter(|_| io::stdout().is_terminal());
    let width = flags.width.or(size.map(|(width, _)| width)).unwrap_or(80);
    let height = flags.height.or(size.map(|(_, height)| height)).unwrap_or(24);
    let seen =
        Seen { view: &view, now: view.now(), going: Going::Once, reading: None, lines_per_s: 0.0, is_demo: flags.demo };
    let buffer = draw::buffer(&seen, &Ui::new(flags.screen), Look::here().plain(), width, height);
    Ok(draw::text(&buffer))
}

fn watch(flags: &Flags, limits: Limits) -> Result<(), String> {
    let view = View::new(limits);
    let at = Instant::now();
    // Who asks for a time and no speed wants to look at it first.
    let starts = flags.at.is_none() || flags.speed.is_some();
    let player = if flags.demo {
        let speed = flags.speed.unwrap_or(1.0);
        let begin = Some(flags.at.unwrap_or(DEMO_BEGINS));
        Player::new(Feed::Demo(Demo::default()), view, begin, Some(speed), wall_clock, at)
    } else {
        let logs = Logs::open(&flags.logs, true)?;
        Player::new(Feed::Logs(logs), view, flags.at, flags.speed, wall_clock, at)
    };
    terminal::run(player, Ui::new(flags.screen), Look::here(), starts)
}
