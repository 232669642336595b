//! NumPy files, which belong to somebody else: cloned where the filesystem can, otherwise watched.

use std::{
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    element::ElementType,
    error::SharedDataError,
    layout::Content,
    map::{Map, Section},
    npy::{self, NpyError},
};

/// A NumPy file, mapped.
pub(super) struct Foreign {
    pub(super) content: Content,
    pub(super) elements: Elements,
    /// None for a clone, which nobody else can change.
    pub(super) watch: Option<Watch>,
}

/// Where the elements of a NumPy file are.
pub(super) enum Elements {
    /// In the mapped file.
    Mapped(Section),
    /// In the mapped file, but at a place where they can't be read from: the bytes are to be copied.
    Unaligned(Section),
}

impl Foreign {
    pub(super) fn open(key: &str, path: &Path) -> Result<Self, SharedDataError> {
        let refused = |cause: io::Error| SharedDataError::io("open", path, cause);
        let unfit = |error: NpyError| SharedDataError::Npy {
            key: key.to_owned(),
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = File::open(path).map_err(refused)?;
        let clone = clone_of(&file, path);
        let is_clone = clone.is_some();
        let file = clone.unwrap_or(file);
        let metadata = file.metadata().map_err(refused)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(unfit(NpyError::Magic));
        }
        let len = usize::try_from(metadata.len()).map_err(|_| unfit(NpyError::Overflow(vec![metadata.len()])))?;
        let map = Map::foreign(&file, len).map_err(|cause| SharedDataError::io("map", path, cause))?;
        let header = npy::parse(map.bytes()).map_err(unfit)?;
        let elements = match map.section(header.place.clone(), header.element) {
            Some(section) => Elements::Mapped(section),
            None if header.element == ElementType::Bool => return Err(unfit(NpyError::Bools)),
            None => {
                let bytes = map.section(header.place, ElementType::U8);
                Elements::Unaligned(bytes.expect("the header was checked against the file's length"))
            }
        };
        let content = Content::Array { element: header.element, shape: header.shape, order: header.order };
        let watch = (!is_clone).then(|| Watch::new(key, path, file, &metadata));
        Ok(Self { content, elements, watch })
    }
}

/// What a file was like when it was mapped.
pub(super) struct Watch {
    key: String,
    path: PathBuf,
    file: File,
    len: u64,
    modified: Option<SystemTime>,
}

impl Watch {
    fn new(key: &str, path: &Path, file: File, metadata: &Metadata) -> Self {
        let (len, modified) = (metadata.len(), metadata.modified().ok());
        Self { key: key.to_owned(), path: path.to_owned(), file, len, modified }
    }

    /// Asks the system whether the file has been written to. A file that took over its name is another file.
    pub(super) fn check(&self) -> Result<(), SharedDataError> {
        let now = self.file.metadata().map_err(|cause| SharedDataError::io("look at", &self.path, cause))?;
        if now.len() == self.len && now.modified().ok() == self.modified {
            return Ok(());
        }
        Err(SharedDataError::Changed { key: self.key.clone(), path: self.path.clone() })
    }
}

/// A clone without a name that shares its blocks with the file until either is written, where the filesystem can (btrfs,
/// xfs): beside the file, or else where temporary files go.
#[cfg(target_os = "linux")]
fn clone_of(file: &File, path: &Path) -> Option<File> {
    use std::os::{fd::AsRawFd, unix::fs::OpenOptionsExt};

    use rustix::fs::OFlags;

    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    [beside, &std::env::temp_dir()].into_iter().find_map(|dir| {
        let flags = OFlags::TMPFILE.bits().cast_signed();
        let clone = File::options().read(true).write(true).mode(0o600).custom_flags(flags).open(dir).ok()?;
        rustix::fs::ioctl_ficlone(&clone, file).ok()?;
        // Opened again for reading only; the descriptor that can write is closed here.
        File::open(format!("/proc/self/fd/{}", clone.as_raw_fd())).ok()
    })
}

#[cfg(not(target_os = "linux"))]
fn clone_of(_file: &File, _path: &Path) -> Option<File> {
    None
}
