//! Shared data that another process of this machine maps too: its files are handed over, and nothing is copied.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use super::{
    Inner, SharedData, Storage,
    builder::read,
    error::SharedDataError,
    foreign::{Elements, Foreign},
    map::Map,
    storage::SealedFile,
    stored::Stored,
};

/// What a file of shared data is, for the process that gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedFile(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// The one that everything is in, but for NumPy files.
    Own { is_memory: bool, digest: Option<[u8; 32]> },
    /// A NumPy file.
    Npy { key: String, path: PathBuf, is_clone: bool },
}

impl SharedData {
    /// Its files, each with what another process needs to know of it, for [`take_over`](Self::take_over). They are open
    /// for reading only.
    pub fn files(&self) -> impl Iterator<Item = (HandedFile, &File)> {
        let inner = &self.0;
        let own = inner.kept.as_ref().map(|file| {
            let (is_memory, digest) = (inner.storage == Storage::Memory, inner.digest.get().copied());
            (HandedFile(Kind::Own { is_memory, digest }), file)
        });
        let watched = inner.watched.iter().map(|watch| {
            let (key, path, is_clone) = (watch.key.clone(), watch.path.clone(), watch.is_clone);
            (HandedFile(Kind::Npy { key, path, is_clone }), &watch.file)
        });
        own.into_iter().chain(watched)
    }

    /// Maps files that another process of this program has handed over.
    ///
    /// What is said of them is believed: only a process that may do anything to this one should be.
    ///
    /// # Errors
    /// They can't be mapped, or are not what they are said to be.
    pub fn take_over(files: impl IntoIterator<Item = (HandedFile, File)>) -> Result<Self, SharedDataError> {
        let mut inner = Inner::default();
        for (HandedFile(kind), file) in files {
            match kind {
                Kind::Own { is_memory, digest } => {
                    let refused = |cause| SharedDataError::io("map", Path::new("a file that was handed over"), cause);
                    let file = SealedFile::handed(file).map_err(refused)?;
                    let map = Map::sealed(&file).map_err(refused)?;
                    inner.storage = if is_memory { Storage::Memory } else { Storage::File };
                    inner.all.append(&mut read(&map, inner.storage)?);
                    (inner.file, inner.kept) = (Some(map), Some(file.into_file()));
                    inner.digest = digest.map_or_else(OnceLock::new, OnceLock::from);
                }
                Kind::Npy { key, path, is_clone } => {
                    let Foreign { content, elements, watch } = Foreign::of(&key, &path, file, is_clone)?;
                    let (Elements::Mapped(section) | Elements::Unaligned(section)) = elements;
                    inner.all.insert(key, Stored::new(content, section, Storage::File));
                    inner.watched.push(watch);
                }
            }
        }
        Ok(Self::publish(inner))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayView1, ArrayViewD, IxDyn, array};

    use super::*;

    fn over(shared: &SharedData) -> SharedData {
        let files: Vec<_> = shared.files().map(|(what, file)| (what, file.try_clone().unwrap())).collect();
        SharedData::take_over(files).unwrap()
    }

    #[test]
    fn what_is_handed_over_is_the_same_data() {
        let npy = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/npy/f8.npy");
        let weights = array![1.0, 2.0];
        for storage in [Storage::Memory, Storage::File] {
            let builder = SharedData::builder().storage(storage).array("w", &weights).unwrap();
            let shared = builder.npy("x", npy).unwrap().value("n", &7u8).unwrap().build().unwrap();
            let x: ArrayViewD<f64> = shared.array("x").unwrap();
            let x = x.to_owned();
            let there = over(&shared);
            drop(shared);
            let w: ArrayView1<f64> = there.array("w").unwrap();
            assert_eq!((w, there.value::<u8>("n").unwrap()), (weights.view(), &7));
            assert_eq!(there.array::<f64, IxDyn>("x").unwrap(), x);
            assert_eq!(there.storage(), storage);
        }
        assert!(over(&SharedData::default()).is_empty());
    }
}
