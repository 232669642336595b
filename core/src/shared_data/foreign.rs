//! NumPy files, which belong to somebody else: cloned where the filesystem can, otherwise watched.

use std::{
    fs::File,
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
    pub(super) watch: Watch,
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
        let file = File::open(path).map_err(refused)?;
        let clone = clone_of(&file, path);
        let is_clone = clone.is_some();
        Self::of(key, path, clone.unwrap_or(file), is_clone)
    }

    /// The same of a file that is open already; nobody else can change it if it `is_clone`.
    pub(super) fn of(key: &str, path: &Path, file: File, is_clone: bool) -> Result<Self, SharedDataError> {
        let refused = |cause: io::Error| SharedDataError::io("open", path, cause);
        let unfit = |error: NpyError| SharedDataError::Npy {
            key: key.to_owned(),
            path: path.to_owned(),
            reason: error.to_string(),
        };
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
        let (len, modified) = (metadata.len(), metadata.modified().ok());
        let watch = Watch { key: key.to_owned(), path: path.to_owned(), file, is_clone, len, modified };
        Ok(Self { content, elements, watch })
    }
}

/// What a file was like when it was mapped.
pub(super) struct Watch {
    pub(super) key: String,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Nobody else can change it.
    pub(super) is_clone: bool,
    len: u64,
    modified: Option<SystemTime>,
}

impl Watch {
    /// Asks the system whether the file has been written to. A file that took over its name is another file.
    pub(super) fn check(&self) -> Result<(), SharedDataError> {
        if self.is_clone {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use ndarray::{Array, Array2, ArrayView0, ArrayView1, ArrayView3, Ix1, Ix2, array};
    use num_complex::Complex;

    use super::*;
    use crate::shared_data::{Element, SharedData};

    fn numpy(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/npy").join(name)
    }

    fn grid<T>(element: impl Fn(u8) -> T) -> Array2<T> {
        Array::from_shape_fn((2, 3), |(i, j)| element((3 * i + j) as u8))
    }

    #[test]
    fn files_of_numpy_are_what_numpy_shows() {
        fn holds<T: Element + PartialEq + std::fmt::Debug>(name: &str, element: impl Fn(u8) -> T) {
            let shared = SharedData::builder().npy("w", numpy(name)).unwrap().build().unwrap();
            assert_eq!(shared.array::<T, Ix2>("w").unwrap(), grid(element), "{name}");
            shared.check_unchanged().unwrap();
        }
        holds("u1.npy", |n| n);
        holds("u2.npy", u16::from);
        holds("u4.npy", u32::from);
        holds("u8.npy", u64::from);
        holds("u8.npy", usize::from);
        holds("i1.npy", |n| n as i8);
        holds("i2.npy", i16::from);
        holds("i4.npy", i32::from);
        holds("i8.npy", i64::from);
        holds("f4.npy", f32::from);
        holds("f8.npy", f64::from);
        holds("c8.npy", |n| Complex::new(f32::from(n), 0.0));
        holds("c16.npy", |n| Complex::new(f64::from(n), 0.0));
        holds("bool.npy", |n| n % 2 == 1);
        for name in ["fortran.npy", "version1.npy", "version2.npy", "version3.npy", "two.npy"] {
            holds(name, f64::from);
        }
        let builder =
            SharedData::builder().npy("f", numpy("fortran.npy")).unwrap().npy("3", numpy("fortran3.npy")).unwrap();
        let builder = builder.npy("0", numpy("scalar.npy")).unwrap().npy("empty", numpy("empty.npy")).unwrap();
        let shared = builder.build().unwrap();
        assert!(shared.array::<f64, Ix2>("f").unwrap().t().is_standard_layout());
        let three: ArrayView3<'_, i32> = shared.array("3").unwrap();
        assert_eq!(three, Array::from_shape_fn((2, 3, 4), |(i, j, k)| (12 * i + 4 * j + k) as i32));
        let zero: ArrayView0<'_, f64> = shared.array("0").unwrap();
        assert_eq!(zero.into_scalar(), &2.5);
        assert_eq!(shared.array::<f64, Ix2>("empty").unwrap().dim(), (0, 3));
        assert_eq!(shared.bytes(), 6 * 8 + 24 * 4 + 8);
    }

    #[test]
    fn files_of_numpy_that_will_not_do_say_how_to_save_them() {
        let cases = [
            (
                "bad_endian.npy",
                "holds numbers in the other byte order ('>f8'); save it as `np.save(path, x.astype('<f8'))`",
            ),
            (
                "bad_object.npy",
                "holds Python objects ('|O'); if they are numbers, save it as `np.save(path, x.astype('<f8'))`",
            ),
            (
                "bad_records.npy",
                "holds records, with more than one element type; save each field by itself: `np.save(path, x['größe'])`",
            ),
            (
                "bad_strings.npy",
                "holds strings ('<U2'); share them as a value: `.value(key, &strings)` with a `Vec<String>`",
            ),
            ("bad_half.npy", "holds floats of half precision ('<f2'); save it as `np.save(path, x.astype('<f4'))`"),
            (
                "bad_long.npy",
                "holds floats of extended precision ('<f16'); save it as `np.save(path, x.astype('<f8'))`",
            ),
            ("bad_dates.npy", "holds dates or times ('<M8[ns]'); save it as `np.save(path, x.astype('<i8'))`"),
            (
                "bad_archive.npz",
                "is an archive of arrays (.npz); save each array by itself: `np.save(path, archive['name'])`",
            ),
            ("make.py", "is no NumPy file; make one with `np.save(path, x)`"),
        ];
        for (name, reason) in cases {
            let path = numpy(name);
            let error = SharedData::builder().npy("w", &path).err().expect(name);
            assert_eq!(error.to_string(), format!("shared data \"w\": {} {reason}", path.display()));
        }
        let missing = SharedData::builder().npy("w", numpy("missing.npy")).err().unwrap();
        assert!(missing.to_string().starts_with("could not open ") && missing.to_string().ends_with("missing.npy"));
        let folder = SharedData::builder().npy("w", numpy("")).err().unwrap();
        assert!(folder.to_string().ends_with("is no NumPy file; make one with `np.save(path, x)`"), "{folder}");
    }

    /// A file like NumPy's with two elements, which start at a multiple of 64 and `shift` bytes.
    fn handmade(dir: &Path, descr: &str, shift: usize, elements: &[u8]) -> PathBuf {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
        let len = (10 + text.len()).next_multiple_of(64) + shift - 10;
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((len as u16).to_le_bytes());
        bytes.extend(format!("{text:len$}").as_bytes());
        bytes.extend(elements);
        let path = dir.join("handmade.npy");
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn elements_at_odd_places_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let elements: Vec<u8> = [1.5f64, -2.5].iter().flat_map(|x| x.to_ne_bytes()).collect();
        for shift in 0..9 {
            let path = handmade(dir.path(), "=f8", shift, &elements);
            let shared = SharedData::builder().npy("w", path).unwrap().build().unwrap();
            let view: ArrayView1<'_, f64> = shared.array("w").unwrap();
            assert_eq!(view, array![1.5, -2.5]);
            assert!(view.as_ptr().is_aligned());
        }
    }

    #[test]
    fn booleans_from_outside_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let good = SharedData::builder().npy("w", handmade(dir.path(), "|b1", 0, &[1, 0])).unwrap().build().unwrap();
        assert_eq!(good.array::<bool, _>("w").unwrap(), array![true, false]);
        drop(good);
        let error = SharedData::builder().npy("w", handmade(dir.path(), "|b1", 0, &[1, 2])).err().unwrap();
        assert!(error.to_string().contains("holds booleans that are neither 0 nor 1"), "{error}");
    }

    #[test]
    fn a_file_that_is_written_to_is_noticed_and_one_that_is_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let elements: Vec<u8> = [1i64, 2].iter().flat_map(|x| x.to_ne_bytes()).collect();
        let path = handmade(dir.path(), "=i8", 0, &elements);
        let is_clone = Foreign::open("w", &path).unwrap().watch.is_clone;
        let shared = SharedData::builder().npy("w", &path).unwrap().build().unwrap();
        let read = || shared.array::<i64, Ix1>("w").unwrap().to_vec();
        shared.check_unchanged().unwrap();
        assert_eq!(read(), [1, 2]);

        let moved = dir.path().join("moved.npy");
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "another").unwrap();
        shared.check_unchanged().unwrap();
        assert_eq!(read(), [1, 2]);

        std::thread::sleep(std::time::Duration::from_millis(20));
        let file = File::options().append(true).open(&moved).unwrap();
        std::io::Write::write_all(&mut &file, b"more").unwrap();
        if is_clone {
            fs::write(&moved, "").unwrap();
            shared.check_unchanged().unwrap();
            assert_eq!(read(), [1, 2]);
            return;
        }
        let text = shared.check_unchanged().unwrap_err().to_string();
        assert!(text.contains("was changed while it was in use") && text.contains("handmade.npy"), "{text}");
        fs::write(&moved, "").unwrap();
        assert!(shared.check_unchanged().is_err());
    }
}
