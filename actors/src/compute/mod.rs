//! Where user code runs: the threads, what they are lent, and how their panics are caught.

pub(crate) mod awake;
pub(crate) mod catch;
#[cfg(target_os = "linux")]
pub(crate) mod hosted;
#[cfg(not(target_os = "linux"))]
#[path = "nowhere.rs"]
pub(crate) mod hosted;
pub(crate) mod latch;
pub(crate) mod lend;
pub(crate) mod parts;
pub(crate) mod port;
pub(crate) mod thread;
