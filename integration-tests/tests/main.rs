//! distfun as its users see it: one binary, a module per subject.

mod actix_facts;
mod arrows;
mod bad_input;
mod drivers;
mod endings;
mod events;
mod examples;
mod faces;
mod fold;
mod http;
#[cfg(target_os = "linux")]
mod interrupt;
#[cfg(target_os = "linux")]
mod isolation;
mod laws;
mod metrics;
mod nodes;
mod programs;
mod retries;
mod services;
mod settings;
mod shared_data;
#[cfg(target_os = "linux")]
mod shipping;
mod slot_state;
mod stream;
mod supervision;
mod support;
mod verbose;
#[cfg(target_os = "linux")]
mod watch;
