//! Sockets for this machine only: Unix domain sockets, on Windows named pipes.
//!
//! Where the system tells, only the same user (and root) is let in, and is connected to.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{LocalDoor, LocalWire, connect, of_pair, path_of};
#[cfg(windows)]
pub use windows::{LocalDoor, LocalWire, connect, path_of};

use std::io;

/// Checks a name before it becomes part of a path.
fn check_name(name: &str) -> io::Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(is_plain) {
        let text = format!(
            "{name:?} is no name for a local socket; use up to 64 letters, digits, '.', '_' and '-', not beginning with '.'"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}
