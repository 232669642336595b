//! Failures as they travel: from a node, or from a process of this machine's.

use distfun_core::failure::FailureCause;
use distfun_net::message::Cause;

/// A failure on its way; items are counted from `first`, and its texts take at most `most` bytes.
pub(crate) fn packed(cause: &FailureCause, first: usize, most: usize) -> Cause {
    match cause {
        FailureCause::Panicked { message, place } => {
            let place = place.as_deref().map(|place| short(place, most / 2));
            Cause::Panicked { message: short(message, most / 2), place }
        }
        FailureCause::WrongLength { block, got } => Cause::WrongLength {
            start: (first + block.start) as u64,
            end: (first + block.end) as u64,
            got: *got as u64,
        },
        other => Cause::Payload { message: short(&other.to_string(), most) },
    }
}

/// A failure that has arrived; items were counted from `first`.
pub(crate) fn unpacked(cause: Cause, first: usize) -> FailureCause {
    match cause {
        Cause::Panicked { message, place } => {
            FailureCause::Panicked { message: message.into(), place: place.map(Into::into) }
        }
        Cause::WrongLength { start, end, got } => {
            let block = first.saturating_add(start as usize)..first.saturating_add(end as usize);
            FailureCause::WrongLength { block, got: got as usize }
        }
        Cause::Payload { message } => FailureCause::Payload { message: message.into() },
    }
}

/// A message holds only so much, and nobody reads a panic of a megabyte.
fn short(text: &str, most: usize) -> String {
    let most = most.min(4096);
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
