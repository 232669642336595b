//! Processes in which slots run their functions, so that what a function does to its process costs one slot.
//!
//! A *host* is this program once more, started by the compute thread of a slot, which hands it chunks and waits for their
//! results: to the engine and everybody else it is that thread that computes. [`init`] takes over in the host, before
//! anything else of the program runs there.
//!
//! | | parent: `process.rs` | host: `serve.rs` |
//! |---|---|---|
//! | messages (`message.rs`) | a chunk, a file of shared data | its results |
//! | shared memory (`area.rs`) | items; whether the call has ended | results; which item runs |
//! | ends | kills the host, with all that it has started | when the socket is closed, or its parent dies |

mod area;
pub(crate) mod cpu;
mod exit;
mod forward;
mod memory;
mod message;
mod output;
mod process;
mod serve;

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use distfun_core::options::{Isolation, Settings};
use distfun_net::message as wire;
use rustix::net::{SocketType, sockopt::socket_type};

use crate::{error::NoProcesses, instance};
pub(crate) use message::{Done, Task};
pub(crate) use process::{Fall, Host, Overseer, StartFault, is_passing};

/// Set for a host, whose standard input is the socket to its parent. What a host starts itself has another one.
const VARIABLE: &str = "DISTFUN_HOST";

/// Descriptors from here on are out of the way of functions that close what they did not open.
const HIGH_DESCRIPTOR: i32 = 1000;

static READY: AtomicBool = AtomicBool::new(false);

/// Lets this executable also be a worker: put it first in `main`. In a process that was started to run functions it does
/// not return; in any other it does nothing but note that it was called.
///
/// `build()` refuses [`Isolation::Process`](crate::Isolation) and `machines` in a program without it, since the program
/// itself would start again for each slot.
///
/// A test binary has no `main` of its own; put [`host_tests!`](crate::host_tests) into it.
///
/// ```standalone_crate
/// use distfun::{Isolation, prelude::*};
///
/// fn main() -> Result<(), distfun::Error> {
///     distfun::init();
///     let roots = distribute!(f64::sqrt).isolation(Isolation::Process).build()?.map([4.0, 9.0]).wait()?;
///     assert_eq!(roots, [2.0, 3.0]);
///     Ok(())
/// }
/// ```
pub fn init() {
    if READY.swap(true, Ordering::Relaxed) || env::var_os(VARIABLE).is_none() {
        return;
    }
    let stdin = std::io::stdin();
    if !matches!(socket_type(&stdin), Ok(SocketType::SEQPACKET)) {
        return; // started by a host, whose variables it has
    }
    let high = rustix::io::fcntl_dupfd_cloexec(&stdin, HIGH_DESCRIPTOR);
    let socket: OwnedFd = match high.or_else(|_| rustix::io::fcntl_dupfd_cloexec(&stdin, 3)) {
        Ok(socket) => socket,
        Err(error) => serve::fail(stdin.as_fd(), &format!("its socket can't be kept: {error}")),
    };
    serve::serve(&socket)
}

/// That this program can be started for slots, here or on the machines that `settings` name, if they want that.
pub(crate) fn check(settings: &Settings) -> Result<(), NoProcesses> {
    let wants = if settings.isolation == Isolation::Process {
        "isolation"
    } else if !settings.machines.is_empty() {
        "machines"
    } else if settings.named_pipe.is_on() {
        "named_pipe"
    } else {
        return Ok(());
    };
    if Program::this().is_none() { Err(NoProcesses::NotInitialised { wants }) } else { Ok(()) }
}

/// The tests of a binary that take part as hosts.
#[derive(Debug)]
#[doc(hidden)]
pub struct HostTest {
    /// Module and name of the test.
    pub path: &'static str,
}

inventory::collect!(HostTest);

/// Lets a test binary also be a worker, as [`init`](crate::init) does for a program: put it into the binary once, at the top
/// of any module. It makes a test, `distfun_host`, which does nothing when the tests run and takes over in a process that
/// was started to run functions.
///
/// ```
/// mod tests {
///     distfun::host_tests!();
///     // … and the tests, which may build with Isolation::Process
/// }
/// ```
#[macro_export]
macro_rules! host_tests {
    () => {
        $crate::__private::inventory::submit! {
            $crate::__private::HostTest { path: ::std::concat!(::std::module_path!(), "::distfun_host") }
        }
        #[cfg(test)]
        #[test]
        fn distfun_host() {
            $crate::init();
        }
    };
}

/// How a program is started as a host.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its file, by a name that works in a process that has all descriptors of this one.
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// Its environment; that of this process if there is none.
    pub(crate) environment: Option<Vec<(String, OsString)>>,
    /// Where it starts; none for where this process is.
    pub(crate) dir: Option<PathBuf>,
    /// Events of `tracing` up to this level are wanted: from 0 for none to 5 for traces.
    pub(crate) log_level: u8,
    /// Memory that it may have, in bytes.
    pub(crate) max_memory: Option<u64>,
}

/// The file that this program is.
pub(crate) struct Executable {
    /// BLAKE3 of it.
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: u64,
    file: File,
}

/// This program's own file, as it was started; none if it can't be read. Hashed when it is first asked for.
pub(crate) fn executable() -> Option<&'static Executable> {
    static EXECUTABLE: OnceLock<Option<Executable>> = OnceLock::new();
    let open = || {
        let file = File::open(THIS).ok()?;
        let bytes = file.metadata().ok()?.len();
        Some(Executable { digest: instance::program(), bytes, file })
    };
    EXECUTABLE.get_or_init(open).as_ref()
}

/// As it was started, whatever lies under its name by now.
const THIS: &str = "/proc/self/exe";

impl Executable {
    pub(crate) fn piece(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(&mut piece, range.start)?;
        Ok(piece)
    }

    /// What a node must know of it; none if it can't be a host.
    pub(crate) fn message(&self) -> Option<wire::Program> {
        let Program { args, log_level, .. } = Program::this()?;
        Some(wire::Program {
            digest: self.digest,
            bytes: self.bytes,
            args,
            version: env!("CARGO_PKG_VERSION").into(),
            target: target(),
            cpu_features: cpu::needed().map(str::to_owned).collect(),
            log_level,
        })
    }
}

/// What this program is built for.
pub(crate) fn target() -> String {
    format!("{}-{}", env::consts::ARCH, env::consts::OS)
}

impl Program {
    /// None if it would not be one: `init` is not called, and there is no test in its place.
    pub(crate) fn this() -> Option<Self> {
        if let Some(test) = inventory::iter::<HostTest>.into_iter().next() {
            // The test runner names tests without the name of the crate.
            let name = test.path.split_once("::").map_or(test.path, |(_, name)| name);
            let args = [name, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"];
            return Some(Self::of_this(args.map(str::to_owned).into()));
        }
        READY.load(Ordering::Relaxed).then(|| Self::of_this(Vec::new()))
    }

    fn of_this(args: Vec<String>) -> Self {
        Self {
            path: THIS.into(),
            args,
            environment: None,
            dir: None,
            log_level: forward::level_now(),
            max_memory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Isolation, prelude::*};

    /// This test binary has no host tests: what it builds must not start it again.
    #[test]
    fn a_program_without_init_is_refused_before_anything_starts() {
        let why = |wants: &str, error: Option<crate::BuildError>| {
            let text = error.expect("refused").to_string();
            assert!(text.starts_with(&format!("{wants} needs distfun::init()")), "{text}");
        };
        let builder = || distribute!(f64::sqrt).slots(1);
        why("isolation", builder().isolation(Isolation::Process).build().err());
        why("machines", builder().machines(["bob"]).build().err());
        why("named_pipe", builder().named_pipe(true).build().err());
        assert!(crate::Manager::builder().machines(["bob"]).start().is_err());
        builder().build().unwrap();
    }
}
