//! Shared data through its public face.

use std::{
    fmt, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
};

use ndarray::{
    Array, Array2, ArrayView, ArrayView2, ArrayViewD, ArrayViewMut, ArrayViewMut1, ArrayViewMut2, Dimension, IxDyn,
    ShapeBuilder, array, s,
};
use num_complex::Complex;
use proptest::prelude::*;
use serde::{Deserialize, Serialize, ser::SerializeTuple};

use super::*;

const STORAGES: [Storage; 2] = [Storage::Memory, Storage::File];

/// Elements that differ from one another and from zero where the type allows it.
trait Sample: Element + PartialEq + fmt::Debug {
    fn sample(index: usize) -> Self;
}

macro_rules! sample {
    ($($element:ty: $index:ident => $value:expr),* $(,)?) => {
        $(impl Sample for $element {
            fn sample($index: usize) -> Self {
                $value
            }
        })*

        #[test]
        fn every_element_type_comes_back() {
            $(check_elements::<$element>();)*
        }
    };
}
sample! {
    u8: i => i as u8 ^ 0xa5, u16: i => i as u16 ^ 0xa5a5, u32: i => i as u32 ^ 0xa5a5_a5a5, u64: i => i as u64 ^ u64::MAX,
    u128: i => i as u128 ^ u128::MAX, i8: i => !(i as i8), i16: i => !(i as i16), i32: i => !(i as i32),
    i64: i => !(i as i64), i128: i => !(i as i128), usize: i => !i, isize: i => !(i as isize),
    f32: i => i as f32 - 0.25, f64: i => i as f64 - 0.25, bool: i => i.is_multiple_of(3),
    Complex<f32>: i => Complex::new(i as f32, -0.5), Complex<f64>: i => Complex::new(i as f64, -0.5),
}

fn sample<T: Sample, D: Dimension>(shape: impl ShapeBuilder<Dim = D>) -> Array<T, D> {
    let mut index = 0;
    Array::from_shape_simple_fn(shape, || {
        index += 1;
        T::sample(index)
    })
}

fn check_elements<T: Sample>() {
    check(sample::<T, _>((3, 5)).view());
    check(sample::<T, _>((3, 5).f()).view());
    check(sample::<T, _>(7).view());
    check(sample::<T, _>((0, 4)).view());
}

/// Shares the array in every way and reads it in every way.
fn check<T: Sample, D: Dimension>(array: ArrayView<'_, T, D>) {
    let is_f = !array.is_standard_layout() && array.t().is_standard_layout();
    for storage in STORAGES {
        let shared = SharedData::builder()
            .value("odd", &[1u8, 2, 3])
            .unwrap()
            .array("copied", &array)
            .unwrap()
            .array_with("filled", array.raw_dim().set_f(is_f), |mut view: ArrayViewMut<'_, T, D>| view.assign(&array))
            .unwrap()
            .storage(storage)
            .build()
            .unwrap();
        assert_eq!(shared.storage(), storage);
        for key in ["copied", "filled"] {
            let view: ArrayView<'_, T, D> = shared.array(key).unwrap();
            assert_eq!(view, array, "{key}");
            assert_eq!(view.as_ptr().addr() % layout::ALIGNMENT, 0);
            assert!(if is_f { view.t().is_standard_layout() } else { view.is_standard_layout() });
            let dynamic: ArrayViewD<'_, T> = shared.array(key).unwrap();
            assert_eq!(dynamic, array.view().into_dyn());
        }
    }
}

#[test]
fn every_number_of_axes_and_every_layout_comes_back() {
    check(sample::<f64, _>(()).view());
    check(sample::<f64, _>(5).view());
    check(sample::<f64, _>((2, 3)).view());
    check(sample::<f64, _>((2, 3, 4)).view());
    check(sample::<f64, _>((2, 3, 4).f()).view());
    check(sample::<f64, _>((2, 3, 2, 2)).view());
    check(sample::<f64, _>((2, 1, 2, 2, 3).f()).view());
    check(sample::<f64, _>((2, 1, 2, 2, 1, 3)).view());
    check(sample::<f64, _>(IxDyn(&[2, 1, 2, 1, 2, 1, 2, 3])).view());
    check(sample::<f64, _>(IxDyn(&[2, 2, 2, 3]).f()).view());
    let wide = sample::<i32, _>((6, 8));
    check(wide.slice(s![..;2, 1..;3]));
    check(wide.slice(s![..;-1, ..]));
    check(wide.slice(s![.., ..;-1]));
    check(wide.t());
    check(wide.t().slice(s![1..3, ..]));
    check(wide.column(3));
    check(wide.broadcast((3, 6, 8)).unwrap());
    let mut turned = sample::<u16, _>((2, 3, 4));
    turned.swap_axes(0, 1);
    check(turned.view());
}

proptest! {
    #[test]
    fn any_view_comes_back(
        (rows, columns) in (0usize..9, 0usize..9),
        steps in (prop_oneof![-3isize..0, 1isize..4], prop_oneof![-3isize..0, 1isize..4]),
        column_major: bool,
        turned: bool,
    ) {
        let array: Array2<u16> = sample((rows, columns).set_f(column_major));
        let mut view = array.slice(s![..;steps.0, ..;steps.1]);
        if turned {
            view.swap_axes(0, 1);
        }
        check(view);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Config {
    name: String,
    rates: Vec<f64>,
    inner: Option<Box<Config>>,
}

fn config() -> Config {
    let inner = Config { name: String::new(), rates: vec![], inner: None };
    Config { name: "ün".to_owned(), rates: vec![0.5, f64::MIN], inner: Some(Box::new(inner)) }
}

#[test]
fn values_come_back_decoded_once() {
    let shared = SharedData::builder().value("config", &config()).unwrap().value("unit", &()).unwrap().build().unwrap();
    let first: &Config = shared.value("config").unwrap();
    assert_eq!(first, &config());
    assert_eq!(shared.value::<()>("unit").unwrap(), &());
    let again = shared.clone();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(std::ptr::eq(again.value::<Config>("config").unwrap(), first)));
        }
    });
}

#[test]
fn many_threads_read_at_once() {
    let array: Array2<f64> = sample((100, 100));
    let shared = SharedData::builder().array("w", &array).unwrap().value("n", &7u32).unwrap().build().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let w: ArrayView2<'_, f64> = shared.array("w").unwrap();
                    assert_eq!(w.sum(), array.sum());
                    assert_eq!(shared.value::<u32>("n").unwrap(), &7);
                }
            });
        }
    });
}

#[test]
fn what_is_there_can_be_asked() {
    let w: Array2<f64> = sample((2, 3));
    let shared = SharedData::builder().value("z", &1u8).unwrap().array("w", &w).unwrap().build().unwrap();
    assert_eq!(shared.keys().collect::<Vec<_>>(), ["w", "z"]);
    assert_eq!((shared.len(), shared.is_empty(), shared.bytes()), (2, false, 49));
    let text = format!("{shared:?}");
    assert_eq!(text, r#"SharedData {"w": an array of f64 with shape [2, 3], 48 B, "z": a value of type u8, 1 B}"#);
}

#[test]
fn nothing_at_all_can_be_shared() {
    for shared in [SharedData::default(), SharedData::builder().build().unwrap()] {
        assert_eq!((shared.len(), shared.is_empty(), shared.bytes(), shared.keys().count()), (0, true, 0, 0));
        assert_eq!(format!("{shared:?}"), "SharedData {}");
        let error = shared.array::<f64, ndarray::Ix1>("w").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"there is no shared data "w": nothing is shared; give the call some with .shared_data(…)"#
        );
        shared.check_unchanged().unwrap();
    }
    let shared = SharedData::builder().value("", &1u8).unwrap().build().unwrap();
    assert_eq!(shared.value::<u8>("").unwrap(), &1, "an empty key is a key");
}

#[test]
fn handles_cross_threads() {
    fn holds<T: Send + Sync + Clone + Default + fmt::Debug + 'static>() {}
    holds::<SharedData>();
    fn is_error<T: std::error::Error + Send + Sync + Clone + Serialize + serde::de::DeserializeOwned + 'static>() {}
    is_error::<SharedDataError>();
}

#[test]
fn fills_run_in_the_order_given_over_zeros() {
    let order = std::cell::RefCell::new(vec![]);
    let builder = SharedData::builder()
        .array_with("b", 3, |view: ArrayViewMut1<'_, f64>| {
            assert_eq!(view, array![0.0, 0.0, 0.0]);
            order.borrow_mut().push("b");
        })
        .unwrap()
        .array_with("a", 2, |mut view: ArrayViewMut1<'_, bool>| {
            view[1] = true;
            order.borrow_mut().push("a");
        })
        .unwrap();
    assert!(order.borrow().is_empty());
    let shared = builder.build().unwrap();
    assert_eq!(*order.borrow(), ["b", "a"]);
    assert_eq!(shared.array::<bool, _>("a").unwrap(), array![false, true]);
}

#[test]
fn errors_say_what_is_there_and_what_to_do() {
    let w: Array2<f64> = sample((200, 3));
    let shared =
        SharedData::builder().array("weights", &w).unwrap().value("config", &config()).unwrap().build().unwrap();
    let texts = [
        shared.array::<f64, ndarray::Ix2>("wieghts").unwrap_err(),
        shared.value::<Config>("other").unwrap_err(),
        shared.array::<f32, ndarray::Ix2>("weights").unwrap_err(),
        shared.array::<f64, ndarray::Ix1>("weights").unwrap_err(),
        shared.array::<f64, ndarray::Ix1>("config").unwrap_err(),
        shared.value::<Vec<f64>>("weights").unwrap_err(),
        shared.value::<Vec<f64>>("config").unwrap_err(),
    ]
    .map(|error| {
        assert_eq!(format!("{error:?}"), error.to_string());
        error.to_string()
    });
    let expected = [
        r#"there is no shared data "wieghts", perhaps "weights"; there are "config", "weights""#,
        r#"there is no shared data "other"; there are "config", "weights""#,
        r#"shared data "weights" is an array of f64 with shape [200, 3] and was asked for as one of f32: ask for `ArrayView2<f64>`"#,
        r#"shared data "weights" is an array of f64 with shape [200, 3] and was asked for with 1 axis: ask for `ArrayView2<f64>`"#,
        r#"shared data "config" is a value of type distfun_core::shared_data::tests::Config and was asked for as an array: read it with `value("config")`"#,
        r#"shared data "weights" is an array of f64 with shape [200, 3] and was asked for as a value: read it with `array("weights")`"#,
        r#"shared data "config" is a value of type distfun_core::shared_data::tests::Config and was asked for as alloc::vec::Vec<f64>"#,
    ];
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(text, expected);
    }
}

#[test]
fn many_keys_are_counted_and_not_all_listed() {
    let mut builder = SharedData::builder();
    for index in 0..12 {
        builder = builder.value(format!("key {index:02}"), &index).unwrap();
    }
    let text = builder.build().unwrap().value::<u8>("something else").unwrap_err().to_string();
    assert!(text.ends_with(r#"; there are "key 00", "key 01", "key 02", "key 03", "key 04", "key 05", "key 06", "key 07", "key 08", "key 09" and 2 more"#), "{text}");
}

#[test]
fn a_key_is_given_once() {
    let w = array![1.0];
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/npy/f8.npy");
    let builder = || SharedData::builder().array("w", &w).unwrap().npy("n", &file).unwrap();
    for error in [
        builder().array("w", &w).err(),
        builder().value("w", &1).err(),
        builder().npy("w", &file).err(),
        builder().array_with("n", 3, |_: ArrayViewMut1<'_, u8>| ()).err(),
        builder().npy("n", &file).err(),
    ] {
        assert!(matches!(&error, Some(SharedDataError::Twice { .. })), "{error:?}");
    }
    let text = builder().value("w", &1).err().unwrap().to_string();
    assert_eq!(text, r#"shared data "w" is given twice: give each its own key"#);
}

#[test]
fn values_that_cannot_come_back_are_refused_when_given() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
    }
    #[derive(Serialize, Deserialize)]
    struct Sparse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u8>,
        second: u8,
    }
    #[derive(Serialize, Deserialize)]
    struct HalfRead {
        first: u8,
        #[serde(skip_deserializing)]
        second: u8,
    }
    let half_read = SharedData::builder().value("v", &HalfRead { first: 1, second: 2 }).err().unwrap();
    assert!(format!("{half_read:?}").ends_with("1 of 2 bytes are left over"), "{half_read:?}");
    let untagged = SharedData::builder().value("v", &Either::Number(1)).err().unwrap();
    let sparse = SharedData::builder().value("v", &Sparse { first: None, second: 1 }).err().unwrap();
    for error in [untagged, sparse, half_read] {
        let text = error.to_string();
        assert!(text.starts_with(r#"shared data "v" of type "#) && text.contains("can't be read back"), "{text}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

/// An image from a peer that holds such a value ended the process when somebody asked for the value.
#[test]
fn values_nested_without_end_are_an_error() {
    #[derive(Deserialize)]
    struct Chain {
        _next: Option<Box<Chain>>,
    }
    /// Written as a chain of 300,000 links would be.
    impl Serialize for Chain {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut bytes = serializer.serialize_tuple(300_000)?;
            (0..300_000).try_for_each(|_| bytes.serialize_element(&1u8))?;
            bytes.end()
        }
    }
    let error = SharedData::builder().value("v", &Chain { _next: None }).err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("values are nested too deeply"), "{source}");
}

#[test]
fn shapes_beyond_memory_are_errors() {
    let huge = [(usize::MAX, 2), (usize::MAX / 8, 1), (0, usize::MAX)];
    for shape in huge {
        let error = SharedData::builder().array_with("w", shape, |_: ArrayViewMut2<'_, f64>| ()).err().unwrap();
        assert!(error.to_string().ends_with("is larger than any memory"), "{error}");
    }
    let half = (isize::MAX as usize / 16, 1);
    let builder = SharedData::builder().array_with("a", half, |_: ArrayViewMut2<'_, f64>| ()).unwrap();
    let builder = builder.array_with("b", half, |_: ArrayViewMut2<'_, f64>| ()).unwrap();
    assert!(builder.build().is_err());
}

/// A directory of its own for a test, removed with it.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().count() == 0
}

#[test]
fn nothing_is_ever_seen_in_the_directory() {
    let dir = folder();
    let seen = |_: ArrayViewMut1<'_, f64>| assert!(is_empty(dir.path()));
    let builder = || SharedData::builder().storage(Storage::File).dir(dir.path());
    let shared = builder().array_with("w", 1000, seen).unwrap().build().unwrap();
    assert_eq!(shared.storage(), Storage::File);
    assert!(is_empty(dir.path()));
    drop(shared);
    assert!(is_empty(dir.path()));

    let panicking = |_: ArrayViewMut1<'_, f64>| panic!("in the fill");
    let builder = builder().array_with("w", 1000, panicking).unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| builder.build())).expect_err("the panic passes through");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"in the fill"));
    assert!(is_empty(dir.path()));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let missing = folder().path().join("gone");
    let error = SharedData::builder().value("v", &1).unwrap().storage(Storage::File).dir(&missing).build().unwrap_err();
    assert!(error.to_string().ends_with(missing.to_str().unwrap()), "{error}");
    assert!(format!("{error:?}").contains("No such file"), "{error:?}");
}
