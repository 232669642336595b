//! `verbose`: progress on stderr, as a bar on a terminal and as a line every few seconds elsewhere.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use distfun_core::failure::Ending;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{call::Progress, job::JobCore, pool::Pool};

/// How often a bar is drawn.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows one call until it has ended.
pub(crate) struct Watcher {
    /// Not the job: that may hold input which somebody waits to have back.
    core: Arc<JobCore>,
    pool: Weak<Pool>,
    bar: Option<ProgressBar>,
    next_line: Instant,
}

impl Watcher {
    pub(crate) fn new(core: Arc<JobCore>, pool: &Arc<Pool>) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(core.items() as u64), ProgressDrawTarget::stderr());
            // Nobody knows how many items an iterator will give.
            let template = match core.is_open {
                true => "{prefix} {spinner} {pos} items, {per_sec} {msg}",
                false => "{prefix} {wide_bar} {pos}/{len} eta {eta} {msg}",
            };
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(core.function);
            bar
        });
        Self { core, pool: Arc::downgrade(pool), bar, next_line: Instant::now() + LINE_EVERY }
    }

    /// Draws once; says whether the call has ended, after its summary.
    pub(crate) fn draw(&mut self) -> bool {
        let core = &self.core;
        let progress = Progress::of(core);
        if progress.is_ended {
            if let Some(bar) = &self.bar {
                bar.finish_and_clear();
            }
            // Machines that could not be used: without them the rest has done it all, which nobody would see.
            for (machine, why) in self.pool.upgrade().map(|pool| pool.nodes.left_out()).unwrap_or_default() {
                say(&format!("distfun: {}: without {machine}: {why}", core.function));
            }
            summary(core);
            return true;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(progress.done as u64);
            if progress.failed > 0 {
                bar.set_message(format!("{} failed", progress.failed));
            }
        } else if Instant::now() >= self.next_line {
            self.next_line += LINE_EVERY;
            let eta = progress.eta().map_or(String::new(), |eta| format!(", {:.0} s left", eta.as_secs_f64()));
            let of = if core.is_open { String::new() } else { format!(" of {}", core.items()) };
            say(&format!("distfun: {}: {}{of} items{}{eta}", core.function, progress.done, failed(&progress)));
        }
        false
    }
}

/// One line about a call that has ended.
pub(crate) fn summary(core: &JobCore) {
    let progress = Progress::of(core);
    let seconds = progress.elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { progress.done as f64 / seconds } else { 0.0 };
    let ending = match core.ending() {
        None | Some(Ending::Complete | Ending::ItemsFailed) => String::new(),
        Some(ending) => format!("; {ending}"),
    };
    say(&format!(
        "distfun: {}: {} of {} items in {seconds:.3} s ({rate:.0}/s){}{ending}",
        core.function,
        progress.done,
        core.items(),
        failed(&progress)
    ));
    core.shown.open();
}

fn failed(progress: &Progress) -> String {
    if progress.failed == 0 { String::new() } else { format!(", {} failed", progress.failed) }
}

/// To stderr, and nowhere if that is closed.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
