//! Parcels, whatever is in them, unpacked as lists, blocks and results of all kinds of types: what is let through can be
//! packed again, and is the same then.

use std::{any::type_name, collections::BTreeMap};

use distfun_core::{
    function::ColumnsOutput,
    payload::{
        MAX_HEAD_BYTES, Parcel, PayloadError, Raw, RawVec, Received, pack_matrix, pack_result, pack_slice, transport,
        unpack_list, unpack_matrix, unpack_result,
    },
};
use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView2, ShapeBuilder, arr2};
use num_complex::Complex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{input::Input, samples::ELEMENTS};

/// Contains itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree(pub Vec<Tree>);

/// Contains itself in another way, and has variants of all kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Shape {
    Nothing,
    Inside(Box<Shape>),
    Many { name: String, parts: Vec<(u8, Option<Shape>)> },
    Number(i128),
}

/// How a parcel is unpacked.
#[derive(Clone, Copy)]
struct Kind {
    unpack: fn(Received, usize, usize),
    /// Good parcels of it, and the numbers to unpack each with.
    samples: fn() -> Vec<(Parcel, usize, usize)>,
}

/// `data` is the kind, two numbers, a head, and sections.
///
/// # Panics
/// If what is let through is another value once packed and unpacked again.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let kind = KINDS[usize::from(input.byte()) % KINDS.len()];
    let (one, other) = (usize::from(input.short()), usize::from(input.short()));
    let head_len = usize::from(input.short());
    let head = input.take(head_len).to_vec();
    let sections = std::iter::from_fn(|| (!input.is_empty()).then(|| section(&mut input))).collect();
    (kind.unpack)(Received { head, sections }, one, other);
}

/// An element type, a length, and either that many bytes or one that is repeated: large sections of few bytes.
fn section(input: &mut Input<'_>) -> RawVec {
    let kind = input.byte();
    let element = ELEMENTS[usize::from(kind & 0x7f) % ELEMENTS.len()];
    let bytes = usize::from(input.short());
    let mut section = RawVec::empty(element);
    if kind & 0x80 != 0 {
        let byte = input.byte();
        section.resize(bytes / element.size()).expect("64 KiB");
        section.bytes_mut().fill(byte);
    } else {
        let bytes = input.take(bytes);
        section.resize(bytes.len() / element.size()).expect("64 KiB");
        let whole = section.bytes().len();
        section.bytes_mut().copy_from_slice(&bytes[..whole]);
    }
    section
}

/// Numbers at the end of their range stand for those that no memory can hold. Only the caller's word limits values
/// without bytes, and it keeps that.
fn count<A>(number: usize) -> usize {
    if number >= 0xfff0 && size_of::<A>() > 0 { usize::MAX - (0xffff - number) } else { number }
}

fn same<T>(
    first: Result<T, PayloadError>,
    pack: impl Fn(T) -> Parcel,
    unpack: impl Fn(Received) -> Result<T, PayloadError>,
) {
    let value = match first {
        Ok(value) => value,
        Err(error) => return assert!(!error.to_string().contains(char::is_control)),
    };
    let bytes = |parcel: &Parcel| {
        assert!(parcel.head.len() <= MAX_HEAD_BYTES);
        let sections: Vec<_> = parcel.sections.iter().map(|section| (section.element, section.bytes.clone())).collect();
        (parcel.head.clone(), sections)
    };
    // Compared packed, as not every number equals itself.
    let parcel = pack(value);
    let packed = bytes(&parcel);
    let again = unpack(transport(parcel)).unwrap_or_else(|error| panic!("{}: {error}", type_name::<T>()));
    assert!(bytes(&pack(again)) == packed, "{}", type_name::<T>());
}

fn list<A: Serialize + DeserializeOwned + 'static>(received: Received, one: usize, _: usize) {
    let count = count::<A>(one);
    let unpack = |received| unpack_list::<A>(received, count);
    same(unpack(received), |items| pack_slice(&items).expect("they were encoded before"), unpack);
}

fn matrix<T: Serialize + DeserializeOwned + 'static>(received: Received, one: usize, other: usize) {
    let (rows, columns) =
        if size_of::<T>() > 0 { (count::<T>(one), count::<T>(other)) } else { (one % 256, other % 256) };
    let unpack = |received| unpack_matrix::<T>(received, rows, columns);
    same(unpack(received), |block| pack_matrix(block.view()).expect("it was encoded before"), unpack);
}

fn result<Y: ColumnsOutput<Elem: Serialize + DeserializeOwned>>(received: Received, one: usize, _: usize) {
    let unpack = |received| unpack_result::<Y>(received, count::<Y::Elem>(one));
    same(unpack(received), |y| pack_result(y).expect("it was encoded before"), unpack);
}

/// Lists, with a good one of each kind.
macro_rules! lists {
    ($($item:ty: $samples:expr;)*) => {[$(Kind {
        unpack: list::<$item>,
        samples: || {
            let items: Vec<$item> = $samples.into_iter().collect();
            vec![(pack_slice(&items).expect("it can be encoded"), items.len(), 0)]
        },
    }),*]};
}

const LISTS: [Kind; 26] = lists! {
    u8: [1, 2, 3];
    f64: [0.5, f64::NAN];
    bool: [true, false];
    i128: [-1];
    usize: [7; 3000];
    Complex<f32>: [Complex::new(1.0, 2.0)];
    Vec<u8>: [vec![1; 20_000], vec![], vec![2]];
    Vec<f32>: [vec![1.0, 2.0], vec![3.0]];
    Box<[u16]>: [vec![1u16, 2].into()];
    Array1<bool>: [Array1::from_vec(vec![true, false])];
    Array2<f64>: [arr2(&[[1.0, 2.0], [3.0, 4.0]]), Array2::zeros((2, 3).f()), Array2::zeros((50, 50))];
    Array3<u8>: [Array3::zeros((1, 2, 3))];
    ArrayD<i64>: [ArrayD::zeros(vec![2, 1, 1, 2]), ArrayD::zeros(vec![])];
    Array2<String>: [Array2::from_elem((1, 2), "a".to_owned())];
    ArrayD<()>: [ArrayD::from_elem(vec![2, 2], ())];
    String: ["a".to_owned(), "\u{e4}".to_owned()];
    (): [(); 3];
    Vec<()>: [vec![(); 3]];
    (u8, BTreeMap<String, Vec<()>>): [(1, BTreeMap::from([("a".to_owned(), vec![(), ()])]))];
    BTreeMap<(), ()>: [BTreeMap::from([((), ())])];
    Option<Box<[u8; 3]>>: [Some(Box::new([1, 2, 3])), None];
    Result<char, String>: [Ok('x'), Err("y".to_owned())];
    Tree: [Tree(vec![Tree(vec![]), Tree(vec![Tree(vec![])])])];
    Shape: [
        Shape::Inside(Box::new(Shape::Number(-5))),
        Shape::Many { name: "n".to_owned(), parts: vec![(1, None), (2, Some(Shape::Nothing))] }
    ];
    Raw<[u16; 2]>: [Raw(vec![[1, 2], [3, 4]])];
    Vec<Raw<f32>>: [vec![Raw(vec![1.0]), Raw(vec![])]];
};

fn block<T: Serialize + 'static>(view: ArrayView2<'_, T>) -> (Parcel, usize, usize) {
    let (rows, columns) = view.dim();
    (pack_matrix(view).expect("it can be encoded"), rows, columns)
}

fn returned<Y: ColumnsOutput<Elem: Serialize>>(y: Y) -> (Parcel, usize, usize) {
    let columns = y.columns();
    (pack_result(y).expect("it can be encoded"), columns, 0)
}

const BLOCKS: [Kind; 9] = [
    Kind {
        unpack: matrix::<f32>,
        samples: || [(2, 3).f(), (2, 3).set_f(false)].map(|shape| block(Array2::<f32>::zeros(shape).view())).into(),
    },
    Kind { unpack: matrix::<bool>, samples: || vec![block(Array2::from_elem((1, 4), true).view())] },
    Kind { unpack: matrix::<String>, samples: || vec![block(Array2::from_elem((2, 1), "a".to_owned()).view())] },
    Kind { unpack: matrix::<()>, samples: || vec![block(Array2::from_elem((3, 2), ()).view())] },
    Kind { unpack: matrix::<Vec<u8>>, samples: || vec![block(Array2::from_elem((1, 2), vec![7u8; 3]).view())] },
    Kind { unpack: result::<Array1<f64>>, samples: || vec![returned(Array1::<f64>::zeros(4))] },
    Kind { unpack: result::<Array1<String>>, samples: || vec![returned(Array1::from_elem(2, "a".to_owned()))] },
    Kind {
        unpack: result::<Array2<u16>>,
        samples: || vec![returned(Array2::<u16>::zeros((3, 2).f())), returned(Array2::<u16>::zeros((3, 2)))],
    },
    Kind { unpack: result::<Array2<()>>, samples: || vec![returned(Array2::from_elem((5, 2), ()))] },
];

const KINDS: [Kind; LISTS.len() + BLOCKS.len()] = {
    let mut all = [LISTS[0]; LISTS.len() + BLOCKS.len()];
    let mut index = 0;
    while index < all.len() {
        all[index] = if index < LISTS.len() { LISTS[index] } else { BLOCKS[index - LISTS.len()] };
        index += 1;
    }
    all
};

/// Good parcels of every kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, kind) in KINDS.iter().enumerate() {
        for (parcel, one, other) in (kind.samples)() {
            let mut seed = vec![index as u8];
            [one, other, parcel.head.len()].iter().for_each(|number| seed.extend((*number as u16).to_le_bytes()));
            seed.extend(&parcel.head);
            for section in &parcel.sections {
                let element = ELEMENTS.iter().position(|element| *element == section.element).expect("one of all");
                let len = (section.bytes.len() as u16).to_le_bytes();
                if section.bytes.len() > 1000 {
                    seed.extend([element as u8 | 0x80, len[0], len[1], section.bytes[0]]);
                } else {
                    seed.extend([element as u8, len[0], len[1]]);
                    seed.extend(&section.bytes);
                }
            }
            seeds.push(seed);
        }
    }
    seeds
}
