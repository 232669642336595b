//! A slot whose function runs in a process of its own: its compute thread hands the process chunks and takes their results.

use std::{ops::Range, sync::Mutex, time::Duration};

use distfun_core::{
    engine::{BUDGET, Blame, Chunk, Sentence},
    failure::{FailureCause, ItemFailure, WorkerExit},
    gpu::GpuInfo,
    options::Isolation,
    payload::{Received, Spares},
};

use distfun_net::message::Source;

use super::port::Port;
use crate::{
    events,
    failures::unpacked,
    host::{Done, Fall, Host, Overseer, Program, StartFault, Task},
    job::{Arrived, JobCore, Progress, SharedJob},
    pool::Pool,
};

/// The process of a slot, started when it is needed.
pub(crate) struct Hosted<'a> {
    pool: &'a Pool,
    port: &'a Port,
    program: Program,
    host: Option<Host>,
    /// How the last process ended, or why none could be started.
    story: Option<String>,
}

/// What of its chunk a process has noted as running. What it does not have may be any that it has: a function that writes to
/// memory that is not its own may have been at the note.
fn of_chunk(items: Range<usize>, chunk: &Range<usize>) -> Range<usize> {
    let items = items.start.max(chunk.start)..items.end.min(chunk.end);
    if items.is_empty() { chunk.clone() } else { items }
}

/// The process is gone, and with it what it had of a chunk; the slot needs a new life.
pub(crate) struct Fallen;

/// The end of the wait for a process, and what to do with what it writes meanwhile.
struct Watcher<'a> {
    pool: &'a Pool,
    port: &'a Port,
    core: Option<&'a JobCore>,
    spares: Option<&'a Mutex<Spares>>,
}

impl Overseer for Watcher<'_> {
    fn is_stopped(&self) -> bool {
        self.core.is_some_and(JobCore::is_stopped) || !self.pool.is_current(self.port)
    }

    fn line(&self, source: &Source, items: Range<usize>, text: &str) {
        events::worker_output(self.pool, self.port, self.core, source, items, text);
    }

    fn spares(&self) -> Option<&Mutex<Spares>> {
        self.spares
    }
}

impl<'a> Hosted<'a> {
    /// With its process started, if this Manager's slots have some.
    ///
    /// # Errors
    /// It can't be started; the text says why.
    pub(crate) fn of(pool: &'a Pool, port: &'a Port) -> Result<Option<Self>, String> {
        if pool.settings.isolation == Isolation::Thread {
            return Ok(None);
        }
        let mut program = Program::this().ok_or("distfun::init() is not called")?;
        program.max_memory = pool.settings.max_memory;
        let mut hosted = Self { pool, port, program, host: None, story: None };
        hosted.start().map_err(|StartFault { story, .. }| story)?;
        Ok(Some(hosted))
    }

    /// Starts the process, if it is not there.
    ///
    /// # Errors
    /// It can't be started; the text says why.
    fn start(&mut self) -> Result<&mut Host, StartFault> {
        if self.host.is_none() {
            let watcher = Watcher { pool: self.pool, port: self.port, core: None, spares: None };
            let (worker, gpu) = (self.port.worker.0, self.gpu());
            self.host = Some(Host::start(&self.program, worker, gpu, &watcher, |mut command| command.spawn())?);
        }
        Ok(self.host.as_mut().expect("it is there"))
    }

    /// The GPU of the slot, if it has one.
    fn gpu(&self) -> Option<&'a GpuInfo> {
        self.pool.gpu(self.port.worker)
    }

    /// How the last process ended, or why none could be started.
    pub(crate) fn story(&self) -> Option<&str> {
        self.story.as_deref()
    }

    /// Runs the items of `chunk`, or as many as the budget allows.
    ///
    /// # Errors
    /// The process is gone; `progress` says whose fault that is.
    pub(crate) fn run(
        &mut self,
        job: &SharedJob,
        chunk: &Chunk<SharedJob>,
        progress: &mut Progress,
    ) -> Result<(), Fallen> {
        let core = job.core();
        if core.is_stopped() {
            return Ok(());
        }
        let start = chunk.range.start;
        let travel = job.travel().expect("build() lets only functions that travel run in processes");
        let (site, is_lists) = (travel.site, travel.is_lists);
        let takes_blocks = is_lists || job.is_columns();
        let load = match job.pack(&chunk.range) {
            Ok(load) => load,
            Err(cause) => {
                self.fail(core, progress, chunk.attempt, start..start + 1, &cause);
                return Ok(());
            }
        };
        let form = core.gpu_form.filter(|_| self.gpu().is_some());
        let (function, site) = form.map_or((core.function, site), |form| (form.name, form.site));
        let task = Task {
            function: function.to_owned(),
            site: site.to_owned(),
            seed: core.seed,
            start,
            count: load.end - start,
            is_lists,
            attempt: chunk.attempt,
            budget_us: BUDGET.as_micros() as u64,
            shared: None,
        };
        let limit = self.pool.settings.item_timeout;
        let spares = job.spares().map(|spares| &**spares);
        let watcher = Watcher { pool: self.pool, port: self.port, core: Some(core), spares };
        let fall = match self.start() {
            Ok(host) => match host.run(task, load.parcel, core.shared(), limit, &watcher) {
                Ok((done, received)) => {
                    let Some(refused) = done.refused else {
                        self.arrived(job, chunk, load.end, progress, done, received);
                        return Ok(());
                    };
                    job.put_back(start, load.end);
                    let cause = FailureCause::Payload { message: refused.into() };
                    self.fail(core, progress, chunk.attempt, start..load.end, &cause);
                    return Ok(());
                }
                Err(fall) => fall,
            },
            Err(StartFault { story, .. }) => {
                self.story = Some(story);
                job.put_back(start, start);
                return Err(Fallen);
            }
        };
        self.host = None;
        job.put_back(start, start);
        progress.blame = match fall {
            Fall::Unwanted => return Ok(()),
            Fall::Died(items, exit) => {
                self.story = Some(exit.story.to_string());
                // Of one that runs a whole block, or list, nobody knows where in it.
                Some(items).filter(|items| !items.is_empty()).map(|items| Blame {
                    items: of_chunk(items, &(start..load.end)),
                    sentence: Sentence::Again(Some(exit)),
                    away: None,
                })
            }
            Fall::Overdue(items) => {
                let items = of_chunk(items, &(start..load.end));
                let limit = limit.unwrap_or(Duration::ZERO);
                let story = format!("was killed in an item that ran longer than {limit:?}");
                // While all are read or written nobody knows which it is; each alone, it shows.
                let failure = || {
                    let cause = FailureCause::TimedOut { limit };
                    ItemFailure::new(items.start, self.port.worker, chunk.attempt, cause)
                };
                let sentence = match takes_blocks || items.len() == 1 {
                    true => core.overdue(chunk.retries, failure()),
                    false => Sentence::Again(Some(WorkerExit::new(None, &*story, ""))),
                };
                self.story = Some(story);
                Some(Blame { items, sentence, away: None })
            }
        };
        Err(Fallen)
    }

    fn arrived(
        &self,
        job: &SharedJob,
        chunk: &Chunk<SharedJob>,
        end: usize,
        progress: &mut Progress,
        done: Done,
        received: Received,
    ) {
        let (start, worker, attempt) = (chunk.range.start, self.port.worker, chunk.attempt);
        let reached = start.saturating_add(done.reached).min(end);
        let failures = done.failures.into_iter().filter_map(|failure| {
            let index = start.checked_add(failure.index as usize).filter(|index| *index < reached)?;
            Some(ItemFailure::new(index, worker, attempt, unpacked(failure.cause, start)))
        });
        let mut failures: Vec<_> = failures.collect();
        failures.sort_by_key(|failure| failure.index);
        failures.dedup_by_key(|failure| failure.index);
        let failed: Vec<usize> = failures.iter().map(|failure| failure.index).collect();
        let (mut again, mut failures) = job.core().sort(chunk.retries, failures);
        let worker = Some(worker);
        let arrived = Arrived {
            start,
            reached,
            failed: &failed,
            again: &again,
            results: received,
            worker,
            machine: None,
            attempt,
            retries: chunk.retries,
        };
        progress.reached = reached;
        match job.unpack(arrived) {
            Ok(unpacked) if unpacked.are_back => progress.reached = start,
            Ok(unpacked) => {
                progress.first_failure = unpacked.first_error;
                let one = |(index, cause)| ItemFailure::new(index, worker, attempt, cause);
                failures.extend(unpacked.failed.into_iter().map(one));
                failures.extend(unpacked.erred);
                again.extend(unpacked.again);
                (progress.failures, progress.again) = (failures, again);
            }
            Err(cause) => {
                let one = |index| ItemFailure::new(index, worker, attempt, cause.clone());
                progress.failures = (start..reached).map(one).collect();
            }
        }
        self.note_first(job.core(), progress);
    }

    fn fail(&self, core: &JobCore, progress: &mut Progress, attempt: u32, items: Range<usize>, cause: &FailureCause) {
        progress.reached = items.end;
        let one = |index| ItemFailure::new(index, self.port.worker, attempt, cause.clone());
        progress.failures.extend(items.map(one));
        self.note_first(core, progress);
    }

    fn note_first(&self, core: &JobCore, progress: &mut Progress) {
        if core.stops_at_failure() {
            let failed = progress.failures.iter().map(|failure| failure.index).min();
            progress.first_failure = progress.first_failure.into_iter().chain(failed).min();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_outside_its_chunk_blames_all_of_it() {
        assert_eq!(of_chunk(4..5, &(2..8)), 4..5);
        assert_eq!(of_chunk(6..12, &(2..8)), 6..8);
        assert_eq!(of_chunk(8..9, &(2..8)), 2..8);
        assert_eq!(of_chunk(0..1, &(2..8)), 2..8);
        assert_eq!(of_chunk(usize::MAX - 1..usize::MAX, &(2..8)), 2..8);
    }
}
