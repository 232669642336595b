//! Read-only arrays and values, stored once per machine.
//!
//! Everything given to a [`SharedDataBuilder`] goes into one file that is mapped into memory: functions read their
//! arrays as views of it, and a gigabyte shared by any number of functions, threads and processes takes a gigabyte.
//!
//! ```
//! use distfun_core::shared_data::SharedData;
//! use ndarray::{ArrayView1, array};
//!
//! let weights = array![1.0, 2.0, 3.0];
//! let shared = SharedData::builder().array("weights", &weights)?.value("name", &"linear".to_owned())?.build()?;
//!
//! let view: ArrayView1<f64> = shared.array("weights")?;
//! assert_eq!(view, weights);
//! assert_eq!(shared.value::<String>("name")?, "linear");
//! # Ok::<(), distfun_core::shared_data::SharedDataError>(())
//! ```

mod available;
mod blob;
mod builder;
mod element;
mod error;
mod foreign;
mod handover;
mod image;
mod layout;
mod map;
mod npy;
mod storage;
mod stored;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

pub use blob::BlobFile;
pub use builder::SharedDataBuilder;
pub use element::{Element, ElementType};
pub use error::{Cause, SharedDataError};
pub use handover::HandedFile;
pub use image::Image;
pub use layout::{Content, Order};
use ndarray::{ArrayView, Dimension};
use serde::de::DeserializeOwned;
pub use storage::Storage;

use self::{foreign::Watch, map::Map, stored::Stored};
use crate::event::{SharedPublished, SharedReleased, SupervisionEvent};

/// Read-only arrays and values by name, stored once. A clone is another handle of the same data; when the last is gone
/// the memory is given back.
///
/// Everything given to [`SharedData::builder`] goes into one file that is mapped into memory, and functions read their
/// arrays as views of it: a gigabyte shared by any number of slots takes a gigabyte. A function takes it as its last
/// argument; `.shared_data(…)` gives it to all calls, `with_shared` to those of another handle of the function.
///
/// ```
/// # use distfun_core::shared_data::{SharedData, SharedDataError}; // `distfun::…` for users
/// use ndarray::{ArrayView1, array};
///
/// fn score(x: f64, shared: &SharedData) -> Result<f64, SharedDataError> {
///     let weights: ArrayView1<f64> = shared.array("weights")?;
///     Ok(x * weights.sum() + shared.value::<f64>("offset")?)
/// }
///
/// let weights = array![1.0, 2.0];
/// let shared = SharedData::builder().array("weights", &weights)?.value("offset", &0.5)?.build()?;
/// assert_eq!(score(2.0, &shared)?, 6.5); // distributed: `distribute!(score).shared_data(shared).build()?.map(…)`
/// # Ok::<(), SharedDataError>(())
/// ```
#[derive(Clone, Default)]
pub struct SharedData(Arc<Inner>);

struct Inner {
    /// No other shared data of this process has it; 0 if nothing is shared.
    id: u64,
    all: BTreeMap<String, Stored>,
    /// The mapped NumPy files.
    watched: Vec<Watch>,
    storage: Storage,
    /// The one file that everything is in, except mapped NumPy files.
    file: Option<Map>,
    /// That file, to be handed to other processes; and so that locks on it last as long as the data.
    kept: Option<File>,
    digest: OnceLock<[u8; 32]>,
}

impl Default for Inner {
    fn default() -> Self {
        Self::new(BTreeMap::new(), Storage::Memory, None)
    }
}

impl Inner {
    /// What is not shared yet.
    fn new(all: BTreeMap<String, Stored>, storage: Storage, file: Option<(Map, File)>) -> Self {
        let (file, kept) = file.unzip();
        Self { id: 0, all, watched: Vec::new(), storage, file, kept, digest: OnceLock::new() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for (key, stored) in &self.all {
            let (total_bytes, mapping) = (stored.bytes(), Some(stored.mapping()));
            SharedReleased { key, total_bytes, digest: None, mapping, readers: None }.emit();
        }
    }
}

impl SharedData {
    /// Names what is to be shared.
    pub fn builder<'a>() -> SharedDataBuilder<'a> {
        SharedDataBuilder::default()
    }

    /// Gives it an id, and tells that it is there.
    fn publish(mut inner: Inner) -> Self {
        for (key, stored) in &inner.all {
            let (total_bytes, mapping) = (stored.bytes(), Some(stored.mapping()));
            SharedPublished { key, total_bytes, digest: None, mapping, readers: None }.emit();
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        inner.id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(inner))
    }

    /// A handle that does not keep the data: to find what is there already, and give it to the next who needs it.
    pub fn downgrade(&self) -> WeakSharedData {
        WeakSharedData(Arc::downgrade(&self.0))
    }

    /// Tells it from all other shared data of this process; clones are the same.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The array under `key`, without a copy. This takes well under a microsecond, so a function may ask at every call.
    ///
    /// Type and number of axes are those of the result: `let w: ArrayView2<f64> = shared.array("w")?`. An
    /// [`ArrayViewD`](ndarray::ArrayViewD) takes any number of axes.
    ///
    /// # Errors
    ///
    /// There is no such key, or it holds something else; the error says what.
    pub fn array<T: Element, D: Dimension>(&self, key: &str) -> Result<ArrayView<'_, T, D>, SharedDataError> {
        self.get(key)?.array(key)
    }

    /// The value under `key`. The first to ask for it decodes it, for all threads of the process; it stays in memory as
    /// long as the shared data.
    ///
    /// # Errors
    ///
    /// There is no such key, or it holds something else; the error says what.
    pub fn value<V>(&self, key: &str) -> Result<&V, SharedDataError>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        self.get(key)?.value(key)
    }

    /// All keys, in alphabetical order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.all.keys().map(String::as_str)
    }

    /// How many arrays and values there are.
    pub fn len(&self) -> usize {
        self.0.all.len()
    }

    /// Whether nothing is shared.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// Size of all arrays and encoded values together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.all.values().map(Stored::bytes).sum()
    }

    /// Where the arrays and values are kept, except those of NumPy files.
    pub fn storage(&self) -> Storage {
        self.0.storage
    }

    /// Whether every mapped [NumPy file](SharedDataBuilder::npy) is as it was when it was mapped, by its length and the
    /// time of its last change. It asks the system once per such file (well under a microsecond each), and not at all
    /// where there is none. Distributed functions ask this at the start of every call.
    ///
    /// # Errors
    ///
    /// Somebody has written to such a file, or cut it. What has been read from it since may be wrong.
    pub fn check_unchanged(&self) -> Result<(), SharedDataError> {
        self.0.watched.iter().try_for_each(Watch::check)
    }

    fn get(&self, key: &str) -> Result<&Stored, SharedDataError> {
        self.0.all.get(key).ok_or_else(|| SharedDataError::Missing {
            key: key.to_owned(),
            keys: self.keys().map(str::to_owned).collect(),
        })
    }
}

/// A handle of [`SharedData`] that does not keep it.
#[derive(Clone, Default)]
pub struct WeakSharedData(Weak<Inner>);

impl WeakSharedData {
    /// The data, if somebody still has it.
    pub fn upgrade(&self) -> Option<SharedData> {
        self.0.upgrade().map(SharedData)
    }
}

impl fmt::Debug for WeakSharedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakSharedData")
    }
}

impl fmt::Debug for SharedData {
    /// Keys, types, shapes and sizes. Never the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedData ")?;
        f.debug_map().entries(&self.0.all).finish()
    }
}
