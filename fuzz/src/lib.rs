//! What distfun does with bytes and texts from outside, whatever they are.
//!
//! Each module is a target: its `check` takes any bytes, and panics if something does not hold; its `seeds` are good
//! beginnings. `fuzz_targets/` gives them to libFuzzer, `tests/corpus.rs` runs them over what is kept in `corpus/`.

pub mod frame_reader;
pub mod hello;
pub mod machines;
pub mod messages;
pub mod npy;
pub mod payload;
pub mod schema_difference;
pub mod session;
pub mod shared_image;
pub mod view;

mod input;
mod samples;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Of its module, its binary and its folder in `corpus/`.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub check: fn(&[u8]),
    /// Where to begin.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frame_reader", check: frame_reader::check, seeds: frame_reader::seeds },
    Target { name: "hello", check: hello::check, seeds: hello::seeds },
    Target { name: "machines", check: machines::check, seeds: machines::seeds },
    Target { name: "messages", check: messages::check, seeds: messages::seeds },
    Target { name: "npy", check: npy::check, seeds: npy::seeds },
    Target { name: "payload", check: payload::check, seeds: payload::seeds },
    Target { name: "schema_difference", check: schema_difference::check, seeds: schema_difference::seeds },
    Target { name: "session", check: session::check, seeds: session::seeds },
    Target { name: "shared_image", check: shared_image::check, seeds: shared_image::seeds },
    Target { name: "view", check: view::check, seeds: view::seeds },
];

/// Makes the program of a target: for libFuzzer, or one that runs the files it is given.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name::check(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            std::env::args_os().skip(1).try_for_each(|path| {
                $crate::$name::check(&std::fs::read(path)?);
                Ok(())
            })
        }
    };
}
