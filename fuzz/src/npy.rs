//! NumPy files, whatever is in them.

use std::{fs, path::PathBuf};

use distfun_core::shared_data::{Element, SharedData};
use ndarray::{ArrayViewD, IxDyn};
use num_complex::Complex;

use crate::shared_image::touch;

thread_local! {
    /// The file is written anew every time.
    static DIR: tempfile::TempDir = tempfile::tempdir().expect("a place for a file");
}

/// `data` is the file.
///
/// # Panics
/// If a file is let through that holds something else than it says.
pub fn check(data: &[u8]) {
    let path = DIR.with(|dir| dir.path().join("x.npy"));
    fs::write(&path, data).expect("a place for a file");
    let shared = match SharedData::builder().npy("x", &path).and_then(|builder| builder.build()) {
        Ok(shared) => shared,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let bytes = shared.bytes();
    assert!(bytes <= data.len() as u64);
    let found = [
        sum::<bool>(&shared),
        sum::<u8>(&shared),
        sum::<u16>(&shared),
        sum::<u32>(&shared),
        sum::<u64>(&shared),
        sum::<i8>(&shared),
        sum::<i16>(&shared),
        sum::<i32>(&shared),
        sum::<i64>(&shared),
        sum::<f32>(&shared),
        sum::<f64>(&shared),
        sum::<Complex<f32>>(&shared),
        sum::<Complex<f64>>(&shared),
    ];
    assert_eq!(found.iter().flatten().collect::<Vec<_>>(), [&bytes], "it has one type, and all of it can be read");
    shared.check_unchanged().expect("nobody has touched the file");
    assert!(shared.image().len() >= bytes);
}

/// Reads all of it, if it has this type; how many bytes it has.
fn sum<T: Element>(shared: &SharedData) -> Option<u64> {
    let view: ArrayViewD<'_, T> = shared.array::<T, IxDyn>("x").ok()?;
    let len = view.len();
    assert_eq!(touch(view), len);
    Some((len * size_of::<T>()) as u64)
}

/// Files of NumPy's own.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../core/testdata/npy");
    let files = fs::read_dir(folder).expect("the files that core's tests read");
    let mut seeds: Vec<_> = files
        .filter_map(|file| fs::read(file.ok()?.path()).ok())
        .filter(|bytes| bytes.starts_with(b"\x93NUMPY"))
        .collect();
    let short = b"\x93NUMPY\x01\0\x36\0{'descr': '<f8', 'fortran_order': True, 'shape': (2,)}";
    seeds.push([&short[..], &[0; 16]].concat());
    seeds
}
