//! Three hosts in network namespaces of this machine, with cables that are slow, cut and healed. They need root and
//! Linux; elsewhere they say that they are skipped.
#![cfg(target_os = "linux")]

mod functions;
mod joined;
mod lan;
mod log;
mod process;
#[path = "../programs.rs"]
mod programs;
mod stories;

distfun::host_tests!();
