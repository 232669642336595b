//! A host process: runs chunks until its parent is gone.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    panic::{self, AssertUnwindSafe},
    process,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use distfun_core::{
    function::Watch,
    gpu::GpuInfo,
    ids::WorkerId,
    options::{Settings, Told},
    payload::{Parcel, Received},
    shared_data::{HandedFile, SharedData},
};
use distfun_net::message::Failure;
use rustix::process::{Resource, Rlimit, Signal};

use super::{
    area::{Area, Words},
    forward::forward,
    message::{Done, FromHost, PROTOCOL, Placed, Task, ToHost, hand_over, receive, send, take_over},
};
use crate::{
    compute::thread::{KeepStates, OwnGpu, become_worker, lost_gpu},
    failures::packed,
    gpu,
    job::{JobCore, next_call_id},
    node::{MOST_FAILURES, Over, Served, Visitor},
    pool::cpus,
    registry,
};

/// What the texts of all failures of a chunk may take.
const TEXT_BYTES: usize = 1 << 20;

/// Serves until the parent says that it is enough, or is gone.
pub(super) fn serve(socket: impl AsFd) -> ! {
    let socket = socket.as_fd();
    match Host::begin(socket).and_then(|host| host.run()) {
        Ok(()) => process::exit(0),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => process::exit(0),
        Err(error) => fail(socket, &error.to_string()),
    }
}

/// Ends the process, and says why.
pub(super) fn fail(socket: BorrowedFd<'_>, reason: &str) -> ! {
    let _ = send(socket, &FromHost::Failed { reason: reason.to_owned() }, &[]);
    process::exit(1)
}

/// A function, and where in the source it was distributed.
type Found = (&'static str, Arc<dyn Served>);

struct Host<'a> {
    socket: BorrowedFd<'a>,
    to: Area,
    from: Area,
    /// They are needed as long as the process lives.
    words: (&'static Watch, &'static AtomicBool),
    worker: WorkerId,
    gpu: Option<GpuInfo>,
    settings: Settings,
    functions: HashMap<String, Vec<Found>>,
    shared: HashMap<u64, SharedData>,
    /// Files that will be shared data.
    files: Vec<(HandedFile, File)>,
}

impl<'a> Host<'a> {
    /// Becomes a process of which nothing is left when its parent is gone, and greets.
    fn begin(socket: BorrowedFd<'a>) -> io::Result<Self> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Nobody looks at the memory of a function that crashed, and writing it to a disk takes long.
        let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let first = receive(socket, true)?.expect("it waited");
        let (ToHost::Begin { protocol, worker, log_level, gpu }, files) = first else {
            return Err(unexpected("first of all"));
        };
        if protocol != PROTOCOL {
            let ours = env!("CARGO_PKG_VERSION");
            return Err(io::Error::other(format!(
                "this program was built with distfun {ours}, whose hosts speak protocol {PROTOCOL}, and was asked for {protocol}"
            )));
        }
        let Ok([to, from]) = <[File; 2]>::try_from(files) else { return Err(unexpected("without shared memory")) };
        let (to, from) = (Area::open(out_of_the_way(to))?, Area::open(out_of_the_way(from))?);
        let leak = |area: &Area| area.words().map(|words| &*Box::leak::<'static>(Box::new(words)));
        let (heard, told): (&Words, &Words) = (leak(&to)?, leak(&from)?);
        let worker = WorkerId(worker);
        become_worker(worker);
        forward(socket.try_clone_to_owned()?, told.watch(), log_level);
        let gpu = gpu.map(|gpu| gpu::same(&gpu).ok_or_else(|| no_such_gpu(&gpu))).transpose()?;
        let settings = Settings::resolve(&Told::default(), [], None, cpus()).map_err(io::Error::other)?;
        send(socket, &FromHost::Ready { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").into() }, &[])?;
        Ok(Self {
            socket,
            to,
            from,
            words: (told.watch(), heard.stop()),
            worker,
            gpu,
            settings,
            functions: HashMap::new(),
            shared: HashMap::new(),
            files: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let _gpu = OwnGpu::begin(self.gpu.take().map(gpu::of_slot));
        let _states = KeepStates::begin();
        loop {
            let (message, mut files) = receive(self.socket, true)?.expect("it waited");
            match message {
                ToHost::Begin { .. } => return Err(unexpected("twice")),
                ToHost::File(what) => {
                    let file = files.pop().ok_or_else(|| unexpected("without a file"))?;
                    self.files.push((what, out_of_the_way(file)));
                }
                ToHost::Shared { id } => {
                    let shared = SharedData::take_over(self.files.drain(..)).map_err(io::Error::other)?;
                    self.shared.insert(id, shared);
                }
                ToHost::Forget { id } => drop(self.shared.remove(&id)),
                ToHost::Task(placed) => {
                    let done = self.task(placed)?;
                    send(self.socket, &FromHost::Done(done), &[])?;
                }
                ToHost::End => return Ok(()),
            }
        }
    }

    fn task(&mut self, placed: Placed) -> io::Result<Placed> {
        let (task, items): (Task, Received) = take_over(&mut self.to, placed, None)?;
        let Some(served) = self.function(&task.function, &task.site) else {
            let refused = Some(format!("this program has no function {}", task.function));
            let done = Done { reached: 0, failures: Vec::new(), elapsed_us: 0, refused };
            return hand_over(&mut self.from, done, Parcel::default());
        };
        let shared = match task.shared {
            None => SharedData::default(),
            Some(id) => self.shared.get(&id).cloned().ok_or_else(|| unexpected("without its shared data"))?,
        };
        self.settings.seed = task.seed;
        let count = task.count;
        let items_here = if task.is_lists { 1 } else { count };
        let (watch, stop) = self.words;
        let core = JobCore::new(next_call_id(), served.name(), items_here, &self.settings, false, false)
            .sharing(shared)
            .visiting(placed.bytes(), task.start, task.is_lists.then_some(count))
            .abroad(watch, stop);
        let budget = Duration::from_micros(task.budget_us);
        // Reading its items and writing its results runs code of the user's too; which item it was then is not known.
        let all = task.start..task.start.saturating_add(count);
        watch.note(all.clone());
        let run = || Visitor::run_here(core, served, items, count, budget, (self.worker, task.attempt));
        let over = match panic::catch_unwind(AssertUnwindSafe(run)) {
            Ok(over) => over,
            Err(payload) => {
                let Some(lost) = lost_gpu() else { panic::resume_unwind(payload) };
                if !lost.is_begun {
                    watch.note(0..0); // no item has had its turn
                }
                return Err(io::Error::other(lost.why));
            }
        };
        watch.note(all);
        let Over { reached, failures, elapsed, results, .. } = over;
        let text_bytes = TEXT_BYTES / failures.len().max(1);
        let one = |failure: &distfun_core::failure::ItemFailure| Failure {
            index: failure.index as u64,
            cause: packed(&failure.cause, 0, text_bytes),
        };
        let failures = failures.iter().take(MOST_FAILURES).map(one).collect();
        let done = Done { reached, failures, elapsed_us: elapsed.as_micros() as u64, refused: None };
        let placed = hand_over(&mut self.from, done, results);
        watch.note(0..0);
        placed
    }

    fn function(&mut self, name: &str, site: &str) -> Option<Arc<dyn Served>> {
        if !self.functions.contains_key(name) {
            self.functions.insert(name.to_owned(), registry::find(name));
        }
        let all = &self.functions[name];
        let found = all.iter().find(|(its, _)| *its == site).or(all.first());
        found.map(|(_, served)| served.clone())
    }
}

/// The same file at a number where functions that close what they did not open do not come by.
fn out_of_the_way(file: File) -> File {
    rustix::io::fcntl_dupfd_cloexec(&file, super::HIGH_DESCRIPTOR).map_or(file, File::from)
}

fn no_such_gpu(gpu: &GpuInfo) -> io::Error {
    let why =
        if gpu::IS_BUILT_IN { "its drivers do not show it" } else { "it is built without the features cuda and wgpu" };
    io::Error::other(format!("this program can't use the GPU {gpu}: {why}"))
}

fn unexpected(when: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message came {when}, which none should"))
}
