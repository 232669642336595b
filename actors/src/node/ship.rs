//! Calls of a program that a Manager has brought: a slot's thread hands each chunk to a process of the program.
//!
//! The processes belong to one Manager, and end when it leaves. One that is not at work waits for the next chunk, whichever
//! slot gets it.

use std::{
    collections::{HashMap, HashSet},
    io,
    ops::Range,
    process::{Child, Command},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use distfun_core::{
    engine::BUDGET,
    failure::{FailureCause, ItemFailure},
    gpu::GpuInfo,
    ids::WorkerId,
    payload::{Parcel, RawVec, Received, Section},
};
use distfun_net::{
    link::Link,
    message::{self, CallNumber, Died, Exit, Message, Output, Source},
};

use super::{brought::Refused, program::Program, visit::Over};
use crate::{
    events,
    failures::unpacked,
    host::{Fall, Host, Overseer, StartFault, Task},
    job::JobCore,
};

/// The processes of one Manager's program.
pub(super) struct Hosts {
    program: Program,
    spawner: Spawner,
    /// Those that are not at work, each for the slots of CPUs or for one GPU.
    idle: Mutex<Vec<(Option<WorkerId>, Host)>>,
    /// The slots here that own a GPU.
    gpus: HashMap<WorkerId, GpuInfo>,
    has_left: Mutex<bool>,
    /// Starts that failed one after the other.
    failed_starts: AtomicU32,
    /// How often in a row processes could not use the GPU of a slot.
    failed_opens: Mutex<HashMap<WorkerId, u32>>,
}

/// A program that can't be started so often in a row is given up.
const MAX_FAILED_STARTS: u32 = 5;

/// After a start that failed, so that the next one finds something changed.
const PAUSE: Duration = Duration::from_millis(100);

impl Hosts {
    /// With one process started, which shows that the program can be.
    ///
    /// # Errors
    /// It can't; the text says why.
    pub(super) fn start(program: Program, gpus: HashMap<WorkerId, GpuInfo>) -> Result<Arc<Self>, Refused> {
        struct Nobody;
        impl Overseer for Nobody {
            fn is_stopped(&self) -> bool {
                false
            }
            fn line(&self, _: &Source, _: Range<usize>, _: &str) {}
        }
        let no_thread = |error| Refused::for_now(format!("there is no thread for its processes: {error}"));
        let spawner = Spawner::start().map_err(no_thread)?;
        let first = Host::start(&program.start, 0, None, &Nobody, |command| spawner.spawn(command));
        let first = first.map_err(|StartFault { story, is_passing }| Refused {
            reason: format!("the program was sent and does not start here: {story}"),
            is_passing,
        })?;
        Ok(Arc::new(Self {
            program,
            spawner,
            idle: Mutex::new(vec![(None, first)]),
            gpus,
            has_left: Mutex::new(false),
            failed_starts: AtomicU32::new(0),
            failed_opens: Mutex::default(),
        }))
    }

    fn take(&self, worker: WorkerId, overseer: &dyn Overseer) -> Result<Host, StartFault> {
        let gpu = self.gpus.get(&worker);
        let owner = gpu.map(|_| worker);
        let mut idle = lock(&self.idle);
        if let Some(at) = idle.iter().rposition(|(its, _)| *its == owner) {
            return Ok(idle.remove(at).1);
        }
        drop(idle);
        let started = Host::start(&self.program.start, worker.0, gpu, overseer, |command| self.spawner.spawn(command));
        match &started {
            Ok(_) => self.failed_starts.store(0, Ordering::Relaxed),
            Err(_) if gpu.is_some() => {} // that is no fault of the program
            Err(_) => {
                self.failed_starts.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        }
        started
    }

    fn put(&self, worker: WorkerId, host: Host) {
        let has_left = lock(&self.has_left);
        if !*has_left {
            let owner = self.gpus.contains_key(&worker).then_some(worker);
            lock(&self.idle).push((owner, host));
        }
    }

    /// Their Manager is gone.
    pub(super) fn leave(self: &Arc<Self>) {
        *lock(&self.has_left) = true;
        let idle = std::mem::take(&mut *lock(&self.idle));
        if !idle.is_empty() {
            // They may take a moment, and whoever says this has no time.
            let hosts = self.clone();
            let body = move || drop((idle, hosts));
            let _ = std::thread::Builder::new().name("distfun-leave".into()).spawn(body);
        }
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// A thread that starts processes, and lives as long as they may: they are killed when it ends.
struct Spawner(Mutex<mpsc::Sender<Order>>);

impl Spawner {
    fn start() -> io::Result<Self> {
        let (sender, orders) = mpsc::channel::<Order>();
        let body = move || {
            for (mut command, answer) in orders {
                let _ = answer.send(spawn(&mut command));
            }
        };
        std::thread::Builder::new().name("distfun-spawner".into()).spawn(body)?;
        Ok(Self(Mutex::new(sender)))
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes is gone");
        let (sender, answer) = mpsc::channel();
        lock(&self.0).send((command, sender)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

/// Starts a process of a program that may just have been written. Nothing can be run that anybody has open for writing:
/// another node with the same cache, or a process that has been forked here meanwhile and does not run its own program yet.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let until = Instant::now() + WRITTEN_WITHIN;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            started => return started,
        }
    }
}

/// Whoever has written a program needs no longer to close its file, unless it hangs.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call, as the Manager has announced it.
pub(crate) struct ShippedCall {
    pub(super) number: CallNumber,
    /// For what is shown here.
    pub(super) label: &'static str,
    pub(super) function: String,
    pub(super) site: String,
    /// Name and place of what runs on GPUs in place of the function.
    pub(super) gpu_form: Option<(String, String)>,
    pub(super) seed: u64,
    pub(super) is_lists: bool,
    pub(super) item_timeout: Option<Duration>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) link: Arc<Link>,
    /// This node, and the Manager, by their names: for the log.
    pub(super) node: String,
    pub(super) manager: String,
}

/// The end of the wait for a process, and the way of its lines to the Manager.
struct Watcher<'a> {
    core: &'a JobCore,
    call: &'a ShippedCall,
    worker: WorkerId,
}

impl Overseer for Watcher<'_> {
    fn is_stopped(&self) -> bool {
        self.core.is_stopped()
    }

    fn line(&self, source: &Source, items: Range<usize>, text: &str) {
        let output = Output {
            call: self.call.number,
            first: items.start as u64,
            count: items.len() as u64,
            worker: self.worker.0,
            source: source.clone(),
            text: text.to_owned(),
        };
        let _ = self.call.link.send_idly(&Message::Output(output)); // the end of the link tells
    }
}

impl ShippedCall {
    /// Runs a chunk of `count` items in a process.
    pub(super) fn run(
        &self,
        core: &JobCore,
        items: Received,
        count: usize,
        budget: Duration,
        (worker, attempt): (Option<WorkerId>, u32),
    ) -> Over {
        let worker = worker.unwrap_or(WorkerId(0));
        let start = core.first();
        let of_chunk = |items: Range<usize>| items.start.saturating_sub(start)..items.end.saturating_sub(start);
        let watcher = Watcher { core, call: self, worker };
        let mut over = Over { worker: Some(worker), ..Over::returned() };
        let mut host = match self.hosts.take(worker, &watcher) {
            Ok(host) => host,
            Err(StartFault { story, .. }) if self.hosts.gpus.contains_key(&worker) => {
                self.not_opened(worker, &story);
                over.died = Some(died(0..0, Some(exit(&story)), false));
                return over;
            }
            Err(StartFault { story, is_passing }) => {
                if self.hosts.failed_starts.load(Ordering::Relaxed) >= MAX_FAILED_STARTS {
                    let reason = format!("processes of the program do not start any more: {story}");
                    let _ = self.link.send(&Refused { reason, is_passing }.into_message(), Vec::new());
                }
                over.died = Some(died(0..0, Some(exit(&story)), false));
                return over;
            }
        };
        let form = self.gpu_form.clone().filter(|_| self.hosts.gpus.contains_key(&worker));
        let (function, site) = form.unwrap_or_else(|| (self.function.clone(), self.site.clone()));
        let task = Task {
            function,
            site,
            seed: self.seed,
            start,
            count,
            is_lists: self.is_lists,
            attempt,
            budget_us: budget.max(BUDGET).as_micros() as u64,
            shared: None,
        };
        match host.run(task, parcel(items), core.shared(), self.item_timeout, &watcher) {
            Ok((done, results)) => {
                lock(&self.hosts.failed_opens).remove(&worker);
                self.hosts.put(worker, host);
                if let Some(reason) = done.refused {
                    let cause = FailureCause::Payload { message: reason.into() };
                    let one = |index| ItemFailure::new(index, worker, attempt, cause.clone());
                    over.failures = (0..count.min(super::visit::MOST_FAILURES)).map(one).collect();
                    over.reached = over.failures.len();
                    return over;
                }
                over.reached = done.reached.min(count);
                over.elapsed = Duration::from_micros(done.elapsed_us);
                let one = |failure: message::Failure| {
                    ItemFailure::new(failure.index as usize, worker, attempt, unpacked(failure.cause, 0))
                };
                over.failures = done.failures.into_iter().map(one).collect();
                over.results = parcel(results);
            }
            Err(Fall::Unwanted) => {}
            Err(Fall::Died(items, exit)) => {
                if items.is_empty() && self.hosts.gpus.contains_key(&worker) {
                    self.not_opened(worker, &exit.story);
                }
                let exit = Exit { signal: exit.signal, story: exit.story.to_string(), stderr: exit.stderr.to_string() };
                self.tell_of_death(worker, &items, false, &exit.story);
                over.died = Some(died(of_chunk(items), Some(exit), false));
            }
            Err(Fall::Overdue(items)) => {
                let story = "was killed in an item that ran too long";
                self.tell_of_death(worker, &items, true, story);
                over.died = Some(died(of_chunk(items), Some(exit(story)), true));
            }
        }
        over
    }

    /// To this node's own log: the Manager hears of it by what the chunk has come to.
    fn tell_of_death(&self, worker: WorkerId, items: &Range<usize>, is_overdue: bool, story: &str) {
        let item = (!items.is_empty()).then_some(items.start);
        events::node_process_died(&self.node, &self.manager, self.label, worker, item, (is_overdue, story));
    }

    /// The process of a slot could not use its GPU, which is no item's fault.
    fn not_opened(&self, worker: WorkerId, story: &str) {
        let mut failed = lock(&self.hosts.failed_opens);
        *failed.entry(worker).or_default() += 1;
        let is_given_up = |gpu| failed.get(gpu).is_some_and(|times| *times >= MAX_FAILED_STARTS);
        if self.hosts.gpus.keys().all(is_given_up) {
            failed.clear();
            let reason = format!("processes of the program can't use a GPU here: {story}");
            let _ = self.link.send(&Message::GpusRefused { reason }, Vec::new()); // the end of the link tells
        }
    }

    /// Keeps a slot from work, after its answer, whose GPU could not be used last: others may, and are asked first.
    pub(super) fn rest(&self, worker: Option<WorkerId>) {
        let times = worker.and_then(|worker| lock(&self.hosts.failed_opens).get(&worker).copied()).unwrap_or(0);
        std::thread::sleep(PAUSE * times.min(MAX_FAILED_STARTS));
    }
}

fn died(items: Range<usize>, exit: Option<Exit>, is_overdue: bool) -> Died {
    Died { first: items.start as u64, count: items.len() as u64, exit, is_overdue }
}

fn exit(story: &str) -> Exit {
    Exit { signal: None, story: story.to_owned(), stderr: String::new() }
}

/// The same, to be handed on as it is.
fn parcel(received: Received) -> Parcel {
    struct Bytes(RawVec);
    impl AsRef<[u8]> for Bytes {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    let section = |raw: RawVec| Section { element: raw.element(), bytes: bytes::Bytes::from_owner(Bytes(raw)) };
    Parcel { head: received.head, sections: received.sections.into_iter().map(section).collect() }
}

/// Most names of functions that are kept.
const MAX_NAMES: usize = 10_000;

/// A name for as long as the process lives, which calls of the same function share.
pub(super) fn name_of(function: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = lock(&NAMES);
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(function) {
        return known;
    }
    if names.len() >= MAX_NAMES {
        return "one function of too many";
    }
    let name: &'static str = Box::leak(function.to_owned().into_boxed_str());
    names.insert(name);
    name
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// Two nodes with one cache got the same program at once. The first had it open still when the second started it, which
    /// the second took for a fault of the program, and it was not tried again.
    #[test]
    fn a_program_that_is_still_open_for_writing_is_started_when_it_is_closed() {
        let path = std::env::temp_dir().join(format!("distfun-busy-{}", std::process::id()));
        fs::copy("/bin/true", &path).unwrap();
        let writing = File::options().append(true).open(&path).unwrap();
        let busy = Command::new(&path).spawn().unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ExecutableFileBusy);
        assert!(crate::host::is_passing(&busy));
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(writing);
        });
        let started = Spawner::start().unwrap().spawn(Command::new(&path));
        writer.join().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(started.unwrap().wait().unwrap().success());
    }
}
