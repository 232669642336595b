//! What is kept on a device as long as its slot: kernels, and shared data.

use std::{cell::RefCell, collections::HashMap};

use distfun_core::shared_data::{Element, SharedData, SharedDataError, WeakSharedData};
use ndarray::{ArrayViewD, IxDyn};

use super::GpuError;

/// Kernels that are kept: many more than a program has.
const MAX_KERNELS: usize = 1024;

/// Compiled kernels, by the hash of entry point and source.
pub(super) struct Kernels<K>(RefCell<HashMap<[u8; 32], K>>);

impl<K> Default for Kernels<K> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Clone> Kernels<K> {
    /// The kernel that is there, or is compiled now.
    pub(super) fn get(
        &self,
        source: &str,
        entry: &str,
        compile: impl FnOnce() -> Result<K, GpuError>,
    ) -> Result<K, GpuError> {
        let mut name = blake3::Hasher::new();
        name.update(&(entry.len() as u64).to_le_bytes()).update(entry.as_bytes()).update(source.as_bytes());
        let name = *name.finalize().as_bytes();
        if let Some(kernel) = self.0.borrow().get(&name) {
            return Ok(kernel.clone());
        }
        let kernel = compile()?;
        let mut all = self.0.borrow_mut();
        if all.len() >= MAX_KERNELS {
            all.clear(); // a program that writes another kernel for each item
        }
        all.insert(name, kernel.clone());
        Ok(kernel)
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

/// The shared array under `key`, with the remedy for a device if it has other elements.
pub(super) fn array<'s, T: Element>(shared: &'s SharedData, key: &str) -> Result<ArrayViewD<'s, T>, GpuError> {
    shared.array::<T, IxDyn>(key).map_err(|error| match error {
        SharedDataError::WrongElement { key, content, asked } => GpuError::WrongElement { key, content, asked },
        other => other.into(),
    })
}

/// Arrays of shared data that have been uploaded, by its id and their key.
pub(super) struct Uploads<B>(RefCell<HashMap<(u64, String), (WeakSharedData, B)>>);

impl<B> Default for Uploads<B> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<B: Clone> Uploads<B> {
    /// The buffer that is there, or is filled now. Those of data that nobody has any more are let go of.
    pub(super) fn get(
        &self,
        shared: &SharedData,
        key: &str,
        upload: impl FnOnce() -> Result<B, GpuError>,
    ) -> Result<B, GpuError> {
        let name = (shared.id(), key.to_owned());
        if let Some((_, buffer)) = self.0.borrow().get(&name) {
            return Ok(buffer.clone());
        }
        self.0.borrow_mut().retain(|_, (data, _)| data.upgrade().is_some());
        let buffer = upload()?;
        self.0.borrow_mut().insert(name, (shared.downgrade(), buffer.clone()));
        Ok(buffer)
    }
}
