//! What can go wrong on a GPU that is there.

use distfun_core::shared_data::{Content, ElementType, SharedDataError};
use serde::{Deserialize, Serialize};

/// Something that a function asked of its GPU could not be done. The GPU can still be used.
///
/// It is plain data, so that a function that runs elsewhere can return it. What a function does with the device, stream or
/// queue itself never becomes one, unless it asks (`Cuda::checked`); a device that is lost does not either, but where a value is
/// dropped because of that: it ends the slot's life, and the item is redone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The GPU can't be used through this interface.
    #[error(
        "{gpu} can't be used through {api}: build with the feature {api}, on a machine that has the driver for it, or use \
         what the GPU has"
    )]
    NoApi {
        /// `cuda` or `wgpu`.
        api: String,
        /// The GPU.
        gpu: String,
    },
    /// A kernel does not compile, or has no such entry.
    #[error("the kernel {name:?} can't be built: {message}")]
    Kernel {
        /// Its entry point.
        name: String,
        /// What the compiler says.
        message: String,
    },
    /// There is not as much memory on the GPU.
    #[error(
        "the GPU {gpu} has no room{}: {message}; items or blocks that are smaller need less at a time, and other programs may hold \
         some of its memory",
        room(*.bytes)
    )]
    OutOfMemory {
        /// The GPU.
        gpu: String,
        /// As many were asked for; 0 if it is not known.
        bytes: u64,
        /// What the driver says.
        message: String,
    },
    /// It was asked for something that it can't do: buffers that do not fit a kernel, for example.
    #[error("the GPU refuses: {message}")]
    Refused {
        /// What the driver says.
        message: String,
    },
    /// A shared array has elements of another type.
    #[error("shared data {key:?} is {content} and was asked for as one of {asked}: ask for {}", as_stored(.content))]
    WrongElement {
        /// The array's key.
        key: String,
        /// What is stored.
        content: Content,
        /// The type of elements it was asked for.
        asked: ElementType,
    },
    /// The shared data is not what was asked for.
    #[error(transparent)]
    SharedData(#[from] SharedDataError),
}

/// ` for 12 bytes`, if it is known for how many.
fn room(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(" for {bytes} bytes") }
}

/// `` `shared::<f64>` ``.
fn as_stored(content: &Content) -> String {
    match content {
        Content::Array { element, .. } => format!("`shared::<{element}>`"),
        other => other.to_string(),
    }
}

impl std::fmt::Debug for GpuError {
    /// What `main` prints of an error that it returns: the message for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_names_the_gpu_and_says_what_needs_less() {
        let lack = |bytes| GpuError::OutOfMemory { gpu: "0: H100".into(), bytes, message: "out of memory".into() };
        let remedy =
            "items or blocks that are smaller need less at a time, and other programs may hold some of its memory";
        assert_eq!(lack(12).to_string(), format!("the GPU 0: H100 has no room for 12 bytes: out of memory; {remedy}"));
        assert_eq!(lack(0).to_string(), format!("the GPU 0: H100 has no room: out of memory; {remedy}"));
    }
}
