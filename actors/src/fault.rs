//! Faults that a test injects into its own functions.

/// Ends the compute thread that runs the calling item, as a bug in distfun itself would: past every catch. The item is
/// blamed and the slot replaced. Outside of a distributed function this is an ordinary panic.
pub fn kill_this_thread() -> ! {
    std::panic::panic_any(crate::compute::catch::KillThread)
}
