use std::{collections::BTreeMap, fmt::Debug};

use ndarray::{Array, Array1, Array2, Array3, ArrayD, Dimension, IxDyn, ShapeBuilder, s};
use num_complex::Complex;
use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{form::LARGE_BYTES, *};

/// Packs in both ways and unpacks.
fn check<A>(items: &[A])
where
    A: Serialize + DeserializeOwned + Send + Clone + PartialEq + Debug + 'static,
{
    let copied = pack_slice(items).unwrap();
    let packed = pack_list(items.to_vec()).unwrap();
    let sections = |parcel: &Parcel| {
        parcel.sections.iter().map(|section| (section.element, section.bytes.clone())).collect::<Vec<_>>()
    };
    assert_eq!(packed.parcel.head, copied.head);
    assert!(sections(&packed.parcel) == sections(&copied));
    assert!(copied.head.len() <= MAX_HEAD_BYTES);
    assert!(copied.sections.iter().all(|section| !section.bytes.is_empty()));
    let again: Vec<A> = unpack_list(transport(copied), items.len()).unwrap();
    assert!(again == items);
    let again: Vec<A> = unpack_list(transport(packed.parcel), items.len()).unwrap();
    assert!(again == items);
    assert!(packed.kept.into_items().unwrap() == items);
    for wrong in [items.len() + 1, items.len().wrapping_sub(1), usize::MAX] {
        assert!(unpack_list::<A>(transport(pack_slice(items).unwrap()), wrong).is_err());
    }
}

macro_rules! scalars {
    ($($name:ident: $plain:ty = $strategy:expr),* $(,)?) => {proptest! {$(
        #[test]
        fn $name(items in vec($strategy, 0..200), lists in vec(vec($strategy, 0..9), 0..9)) {
            assert!(is_raw::<$plain>() && is_raw::<Vec<$plain>>());
            check::<$plain>(&items);
            check::<Vec<$plain>>(&lists);
            check(&lists.into_iter().map(Vec::into_boxed_slice).collect::<Vec<Box<[$plain]>>>());
        }
    )*}};
}
scalars! {
    u8_come_back: u8 = any::<u8>(),
    u16_come_back: u16 = any::<u16>(),
    u32_come_back: u32 = any::<u32>(),
    u64_come_back: u64 = any::<u64>(),
    u128_come_back: u128 = any::<u128>(),
    usize_come_back: usize = any::<usize>(),
    i8_come_back: i8 = any::<i8>(),
    i16_come_back: i16 = any::<i16>(),
    i32_come_back: i32 = any::<i32>(),
    i64_come_back: i64 = any::<i64>(),
    i128_come_back: i128 = any::<i128>(),
    isize_come_back: isize = any::<isize>(),
    f32_come_back: f32 = any::<f32>(),
    f64_come_back: f64 = any::<f64>(),
    bool_come_back: bool = any::<bool>(),
    complex_f32_come_back: Complex<f32> = any::<(f32, f32)>().prop_map(|(re, im)| Complex::new(re, im)),
    complex_f64_come_back: Complex<f64> = any::<(f64, f64)>().prop_map(|(re, im)| Complex::new(re, im)),
}

/// An array of these lengths that lies in one of several ways.
fn laid_out<D: Dimension>(axes: &[usize], way: u8) -> Array<f64, D> {
    let dimension = |axes: &[usize]| D::from_dimension(&IxDyn(axes)).unwrap();
    let count = |axes: &[usize]| axes.iter().product::<usize>();
    let numbers = |axes: &[usize]| (0..count(axes)).map(|x| x as f64).collect::<Vec<_>>();
    match way % 4 {
        0 => Array::from_shape_vec(dimension(axes), numbers(axes)).unwrap(),
        1 => Array::from_shape_vec(dimension(axes).f(), numbers(axes)).unwrap(),
        2 => {
            // Backwards.
            let mut array = Array::from_shape_vec(dimension(axes), numbers(axes)).unwrap();
            array.invert_axis(ndarray::Axis(0));
            array
        }
        _ => {
            // Every other element of the last axis.
            let mut wide = axes.to_vec();
            *wide.last_mut().unwrap() *= 2;
            let mut array: Array<f64, D> = Array::from_shape_vec(dimension(&wide), numbers(&wide)).unwrap();
            array.slice_axis_inplace(ndarray::Axis(axes.len() - 1), ndarray::Slice::new(0, None, 2));
            array
        }
    }
}

fn check_arrays<D>(axes: &[Vec<usize>], ways: &[u8])
where
    D: Dimension + Serialize + DeserializeOwned + 'static,
{
    let arrays: Vec<Array<f64, D>> = axes.iter().zip(ways).map(|(axes, way)| laid_out(axes, *way)).collect();
    assert!(is_raw::<Array<f64, D>>());
    check(&arrays);
    let again: Vec<Array<f64, D>> = unpack_list(transport(pack_slice(&arrays).unwrap()), arrays.len()).unwrap();
    for ((array, again), way) in arrays.iter().zip(&again).zip(ways) {
        if way % 4 < 2 && !array.is_empty() {
            assert_eq!(array.strides(), again.strides());
        }
    }
}

proptest! {
    #[test]
    fn arrays_come_back_in_their_order(
        one in vec(prop_oneof![vec(0usize..9, 1), Just(vec![2048])], 0..4), two in vec(prop_oneof![vec(0usize..9, 2), Just(vec![50, 41])], 0..4),
        three in vec(prop_oneof![vec(0usize..5, 3), Just(vec![12, 19, 9])], 0..4), any in vec(vec(0usize..6, 1..5), 0..6), ways in vec(0u8..4, 6),
    ) {
        check_arrays::<ndarray::Ix1>(&one, &ways);
        check_arrays::<ndarray::Ix2>(&two, &ways);
        check_arrays::<ndarray::Ix3>(&three, &ways);
        check_arrays::<IxDyn>(&any, &ways);
    }

    #[test]
    fn vectors_of_all_sizes_come_back(lengths in vec(prop_oneof![0usize..10, 2040usize..2060, Just(5_000)], 0..6)) {
        let items: Vec<Vec<f64>> = lengths.iter().map(|n| (0..*n).map(|x| x as f64).collect()).collect();
        check(&items);
    }

    #[test]
    fn anything_else_comes_back_by_serde(
        pairs in vec((any::<u32>(), ".{0,20}"), 0..50), options in vec(any::<Option<i64>>(), 0..50),
        tuples in vec((any::<u8>(), any::<f64>()), 0..50), nested in vec(vec(vec(any::<u16>(), 0..5), 0..5), 0..9),
    ) {
        assert!(!is_raw::<(u32, String)>() && !is_raw::<Option<i64>>());
        check(&pairs);
        check(&options);
        check(&tuples);
        check(&nested);
    }

    #[test]
    fn bits_of_nan_come_back(bits in vec(any::<u64>(), 1..50)) {
        let nans: Vec<f64> = bits.iter().map(|bits| f64::from_bits(bits | 0x7ff0_0000_0000_0001)).collect();
        let count = nans.len();
        let again: Vec<f64> = unpack_list(transport(pack_list(nans.clone()).unwrap().parcel), count).unwrap();
        assert!(again.iter().zip(&nans).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn blocks_come_back_in_their_order(rows in 0usize..15, columns in 0usize..15, from in 0usize..10, way in 0u8..4) {
        let whole: Array2<f64> = laid_out(&[rows, columns], way);
        let block = whole.slice(s![.., from.min(columns)..]);
        let again: Array2<f64> =
            unpack_matrix(transport(pack_matrix(block).unwrap()), rows, block.ncols()).unwrap();
        assert_eq!(again, block);
        if way == 1 && !block.is_empty() {
            assert!(again.t().is_standard_layout());
        } else {
            assert!(again.is_standard_layout());
        }
        let words = block.mapv(|x| (x as u8, x.to_string()));
        let again: Array2<(u8, String)> =
            unpack_matrix(transport(pack_matrix(words.view()).unwrap()), rows, block.ncols()).unwrap();
        assert_eq!(again, words);
    }

    #[test]
    fn results_come_back_in_their_order(rows in 0usize..9, columns in 0usize..60, way in 0u8..4) {
        let y: Array2<f64> = laid_out(&[rows, columns], way);
        let again: Array2<f64> = unpack_result(transport(pack_result(y.clone()).unwrap()), columns).unwrap();
        assert_eq!(again, y);
        if way < 2 && !y.is_empty() && columns > 1 && rows > 1 {
            assert_eq!(again.strides(), y.strides());
        }
        let y: Array1<String> = (0..columns).map(|x| x.to_string()).collect();
        let again: Array1<String> = unpack_result(transport(pack_result(y.clone()).unwrap()), columns).unwrap();
        assert_eq!(again, y);
        assert!(unpack_result::<Array1<String>>(transport(pack_result(y).unwrap()), columns + 1).is_err());
    }
}

#[test]
fn the_format_is_this() {
    let bytes = |parcel: Parcel| {
        let sections = parcel.sections.into_iter().map(|section| (section.element, section.bytes.to_vec()));
        (parcel.head, sections.collect::<Vec<_>>())
    };
    assert_eq!(bytes(pack_slice(&[1u16, 256]).unwrap()), (vec![], vec![(ElementType::U16, vec![1, 0, 0, 1])]));
    let vectors = [vec![1u16, 2], vec![], vec![3]];
    assert_eq!(bytes(pack_slice(&vectors).unwrap()), (vec![2, 0, 1], vec![(ElementType::U16, vec![1, 0, 2, 0, 3, 0])]));
    let columns = Array2::from_shape_vec((2, 2).f(), vec![1u8, 2, 3, 4]).unwrap();
    let section = vec![(ElementType::U8, vec![1, 2, 3, 4])];
    assert_eq!(bytes(pack_slice(std::slice::from_ref(&columns)).unwrap()), (vec![1, 2, 2, 2], section.clone()));
    assert_eq!(bytes(pack_matrix(columns.view()).unwrap()), (vec![1], section.clone()));
    assert_eq!(bytes(pack_result(columns).unwrap()), (vec![1, 2], section));
    assert_eq!(bytes(pack_slice(&[(1u32, true), (300, false)]).unwrap()), (vec![2, 1, 1, 172, 2, 0], vec![]));
}

#[test]
fn raw_structs_come_back_whole_or_not_at_all() {
    check(&[Raw(vec![[1.0f64, 2.0]; 3000]), Raw(Vec::new())]);
    // One item of three bytes.
    let received = || Received { head: vec![1, 3, 0, 0, 0], sections: Vec::new() };
    assert!(unpack_list::<Raw<[u16; 2]>>(received(), 1).is_err());
    assert!(unpack_list::<Raw<[u8; 3]>>(received(), 1).is_ok());
}

#[test]
fn units_and_empty_lists_come_back() {
    check(&[(); 100]);
    check::<()>(&[]);
    check::<f64>(&[]);
    check::<Vec<f64>>(&[]);
    check::<String>(&[]);
    check(&vec![Vec::<u8>::new(); 40_000]);
    check(&vec![Array2::<f64>::zeros((0, 7)); 3]);
    let none = Array2::<()>::from_shape_vec((3, 2), vec![(); 6]).unwrap();
    assert_eq!(unpack_result::<Array2<()>>(transport(pack_result(none.clone()).unwrap()), 2).unwrap(), none);
}

#[test]
fn a_long_head_travels_as_a_section() {
    let strings: Vec<String> = (0..10_000).map(|x| format!("item {x}")).collect();
    check(&strings);
    let parcel = pack_slice(&strings).unwrap();
    assert!(parcel.head.is_empty() && parcel.sections.len() == 1);
    let block = Array2::from_shape_vec((100, 100), strings).unwrap();
    let parcel = pack_matrix(block.view()).unwrap();
    assert!(parcel.head.len() == 1 && parcel.sections.len() == 1);
    assert_eq!(unpack_matrix::<String>(transport(parcel), 100, 100).unwrap(), block);
}

#[test]
fn what_is_large_is_not_copied() {
    let numbers: Vec<f64> = vec![1.5; 10];
    let address = numbers.as_ptr().addr();
    let packed = pack_list(numbers).unwrap();
    assert_eq!(packed.parcel.sections[0].bytes.as_ptr().addr(), address);

    let large = vec![2u16; LARGE_BYTES / 2];
    let block = Array2::<f64>::zeros((100, 100).f());
    let addresses = (large.as_ptr().addr(), block.as_ptr().addr());
    let packed = pack_list(vec![vec![1], large]).unwrap();
    let blocks = pack_list(vec![block]).unwrap();
    // The first section has what is small.
    assert_eq!(packed.parcel.sections.len(), 2);
    assert_eq!(packed.parcel.sections[1].bytes.as_ptr().addr(), addresses.0);
    assert_eq!(blocks.parcel.sections[0].bytes.as_ptr().addr(), addresses.1);

    let received = transport(packed.parcel);
    let address = received.sections[1].bytes().as_ptr().addr();
    assert_eq!(unpack_list::<Vec<u16>>(received, 2).unwrap()[1].as_ptr().addr(), address);
    let received = transport(blocks.parcel);
    let address = received.sections[0].bytes().as_ptr().addr();
    assert_eq!(unpack_list::<Array2<f64>>(received, 1).unwrap()[0].as_ptr().addr(), address);
    let received = transport(pack_slice(&[true; 100]).unwrap());
    let address = received.sections[0].bytes().as_ptr().addr();
    let booleans = unpack_list::<bool>(received, 100).unwrap();
    assert_eq!(booleans.as_ptr().addr(), address);

    let y = Array1::from_vec(vec![1u32; 100]);
    let address = y.as_ptr().addr();
    assert_eq!(pack_result(y).unwrap().sections[0].bytes.as_ptr().addr(), address);
}

#[test]
fn items_come_back_once_no_section_is_left() {
    let Packed { parcel, kept } = pack_list(vec![vec![1.0; 10_000], vec![2.0]]).unwrap();
    let kept = kept.into_items().unwrap_err();
    let section = parcel.sections[1].bytes.clone();
    drop(parcel);
    let kept = kept.into_items().unwrap_err();
    drop(section);
    assert_eq!(kept.into_items().unwrap()[1], [2.0]);
    let Packed { parcel: _alive, kept } = pack_list(vec![String::new()]).unwrap();
    assert_eq!(kept.into_items().unwrap(), [""]);
}

#[test]
fn items_that_cannot_be_encoded_are_given_back() {
    #[derive(Debug, PartialEq, Clone)]
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let (items, error) = pack_list(vec![Stubborn]).unwrap_err();
    assert!(items == [Stubborn] && matches!(error, PayloadError::Encode(_)));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

#[test]
fn nesting_without_end_is_an_error() {
    let mut chain = Chain(None);
    for _ in 0..100 {
        chain = Chain(Some(Box::new(chain)));
    }
    check(&[chain]);
    let received = Received { head: vec![1; 300_000], sections: Vec::new() };
    assert!(matches!(unpack_list::<Chain>(received, 1), Err(PayloadError::TooDeep { .. })));
}

#[test]
fn booleans_are_looked_at() {
    let received = |bytes| Received { head: Vec::new(), sections: vec![RawVec::Bool(bytes)] };
    assert!(matches!(
        unpack_list::<bool>(received(vec![0, 1, 2]), 3),
        Err(PayloadError::InvalidBool { index: 2, value: 2 })
    ));
}

#[test]
fn sections_of_another_type_missing_or_left_over_are_errors() {
    let mut received = transport(pack_slice(&[1u64, 2]).unwrap());
    let again = received.sections.clone();
    assert!(matches!(unpack_list::<u64>(received, 3), Err(PayloadError::WrongCount { expected: 3, got: 2 })));
    received = Received { head: Vec::new(), sections: again.clone() };
    assert!(matches!(unpack_list::<i64>(received, 2), Err(PayloadError::WrongSection { .. })));
    received = Received { head: vec![7], sections: again.clone() };
    assert!(matches!(unpack_list::<u64>(received, 2), Err(PayloadError::TrailingBytes(1))));
    received = Received { head: Vec::new(), sections: [again.clone(), again].concat() };
    assert!(matches!(unpack_list::<u64>(received, 2), Err(PayloadError::LeftOverSections(1))));
    assert!(matches!(unpack_list::<u64>(Received::default(), 2), Err(PayloadError::MissingSection { expected: 2 })));
}

#[test]
fn shapes_that_lie_are_errors() {
    let head = |shape: &(bool, u64)| Received { head: postcard::to_stdvec(shape).unwrap(), sections: Vec::new() };
    for rows in [2, 1 << 40, u64::MAX] {
        assert!(unpack_result::<Array1<f64>>(head(&(false, rows)), 3).is_err());
        assert!(unpack_result::<Array2<f64>>(head(&(true, rows)), 3).is_err());
        assert!(unpack_result::<Array2<()>>(head(&(true, rows)), 3).is_err());
    }
    assert!(unpack_result::<Array2<f64>>(head(&(true, u64::MAX)), 0).is_err());
    let shape = |axes: Vec<u64>| Received { head: postcard::to_stdvec(&(false, axes)).unwrap(), sections: Vec::new() };
    for axes in [vec![], vec![3], vec![1 << 40, 1 << 40], vec![0, u64::MAX], vec![u64::MAX, 2], vec![0, 1, 2]] {
        assert!(unpack_list::<Array2<f64>>(shape(axes), 1).is_err());
    }
    let length = |n: u64| Received { head: postcard::to_stdvec(&n).unwrap(), sections: Vec::new() };
    for n in [1, 1 << 20, u64::MAX] {
        assert!(unpack_list::<Vec<u8>>(length(n), 1).is_err());
        assert!(unpack_list::<Vec<u128>>(length(n), 1).is_err());
    }
    assert!(unpack_matrix::<f64>(Received { head: vec![0], sections: vec![] }, usize::MAX, 2).is_err());
    assert!(unpack_matrix::<f64>(Received { head: vec![0], sections: vec![] }, usize::MAX, 0).is_err());
    assert!(unpack_matrix::<f64>(Received::default(), 0, 0).is_err());
}

/// What a peer might do to a parcel.
#[derive(Debug, Clone)]
enum Blow {
    Cut(usize),
    Set(usize, u8),
    Insert(usize, u8),
    Drop(usize),
    Twice(usize),
    Retype(usize),
    Shorten(usize, usize),
}

fn blow() -> impl Strategy<Value = Blow> {
    let at = 0usize..64;
    prop_oneof![
        at.clone().prop_map(Blow::Cut),
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Blow::Set(at, byte)),
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Blow::Insert(at, byte)),
        at.clone().prop_map(Blow::Drop),
        at.clone().prop_map(Blow::Twice),
        at.clone().prop_map(Blow::Retype),
        (at.clone(), at).prop_map(|(at, length)| Blow::Shorten(at, length)),
    ]
}

fn struck(parcel: Parcel, blows: &[Blow]) -> Received {
    let Received { mut head, mut sections } = transport(parcel);
    for blow in blows {
        let (bytes, count) = (head.len(), sections.len());
        match *blow {
            Blow::Cut(at) => head.truncate(at),
            Blow::Set(at, byte) if bytes > 0 => head[at % bytes] = byte,
            Blow::Insert(at, byte) => head.insert(at % (bytes + 1), byte),
            Blow::Drop(at) if count > 0 => drop(sections.remove(at % count)),
            Blow::Twice(at) if count > 0 => sections.push(sections[at % count].clone()),
            Blow::Retype(at) if count > 0 => {
                let bytes = sections[at % count].bytes().to_vec();
                sections[at % count] = if at % 2 == 0 { RawVec::U8(bytes) } else { RawVec::Bool(bytes) };
            }
            Blow::Shorten(at, length) if count > 0 => sections[at % count].resize(length).unwrap(),
            _ => {}
        }
    }
    Received { head, sections }
}

proptest! {
    #[test]
    fn what_a_peer_makes_up_is_an_error_or_a_list(
        blows in vec(blow(), 1..4), lengths in vec(prop_oneof![0usize..6, Just(2050)], 1..4), way in 0u8..4,
        count in prop_oneof![4 => Just(None), 1 => any::<usize>().prop_map(Some)],
    ) {
        let count = count.unwrap_or(lengths.len());
        let vectors: Vec<Vec<f64>> = lengths.iter().map(|n| vec![1.0; *n]).collect();
        let strings: Vec<(u32, String)> = lengths.iter().map(|n| (*n as u32, "x".repeat(*n))).collect();
        let arrays: Vec<ArrayD<f64>> = lengths.iter().map(|n| laid_out(&[*n, 3], way)).collect();
        let cubes: Vec<Array3<bool>> = lengths.iter().map(|n| Array3::from_elem((*n, 2, 2).f(), true)).collect();
        let maps: Vec<std::collections::BTreeMap<u8, Vec<u8>>> =
            lengths.iter().map(|n| [(*n as u8, vec![1; n % 100])].into()).collect();
        fn try_all<A: Serialize + DeserializeOwned + 'static>(items: &[A], blows: &[Blow], count: usize) {
            if let Ok(list) = unpack_list::<A>(struck(pack_slice(items).unwrap(), blows), count) {
                assert_eq!(list.len(), count);
            }
        }
        try_all(&lengths, &blows, count);
        try_all(&vectors, &blows, count);
        try_all(&strings, &blows, count);
        try_all(&arrays, &blows, count);
        try_all(&cubes, &blows, count);
        try_all(&maps, &blows, count);
        let block: Array2<f64> = laid_out(&[3, lengths[0]], way);
        let names = block.mapv(|x| x.to_string());
        let _ = unpack_matrix::<f64>(struck(pack_matrix(block.view()).unwrap(), &blows), 3, count);
        let _ = unpack_matrix::<String>(struck(pack_matrix(names.view()).unwrap(), &blows), 3, count);
        let _ = unpack_result::<Array2<f64>>(struck(pack_result(block).unwrap(), &blows), count);
        let _ = unpack_result::<Array1<String>>(struck(pack_result(names.row(0).to_owned()).unwrap(), &blows), count);
    }

    #[test]
    fn junk_is_an_error_or_a_list(head in vec(any::<u8>(), 0..60), sections in vec(vec(0u8..4, 0..20), 0..3)) {
        let received = || Received {
            head: head.clone(),
            sections: sections.iter().cloned().map(RawVec::U8).collect(),
        };
        let _ = unpack_list::<u8>(received(), 3);
        let _ = unpack_list::<Vec<u8>>(received(), 3);
        let _ = unpack_list::<Vec<Vec<Vec<String>>>>(received(), 3);
        let _ = unpack_list::<ArrayD<u8>>(received(), 3);
        let _ = unpack_list::<Chain>(received(), 3);
        let _ = unpack_matrix::<u8>(received(), 3, 2);
        let _ = unpack_result::<Array2<u8>>(received(), 3);
        let _ = unpack_result::<Array2<()>>(received(), 3);
        let _ = unpack_result::<Array1<String>>(received(), 3);
    }
}

/// Nine bytes said that a list has 2^63 elements, each without bytes: reading it would have taken for ever.
#[test]
fn lists_of_nothing_without_end_are_an_error() {
    check(&[(1u8, vec![(); 5]), (2, vec![])]);
    check(&[vec![(); 1000], vec![]]);
    let list = [vec![0xff; 9], vec![1]].concat();
    let received = |count: u8, list: &[u8]| Received { head: [&[count], list].concat(), sections: Vec::new() };
    let error = unpack_list::<Vec<()>>(received(1, &list), 1).unwrap_err();
    assert!(matches!(error, PayloadError::TooManyEmpty { limit: 1_048_576 }), "{error:?}");
    let error = unpack_list::<BTreeMap<(), ()>>(received(1, &list), 1).unwrap_err();
    assert!(matches!(error, PayloadError::TooManyEmpty { .. }), "{error:?}");
    // Each has fewer than may be, but not all together.
    let many = [0xff, 0xff, 0x3f].repeat(100);
    let error = unpack_list::<Vec<()>>(received(100, &many), 100).unwrap_err();
    assert!(matches!(error, PayloadError::TooManyEmpty { .. }), "{error:?}");
}

/// Everything that serde knows is taken apart as postcard does it.
#[test]
fn what_postcard_writes_is_read_the_same() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Unit;
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        New(u8),
        Tuple(i16, char),
        Struct { name: String, more: Option<Box<Kind>> },
    }
    type All = (bool, char, (Unit, [u8; 3]), BTreeMap<String, Kind>, Result<u128, i128>, Option<()>, (f32, i8));
    let kinds = [
        Kind::Unit,
        Kind::New(200),
        Kind::Tuple(-300, '\u{e4}'),
        Kind::Struct { name: "n".into(), more: Some(Box::new(Kind::New(1))) },
    ];
    let map: BTreeMap<String, Kind> = kinds.into_iter().enumerate().map(|(i, kind)| (i.to_string(), kind)).collect();
    let all: Vec<All> = vec![
        (true, 'x', (Unit, [1, 2, 3]), map, Ok(u128::MAX), Some(()), (0.5, -1)),
        (false, '\u{1f600}', (Unit, [0; 3]), BTreeMap::new(), Err(i128::MIN), None, (-0.0, 1)),
    ];
    check(&all);
    let bytes = postcard::to_stdvec(&all).unwrap();
    for len in 0..bytes.len() {
        let received = Received { head: bytes[..len].to_vec(), sections: Vec::new() };
        assert!(unpack_list::<All>(received, 2).is_err());
    }
    for at in 0..bytes.len() {
        for flip in [1, 2, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let received = Received { head: bytes.clone(), sections: Vec::new() };
            let ours = unpack_list::<All>(received, 2).ok();
            let theirs: Option<Vec<All>> =
                postcard::take_from_bytes(&bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(all, _)| all);
            assert_eq!(ours, theirs.filter(|all: &Vec<All>| all.len() == 2));
        }
    }
}
