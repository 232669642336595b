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
mod exit;
mod message;
mod output;
mod process;
mod serve;

use std::{
    env,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use distfun_core::options::{Isolation, Settings};
use rustix::net::{SocketType, sockopt::socket_type};

use crate::error::NoProcesses;
pub(crate) use message::{Done, Task};
pub(crate) use process::{Fall, Host, Overseer, StartFault, Stream};

/// Set for a host, whose standard input is the socket to its parent. What a host starts itself has another one.
const VARIABLE: &str = "DISTFUN_HOST";

/// Descriptors from here on are out of the way of functions that close what they did not open.
const HIGH_DESCRIPTOR: i32 = 1000;

static READY: AtomicBool = AtomicBool::new(false);

/// Lets this executable also be a worker: put it first in `main`. In a process that was started to run functions it does
/// not return; in any other it does nothing but note that it was called.
///
/// `build()` refuses [`Isolation::Process`](crate::Isolation) in a program without it, since the program itself would start
/// again for each slot.
///
/// A test binary has no `main` of its own; put [`host_tests!`](crate::host_tests) into it.
///
/// ```
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

/// That processes can be started, if `settings` want some.
pub(crate) fn check(settings: &Settings) -> Result<(), NoProcesses> {
    match settings.isolation {
        Isolation::Process if Program::this().is_none() => Err(NoProcesses::NotInitialised),
        _ => Ok(()),
    }
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

/// How this program is started as a host.
pub(crate) struct Program {
    args: Vec<String>,
}

impl Program {
    /// None if it would not be one: `init` is not called, and there is no test in its place.
    pub(crate) fn this() -> Option<Self> {
        if let Some(test) = inventory::iter::<HostTest>.into_iter().next() {
            // The test runner names tests without the name of the crate.
            let name = test.path.split_once("::").map_or(test.path, |(_, name)| name);
            let args = [name, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"];
            return Some(Self { args: args.map(str::to_owned).into() });
        }
        READY.load(Ordering::Relaxed).then(|| Self { args: Vec::new() })
    }
}
