//! Shared data that comes from a peer, with the digest that it really has: all of it can be read, or it is refused.

use std::collections::BTreeMap;

use distfun_core::shared_data::{BlobFile, SharedData, SharedDataError, Storage};
use ndarray::{ArrayD, ArrayViewD, Ix1, Ix2, IxDyn, array};
use num_complex::Complex;

use crate::{input::Input, payload::Tree};

/// Where the header has the size of the directory, and of the whole.
const DIRECTORY: usize = 16;
const TOTAL: usize = 24;
const HEADER: usize = 32;

/// `data` is how the image comes, and the image. If its first byte is odd the header is put right before.
///
/// # Panics
/// If what is let through can't be read, or is not what came.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let (mode, piece) = (input.byte(), usize::from(input.byte()));
    let mut image = input.0.to_vec();
    if mode & 1 != 0 && image.len() >= HEADER {
        let total = image.len() as u64;
        image[..DIRECTORY].copy_from_slice(b"distfun\0\x01\0\0\0\0\0\0\0");
        image[DIRECTORY + 3..TOTAL].fill(0);
        image[TOTAL..HEADER].copy_from_slice(&total.to_le_bytes());
    }
    match receive(&image, piece + 1) {
        Ok(shared) => read_all(&shared, &image),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn receive(image: &[u8], piece: usize) -> Result<SharedData, SharedDataError> {
    let mut file = BlobFile::create(image.len() as u64, Some(Storage::Memory), None)?;
    // A few small ones, then what is left.
    let (start, rest) = image.split_at(image.len().min(4 * piece));
    for piece in start.chunks(piece).chain([rest]) {
        let at = file.written();
        file.write_at(at, piece)?;
    }
    file.finish(*blake3::hash(image).as_bytes())
}

fn read_all(shared: &SharedData, image: &[u8]) {
    for key in shared.keys() {
        macro_rules! arrays {
            ($($element:ty),*) => {$(
                if let Ok(view) = shared.array::<$element, IxDyn>(key) {
                    let view: ArrayViewD<'_, $element> = view;
                    let len = view.len();
                    assert_eq!(touch(view), len);
                }
            )*};
        }
        arrays!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64, bool, Complex<f32>, Complex<f64>);
        let _ = (shared.array::<f64, Ix1>(key).is_ok(), shared.array::<bool, Ix2>(key).is_ok());
        let _ = (shared.value::<String>(key).is_ok(), shared.value::<Tree>(key).is_ok());
        let _ = shared.value::<BTreeMap<String, Vec<u32>>>(key).is_ok();
        let _ = shared.value::<ArrayD<f32>>(key).is_ok();
    }
    assert_eq!(shared.digest(), (!shared.is_empty()).then(|| *blake3::hash(image).as_bytes()));
    let (sent, mut again) = (shared.image(), vec![0; image.len() + 1]);
    if !shared.is_empty() {
        assert_eq!((sent.len(), sent.read(0, &mut again)), (image.len() as u64, image.len()));
        assert_eq!(&again[..image.len()], image);
    }
    assert!(!format!("{shared:?}").is_empty());
}

/// Reads every element; how many there are.
pub(crate) fn touch<T: Copy>(view: ArrayViewD<'_, T>) -> usize {
    view.iter().inspect(|element| _ = std::hint::black_box(**element)).count()
}

/// Images as they are sent.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (x, bools) = (array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], array![[true, false, true]]);
    let all = || -> Result<[SharedData; 3], SharedDataError> {
        let small = SharedData::builder().value("s", &"text".to_owned())?.build()?;
        let table = BTreeMap::from([("a".to_owned(), vec![1u32, 2])]);
        let values = SharedData::builder()
            .value("tree", &Tree(vec![Tree(vec![]), Tree(vec![])]))?
            .value("table", &table)?
            .value("d", &x.mapv(|x| x as f32).into_dyn())?
            .build()?;
        let big = array![[u128::MAX], [1]];
        let turned = x.t();
        let arrays = SharedData::builder()
            .array("x", &x)?
            .array("t", &turned)?
            .array("bools", &bools)?
            .array("big", &big)?
            .build()?;
        Ok([small, values, arrays])
    };
    let mut seeds = Vec::new();
    for shared in all().expect("it is small") {
        let image = shared.image();
        let bytes = image.bytes(0..image.len());
        seeds.push([&[0, 63][..], &bytes].concat());
        seeds.push([&[1, 0][..], &bytes].concat());
    }
    seeds
}
