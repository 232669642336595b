//! Ctrl-C: ends what runs, with what it has finished, instead of the program.

use std::{
    io,
    sync::{Arc, Mutex, Once, PoisonError, Weak},
    thread,
};

use distfun_core::{failure::Ending, ids::CallId};
use tokio::runtime::Builder;

use crate::pool::Pool;

/// What runs calls in this process.
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

/// What a shell makes of a program that Ctrl-C has ended.
const EXIT_CODE: i32 = 130;

/// From now on Ctrl-C (SIGINT) ends the calls that run, here and at nodes, with [`Ending::Interrupted`] and the results they
/// have, within two seconds even if items go on; the program decides what comes then. When no call runs it ends
/// the program with status 130, as it does without this.
///
/// Call it once, in `main`; a library leaves that to its program. Without it Ctrl-C ends the program at once, and nothing is left
/// of its processes and of what it has at nodes.
///
/// ```no_run
/// use distfun::{Ending, prelude::*};
///
/// fn main() -> Result<(), distfun::Error> {
///     distfun::catch_interrupt()?;
///     match distribute!(f64::sqrt).build()?.map((0..1_000_000).map(f64::from)).wait() {
///         Err(error) if error.ending == Ending::Interrupted => println!("so far: {}", error.finished().len()),
///         all => println!("all: {}", all?.len()),
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
/// The operating system gave no thread, or no handler for the signal.
pub fn catch_interrupt() -> Result<(), crate::StartError> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = watch());
    result.map_err(crate::StartError::Thread)
}

fn watch() -> io::Result<()> {
    let (sender, is_there) = std::sync::mpsc::channel();
    let body = move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(error))),
        };
        runtime.block_on(async {
            let mut signals = match Signals::new() {
                Ok(signals) => signals,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let _ = sender.send(Ok(()));
            let mut interrupted = Vec::new();
            loop {
                signals.next().await;
                interrupt(&mut interrupted);
            }
        });
    };
    thread::Builder::new().name("distfun-interrupt".into()).spawn(body)?;
    is_there.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Ends all calls that run; or the program, if there are none, or some that were `interrupted` before are still not over.
fn interrupt(interrupted: &mut Vec<CallId>) {
    let running = pools().into_iter().flat_map(|pool| {
        let calls = pool.status().calls;
        calls.into_iter().map(move |call| (pool.clone(), call.id))
    });
    let running: Vec<_> = running.collect();
    if running.is_empty() || running.iter().any(|(_, call)| interrupted.contains(call)) {
        std::process::exit(EXIT_CODE);
    }
    *interrupted = running.iter().map(|(_, call)| *call).collect();
    for (pool, call) in running {
        pool.cancel(call, Ending::Interrupted);
    }
}

fn pools() -> Vec<Arc<Pool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.iter().filter_map(Weak::upgrade).collect()
}

/// Its calls will be among those that are ended.
pub(crate) fn note(pool: &Arc<Pool>) {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}
