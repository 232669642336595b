//! Systems where functions can't run in processes of their own.

use distfun_core::options::{Isolation, Settings};

use crate::error::NoProcesses;

/// Does nothing here: only on Linux can functions run in processes of their own.
pub fn init() {}

/// Does nothing here.
#[macro_export]
macro_rules! host_tests {
    () => {};
}

/// That `settings` want no processes.
pub(crate) fn check(settings: &Settings) -> Result<(), NoProcesses> {
    if settings.isolation == Isolation::Process { Err(NoProcesses::NotHere) } else { Ok(()) }
}
