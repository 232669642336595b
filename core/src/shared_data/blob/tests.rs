//! From shared data to bytes, and back on what might be another machine.

use std::{fs, path::Path};

use ndarray::{Array, Array2, ArrayView2, ArrayViewD, Ix1, Ix2, ShapeBuilder, array};
use proptest::prelude::*;

use super::*;
use crate::shared_data::Image;

/// All bytes, by every way of reading them.
fn all(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; image.len() as usize + 5];
    let count = image.read(0, &mut bytes);
    bytes.truncate(count);
    assert_eq!(count as u64, image.len());
    assert_eq!(image.slices(0..u64::MAX).collect::<Vec<_>>().concat(), bytes);
    assert_eq!(image.bytes(0..image.len()), bytes);
    bytes
}

fn receive(bytes: &[u8], storage: Storage, piece: usize) -> Result<SharedData, SharedDataError> {
    let mut file = BlobFile::create(bytes.len() as u64, Some(storage), None)?;
    for piece in bytes.chunks(piece) {
        file.write_at(file.written(), piece)?;
    }
    file.finish(*blake3::hash(bytes).as_bytes())
}

/// Receives whatever it is, and reads all there is in it.
fn open_hostile(bytes: &[u8]) -> Result<(), SharedDataError> {
    let shared = receive(bytes, Storage::Memory, 1 << 20)?;
    for key in shared.keys() {
        let _ = shared.array::<f64, Ix2>(key);
        let _ = shared.value::<String>(key);
        let _: Result<ArrayViewD<'_, bool>, _> = shared.array(key);
    }
    assert_eq!(all(&shared.image()), bytes);
    let _ = format!("{shared:?}");
    Ok(())
}

fn numpy(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/npy").join(name)
}

fn example() -> SharedData {
    let x = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let bools = array![true, false, true];
    let builder = SharedData::builder().array("x", &x).unwrap().value("name", &"text".to_owned()).unwrap();
    builder.array("bools", &bools).unwrap().build().unwrap()
}

#[test]
fn an_image_of_one_file_is_that_file_and_travels() {
    let shared = example();
    let bytes = all(&shared.image());
    assert_eq!(bytes, shared.0.file.as_ref().unwrap().bytes());
    assert_eq!(shared.image().slices(0..bytes.len() as u64).count(), 1);
    for storage in [Storage::Memory, Storage::File] {
        let there = receive(&bytes, storage, 7).unwrap();
        assert_eq!(there.storage(), storage);
        assert_eq!(there.array::<f64, Ix2>("x").unwrap(), shared.array::<f64, Ix2>("x").unwrap());
        assert_eq!(there.array::<bool, Ix1>("bools").unwrap(), array![true, false, true]);
        assert_eq!(there.value::<String>("name").unwrap(), "text");
        assert_eq!(there.digest(), shared.digest());
        assert_eq!(all(&there.image()), bytes);
        assert!(there.id() != shared.id() && there.id() != 0);
    }
}

#[test]
fn equal_data_has_an_equal_name_and_other_data_another() {
    assert_eq!(example().digest(), example().digest());
    assert_eq!(example().digest(), Some(*blake3::hash(&all(&example().image())).as_bytes()));
    let other = SharedData::builder().value("name", &"text".to_owned()).unwrap().build().unwrap();
    assert_ne!(example().digest(), other.digest());
    assert_eq!(SharedData::default().digest(), None);
}

#[test]
fn nothing_at_all_travels_too() {
    for shared in [SharedData::default(), SharedData::builder().build().unwrap()] {
        let bytes = all(&shared.image());
        assert!(receive(&bytes, Storage::Memory, 64).unwrap().is_empty());
    }
}

#[test]
fn mapped_numpy_files_are_sections_like_others() {
    let x = array![1u8, 2, 3];
    let build = || {
        let builder = SharedData::builder().npy("c", numpy("fortran.npy")).unwrap().array("b", &x).unwrap();
        let builder = builder.npy("a", numpy("bool.npy")).unwrap().npy("e", numpy("empty.npy")).unwrap();
        builder.value("name", &"text".to_owned()).unwrap().build().unwrap()
    };
    let shared = build();
    let bytes = all(&shared.image());
    assert_eq!(shared.digest(), build().digest());
    let there = receive(&bytes, Storage::Memory, 1000).unwrap();
    assert_eq!(there.keys().collect::<Vec<_>>(), ["a", "b", "c", "e", "name"]);
    assert_eq!(there.array::<f64, Ix2>("c").unwrap(), shared.array::<f64, Ix2>("c").unwrap());
    assert!(there.array::<f64, Ix2>("c").unwrap().t().is_standard_layout());
    assert_eq!(there.array::<bool, Ix2>("a").unwrap(), shared.array::<bool, Ix2>("a").unwrap());
    assert_eq!(there.array::<f64, Ix2>("e").unwrap().dim(), (0, 3));
    assert_eq!((there.digest(), all(&there.image())), (shared.digest(), bytes));

    let only = SharedData::builder().npy("c", numpy("f8.npy")).unwrap().build().unwrap();
    let there = receive(&all(&only.image()), Storage::Memory, 1000).unwrap();
    assert_eq!(there.array::<f64, Ix2>("c").unwrap(), only.array::<f64, Ix2>("c").unwrap());
}

#[test]
fn bytes_of_an_image_keep_the_data() {
    let shared = example();
    let weak = shared.downgrade();
    let expected = all(&shared.image());
    let bytes = shared.image().bytes(10..50);
    let at = shared.0.file.as_ref().unwrap().bytes()[10..].as_ptr();
    assert_eq!(bytes.as_ptr(), at, "without a copy");
    drop(shared);
    assert!(weak.upgrade().is_some());
    assert_eq!(bytes, expected[10..50]);
    drop(bytes);
    assert!(weak.upgrade().is_none());
}

#[test]
fn ranges_outside_of_an_image_are_empty() {
    let image = example().image();
    let len = image.len();
    #[allow(clippy::reversed_empty_ranges)]
    for range in [len..len + 1, u64::MAX - 1..u64::MAX, 5..5, 9..2] {
        assert!(image.bytes(range.clone()).is_empty(), "{range:?}");
        assert_eq!(image.slices(range).count(), 0);
    }
    assert_eq!(image.bytes(len - 1..u64::MAX).len(), 1);
    assert_eq!(image.read(u64::MAX, &mut [0; 4]), 0);
}

#[test]
fn pieces_follow_one_another() {
    let mut file = BlobFile::create(100, None, None).unwrap();
    assert_eq!((file.total(), file.written()), (100, 0));
    file.write_at(0, &[1; 40]).unwrap();
    file.write_at(20, &[2; 10]).unwrap();
    assert_eq!(file.written(), 40);
    for (offset, len) in [(41, 1), (40, 61), (u64::MAX, 1), (u64::MAX, 0), (0, 101)] {
        let error = file.write_at(offset, &vec![0; len]).unwrap_err();
        assert!(error.to_string().ends_with("do not belong behind 40 of 100"), "{error}");
    }
    assert_eq!(file.written(), 40);
    let error = file.finish([0; 32]).unwrap_err();
    assert_eq!(error.to_string(), "shared data is damaged: 40 of 100 bytes are there");
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    for total in [0, 31] {
        assert!(matches!(BlobFile::create(total, None, None), Err(SharedDataError::Damaged { .. })), "{total}");
    }
    assert!(BlobFile::create(u64::MAX, None, None).is_err());
    assert!(BlobFile::create(1 << 60, None, None).is_err());
}

#[test]
fn other_bytes_than_those_named_are_refused() {
    let mut bytes = all(&example().image());
    let digest = example().digest().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let mut file = BlobFile::create(bytes.len() as u64, None, None).unwrap();
    file.write_at(0, &bytes).unwrap();
    let error = file.finish(digest).unwrap_err();
    assert!(error.to_string().contains("its hash is "), "{error}");
}

#[test]
fn every_byte_from_a_peer_may_be_wrong() {
    let bytes = all(&example().image());
    open_hostile(&bytes).unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let _ = open_hostile(&bytes);
        }
    }
    for len in 0..bytes.len() {
        assert!(open_hostile(&bytes[..len]).is_err(), "{len}");
    }
    let mut other = bytes.clone();
    other[10] ^= 1;
    let text = open_hostile(&other).unwrap_err().to_string();
    assert_eq!(text, "shared data is damaged: it was made on a machine with another byte order");
    let mut other = bytes;
    *other.last_mut().unwrap() = 2;
    let text = open_hostile(&other).unwrap_err().to_string();
    assert_eq!(text, r#"shared data is damaged: the section of "bools" is not bool"#);
}

#[test]
#[cfg(target_os = "linux")]
fn a_kept_file_is_mapped_where_it_lies() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blob");
    let shared = example();
    fs::write(&path, all(&shared.image())).unwrap();
    let open = || SharedData::from_kept_file(File::open(&path).unwrap(), shared.digest().unwrap());
    let error = format!("{:?}", open().unwrap_err());
    assert!(error.ends_with("somebody may write to it"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let there = open().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(there.array::<f64, Ix2>("x").unwrap(), shared.array::<f64, Ix2>("x").unwrap());
    assert_eq!((there.digest(), there.storage()), (shared.digest(), Storage::File));

    let short = dir.path().join("short");
    fs::write(&short, b"").unwrap();
    fs::set_permissions(&short, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(SharedData::from_kept_file(File::open(&short).unwrap(), [0; 32]).is_err());
    assert!(SharedData::from_kept_file(File::open(dir.path()).unwrap(), [0; 32]).is_err());
}

/// A thing to be shared.
#[derive(Debug, Clone)]
enum Thing {
    C(usize, usize),
    F(usize, usize),
    Bools(usize),
    Value(String),
    Npy,
}

fn things() -> impl Strategy<Value = Vec<Thing>> {
    let thing = prop_oneof![
        (0usize..5, 0usize..40).prop_map(|(rows, columns)| Thing::C(rows, columns)),
        (0usize..5, 0usize..40).prop_map(|(rows, columns)| Thing::F(rows, columns)),
        (0usize..200).prop_map(Thing::Bools),
        ".{0,20}".prop_map(Thing::Value),
        Just(Thing::Npy),
    ];
    prop::collection::vec(thing, 0..6)
}

fn build(things: &[Thing]) -> SharedData {
    let mut builder = SharedData::builder();
    for (index, thing) in things.iter().enumerate() {
        let key = format!("{}{index}", index % 3);
        let element = |(i, j): (usize, usize)| (31 * i + j) as f64 + index as f64;
        builder = match thing {
            Thing::C(rows, columns) => {
                let array = Array2::from_shape_fn((*rows, *columns), element);
                builder.array_with(key, (*rows, *columns), move |mut view| view.assign(&array)).unwrap()
            }
            Thing::F(rows, columns) => {
                let array = Array2::from_shape_fn((*rows, *columns), element);
                builder.array_with(key, (*rows, *columns).f(), move |mut view| view.assign(&array)).unwrap()
            }
            Thing::Bools(len) => {
                let array = Array::from_shape_fn(*len, |i| i % 3 == 0);
                builder.array_with(key, *len, move |mut view| view.assign(&array)).unwrap()
            }
            Thing::Value(text) => builder.value(key, text).unwrap(),
            Thing::Npy => builder.npy(key, numpy("f8.npy")).unwrap(),
        };
    }
    builder.build().unwrap()
}

proptest! {
    #[test]
    fn any_shared_data_travels(things in things(), piece in 1usize..500) {
        let shared = build(&things);
        let bytes = all(&shared.image());
        prop_assert_eq!(shared.digest(), build(&things).digest());
        let there = receive(&bytes, Storage::Memory, piece).unwrap();
        prop_assert_eq!(format!("{there:?}"), format!("{shared:?}"));
        prop_assert_eq!(there.digest(), shared.digest());
        prop_assert_eq!(all(&there.image()), bytes);
        for (index, thing) in things.iter().enumerate() {
            let key = format!("{}{index}", index % 3);
            match thing {
                Thing::C(..) | Thing::F(..) | Thing::Npy => {
                    let (ours, theirs): (ArrayView2<'_, f64>, ArrayView2<'_, f64>) =
                        (shared.array(&key).unwrap(), there.array(&key).unwrap());
                    prop_assert_eq!(ours.strides(), theirs.strides());
                    prop_assert_eq!(ours, theirs);
                }
                Thing::Bools(_) => {
                    prop_assert_eq!(shared.array::<bool, Ix1>(&key).unwrap(), there.array::<bool, Ix1>(&key).unwrap());
                }
                Thing::Value(text) => prop_assert_eq!(there.value::<String>(&key).unwrap(), text),
            }
        }
    }

    #[test]
    fn any_range_of_an_image_is_that_range(things in things(), from in 0u64..2000, len in 0u64..2000) {
        let image = build(&things).image();
        let bytes = all(&image);
        let (from, to) = (from.min(image.len()), (from + len).min(image.len()));
        let expected = &bytes[from as usize..to.max(from) as usize];
        prop_assert_eq!(&image.bytes(from..to)[..], expected);
        prop_assert_eq!(image.slices(from..to).collect::<Vec<_>>().concat(), expected);
        let mut buffer = vec![0; expected.len()];
        prop_assert_eq!(image.read(from, &mut buffer), expected.len());
        prop_assert_eq!(&buffer[..], expected);
    }

    #[test]
    fn hostile_images_never_panic(things in things(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
        let mut bytes = all(&build(&things).image());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = open_hostile(&bytes);
        let _ = open_hostile(&bytes[..cut.index(bytes.len())]);
    }
}
