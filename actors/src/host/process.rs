//! A host as its parent sees it: started, handed chunks, watched, and killed where it must be.

use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::{Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use distfun_core::{
    failure::WorkerExit,
    gpu::GpuInfo,
    payload::{Parcel, Received, Spares},
    shared_data::{SharedData, WeakSharedData},
};
use distfun_net::message::Source;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, waitid},
};
use smallvec::SmallVec;

use super::{
    Program, VARIABLE,
    area::{Area, Words},
    exit,
    memory::Memory,
    message::{Done, FromHost, PROTOCOL, Task, ToHost, hand_over, receive, send, take_over},
    output::Output,
};

/// A host that is not there after this time never will be.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How often whoever waits for a host looks around: at the time an item has run, and whether it is still wanted.
const TICK: Duration = Duration::from_millis(20);

/// An item whose call has ended gets this long to notice, before its host is killed.
const GRACE: Duration = Duration::from_millis(50);

/// A host that has been stopped (SIGSTOP) for this long is taken for dead, as a node is that is silent.
const FROZEN_FOR: Duration = Duration::from_secs(3);

/// A host that was told to end gets this long to drop what its functions keep.
const END_WITHIN: Duration = Duration::from_secs(1);

/// A host whose socket is closed, or that says that it ends, is gone within this time or killed.
const GONE_WITHIN: Duration = Duration::from_millis(200);

/// For the allocator of glibc, which otherwise gives the memory of each large array back to the system and gets it anew for
/// the next one: that takes longer than to copy it. What a host has used it keeps, until it ends with its slot.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "1073741824"), ("MALLOC_MMAP_THRESHOLD_", "1073741824")];

/// A host process.
pub(crate) struct Host {
    child: Child,
    pid: Pid,
    /// Readable when the process has ended, whoever else holds its socket.
    ended: Option<OwnedFd>,
    socket: OwnedFd,
    to: Area,
    from: Area,
    heard: Words,
    told: Words,
    stdout: Output<ChildStdout>,
    stderr: Output<ChildStderr>,
    /// Shared data that it has.
    shared: Vec<(u64, WeakSharedData)>,
    /// What may have run since its output was read last: from this item to the end of its chunk.
    unread: Range<usize>,
    /// What it wrote before is the program's own (of a test runner, for example), and not told.
    is_ready: bool,
    /// It is gone, and so is what it had started.
    is_reaped: bool,
    /// What it may have of it.
    memory: Option<Memory>,
}

/// Who waits for a host.
pub(crate) trait Overseer {
    /// Nobody wants what the host does.
    fn is_stopped(&self) -> bool;
    /// It has said something while it ran `items`.
    fn line(&self, source: &Source, items: Range<usize>, text: &str);
    /// Memory for results.
    fn spares(&self) -> Option<&Mutex<Spares>> {
        None
    }
}

/// How a chunk ends that has no results. The host is gone.
#[derive(Debug)]
pub(crate) enum Fall {
    /// It died while it ran these items; none if it ran none.
    Died(Range<usize>, WorkerExit),
    /// The item ran too long.
    Overdue(Range<usize>),
    /// Nobody wanted it any more.
    Unwanted,
}

/// No host could be started.
#[derive(Debug)]
pub(crate) struct StartFault {
    /// Why.
    pub(crate) story: String,
    /// Another try may find it otherwise: the program is not to blame.
    pub(crate) is_passing: bool,
}

impl From<io::Error> for StartFault {
    fn from(error: io::Error) -> Self {
        Self { story: format!("no process could be started: {error}"), is_passing: is_passing(&error) }
    }
}

/// Whether the system is short of something, and may have it again later; or a program is still being written.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    const SHORT: [Errno; 10] = [
        Errno::AGAIN,
        Errno::DQUOT,
        Errno::FBIG,
        Errno::IO,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::TXTBSY,
    ];
    Errno::from_io_error(error).is_some_and(|errno| SHORT.contains(&errno))
}

/// A chunk ran to its end.
pub(crate) type Results = (Done, Received);

impl Host {
    /// Starts one for the slot `worker`. It is killed when the thread ends that does `spawn`.
    ///
    /// # Errors
    /// It could not be started, or ended at once: with its last words.
    pub(crate) fn start(
        program: &Program,
        worker: u32,
        gpu: Option<&GpuInfo>,
        overseer: &dyn Overseer,
        spawn: impl FnOnce(Command) -> io::Result<Child>,
    ) -> Result<Self, StartFault> {
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
        let (to, from) = (Area::create()?, Area::create()?);
        let (heard, told) = (to.words()?, from.words()?);
        let mut command = Command::new(&program.path);
        if let Some(environment) = &program.environment {
            command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        }
        if let Some(dir) = &program.dir {
            command.current_dir(dir);
        }
        command
            .arg0(format!("distfun-worker-{worker}"))
            .args(&program.args)
            .env(VARIABLE, "1")
            .envs(ALLOCATOR)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What it starts can be killed with it, and a Ctrl-C is for its parent to judge.
            .process_group(0);
        let mut child = spawn(command)?;
        let pid = Pid::from_child(&child);
        let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).expect("both are piped");
        let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        let (stdout, stderr) = (Output::new(stdout)?, Output::new(stderr)?);
        let (shared, unread) = (Vec::new(), 0..0);
        let (is_ready, is_reaped) = (false, false);
        let mut host = Self {
            child,
            pid,
            ended,
            socket,
            to,
            from,
            heard,
            told,
            stdout,
            stderr,
            shared,
            unread,
            is_ready,
            is_reaped,
            memory: None,
        };
        if let Some(max_bytes) = program.max_memory {
            host.memory = Some(Memory::bound(pid, max_bytes)?);
        }
        let begin = ToHost::Begin { protocol: PROTOCOL, worker, log_level: program.log_level, gpu: gpu.cloned() };
        let sent = send(&host.socket, &begin, &[host.to.file(), host.from.file()]);
        match sent.and_then(|()| host.wait_ready(overseer)) {
            Ok(()) => Ok(host),
            Err(error) => {
                let is_frozen = host.is_frozen();
                let exit = host.bury(overseer);
                // Killed or stopped from outside, as by a system that is short of memory.
                let is_passing = is_frozen || exit.signal == Some(Signal::KILL.as_raw());
                let reason = match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => exit.to_string(),
                    _ => format!("said: {error}"),
                };
                Err(StartFault { story: format!("its process {reason}"), is_passing })
            }
        }
    }

    fn wait_ready(&mut self, overseer: &dyn Overseer) -> io::Result<()> {
        let limit = Instant::now() + START_WITHIN;
        loop {
            match receive(&self.socket, false)? {
                Some((FromHost::Ready { protocol, version }, _)) if protocol != PROTOCOL => {
                    return Err(io::Error::other(format!(
                        "distfun {version} speaks protocol {protocol}, not {PROTOCOL}"
                    )));
                }
                Some((FromHost::Ready { .. }, _)) => {
                    self.read_output(overseer);
                    self.stdout.forget();
                    self.is_ready = true;
                    return Ok(());
                }
                Some((FromHost::Failed { reason }, _)) => return Err(io::Error::other(reason)),
                Some((FromHost::Log { source, items, text }, _)) => overseer.line(&source, items, &text),
                Some((FromHost::Done(_), _)) => return Err(io::Error::other("results of nothing")),
                None if Instant::now() > limit => {
                    let why = format!("nothing came for {START_WITHIN:?}; is distfun::init() the first line of main?");
                    return Err(io::Error::other(why));
                }
                None if overseer.is_stopped() => return Err(io::Error::other("it is not wanted any more")),
                None => {
                    self.sleep(TICK);
                    self.read_output(overseer);
                }
            }
        }
    }

    /// Has it run a chunk, and waits for its end. `limit` is for each item.
    ///
    /// # Errors
    /// There are no results, and the host is gone.
    pub(crate) fn run(
        &mut self,
        task: Task,
        items: Parcel,
        shared: &SharedData,
        limit: Option<Duration>,
        overseer: &dyn Overseer,
    ) -> Result<Results, Fall> {
        match self.hand_over(task, items, shared) {
            Ok(()) => self.wait(limit, overseer),
            Err(error) => Err(self.fall(overseer, &error)),
        }
    }

    fn hand_over(&mut self, mut task: Task, items: Parcel, shared: &SharedData) -> io::Result<()> {
        task.shared = self.share(shared)?;
        self.heard.stop().store(false, Ordering::Relaxed);
        self.told.watch().note(0..0);
        self.unread = task.start..task.start + task.count;
        let placed = hand_over(&mut self.to, task, items)?;
        send(&self.socket, &ToHost::Task(placed), &[])
    }

    /// Gives it the shared data of a call, if it does not have it, and takes away what no call has; returns its number.
    fn share(&mut self, shared: &SharedData) -> io::Result<Option<u64>> {
        let (stay, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.shared).into_iter().partition(|(_, weak)| weak.upgrade().is_some());
        self.shared = stay;
        for (id, _) in gone {
            send(&self.socket, &ToHost::Forget { id }, &[])?;
        }
        if shared.is_empty() {
            return Ok(None);
        }
        let id = shared.id();
        if self.shared.iter().all(|(its, _)| *its != id) {
            for (what, file) in shared.files() {
                send(&self.socket, &ToHost::File(what), &[File::as_fd(file)])?;
            }
            send(&self.socket, &ToHost::Shared { id }, &[])?;
            self.shared.push((id, shared.downgrade()));
        }
        Ok(Some(id))
    }

    fn wait(&mut self, limit: Option<Duration>, overseer: &dyn Overseer) -> Result<Results, Fall> {
        let mut since = (self.told.watch().items(), Instant::now());
        let (mut stopped, mut frozen) = (None::<Instant>, None::<Instant>);
        let begun = since.1;
        loop {
            match receive(&self.socket, false) {
                Ok(Some((FromHost::Done(placed), _))) => {
                    self.read_output(overseer);
                    return take_over(&mut self.from, placed, overseer.spares())
                        .map_err(|error| self.fall(overseer, &error));
                }
                Ok(Some((FromHost::Failed { reason }, _))) => {
                    return Err(self.fall(overseer, &io::Error::other(reason)));
                }
                Ok(Some((FromHost::Log { source, items, text }, _))) => {
                    // Behind what it printed before.
                    self.read_output(overseer);
                    overseer.line(&source, items, &text);
                    continue;
                }
                Ok(Some((FromHost::Ready { .. }, _))) | Ok(None) => {}
                Err(error) => return Err(self.fall(overseer, &error)),
            }
            let now = Instant::now();
            let items = self.told.watch().items();
            if items != since.0 {
                since = (items, now);
            }
            if limit.is_some_and(|limit| now - since.1 >= limit) {
                return Err(self.overdue(since.0, overseer));
            }
            match frozen {
                // Most chunks are over before it is worth asking.
                None if now - begun >= TICK && self.is_frozen() => frozen = Some(now),
                Some(_) if !self.is_frozen() => frozen = None,
                Some(frozen) if now - frozen >= FROZEN_FOR => {
                    self.kill();
                    self.read_output(overseer);
                    let story = format!("was stopped by a signal (SIGSTOP), and killed after {FROZEN_FOR:?}");
                    return Err(Fall::Died(since.0, WorkerExit::new(Some(19), story, self.stderr.tail())));
                }
                _ => {}
            }
            match stopped {
                None if overseer.is_stopped() => {
                    self.heard.stop().store(true, Ordering::Relaxed);
                    stopped = Some(now);
                }
                Some(stopped) if now - stopped >= GRACE => {
                    self.kill();
                    self.read_output(overseer);
                    return Err(Fall::Unwanted);
                }
                _ => {}
            }
            let left = limit.map_or(TICK, |limit| limit.saturating_sub(now - since.1).min(TICK));
            if self.sleep(left.max(Duration::from_millis(1))) {
                self.read_output(overseer);
            }
            if self.has_ended() {
                // What it said before it ended is still there.
                while let Ok(Some((message, _))) = receive(&self.socket, false) {
                    match message {
                        FromHost::Log { source, items, text } => overseer.line(&source, items, &text),
                        FromHost::Done(placed) => match take_over(&mut self.from, placed, overseer.spares()) {
                            Ok(results) => return Ok(results),
                            Err(_) => break,
                        },
                        FromHost::Ready { .. } | FromHost::Failed { .. } => {}
                    }
                }
                return Err(self.fall(overseer, &io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// It has run these items for too long; or none, and has not even begun with its chunk.
    fn overdue(&mut self, items: Range<usize>, overseer: &dyn Overseer) -> Fall {
        self.kill();
        self.read_output(overseer);
        if items.is_empty() {
            return Fall::Died(items, WorkerExit::new(None, "did not begin with its items", self.stderr.tail()));
        }
        Fall::Overdue(items)
    }

    fn is_frozen(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_)))
    }

    /// Sleeps until something is there, at most for `time`; says whether some of it is output.
    fn sleep(&self, time: Duration) -> bool {
        let pipes = [self.stdout.pipe(), self.stderr.pipe()];
        let mut all = SmallVec::<[PollFd<'_>; 4]>::new();
        all.extend(pipes.iter().flatten().map(|pipe| PollFd::from_borrowed_fd(*pipe, PollFlags::IN)));
        let outputs = all.len();
        all.push(PollFd::new(&self.socket, PollFlags::IN));
        all.extend(self.ended.iter().map(|ended| PollFd::new(ended, PollFlags::IN)));
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let _ = poll(&mut all, Some(&time)); // interrupted by a signal, it looks around a little earlier
        all[..outputs].iter().any(|pipe| !pipe.revents().is_empty())
    }

    /// Whether it has, without letting go of its number, which is that of its group.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.is_reaped || matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_)) | Err(_))
    }

    fn read_output(&mut self, overseer: &dyn Overseer) {
        self.stdout.read(|text| {
            if self.is_ready {
                overseer.line(&Source::Stdout, ran(&self.told, &self.unread), text);
            }
        });
        self.stderr.read(|text| {
            self.memory.iter_mut().for_each(|memory| memory.hear(text));
            overseer.line(&Source::Stderr, ran(&self.told, &self.unread), text);
        });
        self.unread = still_unread(self.told.watch().items(), &self.unread);
    }

    /// The host is at its end, or must be.
    fn fall(&mut self, overseer: &dyn Overseer, error: &io::Error) -> Fall {
        let items = self.told.watch().items();
        let is_gone = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe);
        let exit = self.bury(overseer);
        match is_gone {
            true => Fall::Died(items, exit),
            // It could not go on, which is nobody's fault but ours.
            false => Fall::Died(items, WorkerExit::new(None, format!("failed: {error}"), self.stderr.tail())),
        }
    }

    /// Waits for its end, or makes it; says how it was.
    fn bury(&mut self, overseer: &dyn Overseer) -> WorkerExit {
        let is_gone = self.wait_end(GONE_WITHIN);
        self.kill();
        let status = self.child.try_wait().ok().flatten();
        self.read_output(overseer);
        let tail = self.stderr.tail();
        match status {
            Some(status) if is_gone => {
                let memory = self.memory.as_ref().and_then(Memory::story);
                exit::of(status, &tail, memory)
            }
            _ => {
                let story = "closed its connection to the program and was killed; did it close descriptors that it did not open?";
                WorkerExit::new(None, story, tail)
            }
        }
    }

    fn wait_end(&self, time: Duration) -> bool {
        let limit = Instant::now() + time;
        while !self.has_ended() {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match &self.ended {
                Some(ended) => {
                    let left = Timespec { tv_sec: 0, tv_nsec: left.min(TICK).subsec_nanos().into() };
                    let _ = poll(&mut [PollFd::new(ended, PollFlags::IN)], Some(&left));
                }
                None => std::thread::sleep(left.min(Duration::from_millis(1))),
            }
        }
        true
    }

    /// Kills it and whatever it has started, and waits until it is gone.
    fn kill(&mut self) {
        if std::mem::replace(&mut self.is_reaped, true) {
            return; // its number may be another process's by now
        }
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The items that may have written what is read now.
fn ran(told: &Words, unread: &Range<usize>) -> Range<usize> {
    let now = told.watch().items();
    unread.start..if now.is_empty() { unread.end } else { now.end.clamp(unread.start, unread.end) }
}

/// What is left to write once all is read, with `now` noted as running: which may be anything, for a function that writes to
/// memory that is not its own may have been at the note.
fn still_unread(now: Range<usize>, unread: &Range<usize>) -> Range<usize> {
    if now.is_empty() { unread.clone() } else { now.start.clamp(unread.start, unread.end)..unread.end }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.is_reaped && send(&self.socket, &ToHost::End, &[]).is_ok() {
            self.wait_end(END_WITHIN);
        }
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unread_stays_a_range_of_the_chunk_whatever_is_noted() {
        assert_eq!(still_unread(3..4, &(2..8)), 3..8);
        assert_eq!(still_unread(0..0, &(2..8)), 2..8);
        assert_eq!(still_unread(0..1, &(2..8)), 2..8);
        assert_eq!(still_unread(usize::MAX - 1..usize::MAX, &(2..8)), 8..8);
    }
}
