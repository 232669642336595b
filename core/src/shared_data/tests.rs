//! Shared data through its public face.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use ndarray::{
    Array, Array0, Array2, ArrayView, ArrayView1, ArrayView2, ArrayViewD, ArrayViewMut, ArrayViewMut2, Axis, Dimension,
    Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn, ShapeBuilder, array, s,
};
use num_complex::Complex;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

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
    f32: i => i as f32 - 0.25, f64: i => i as f64 - 0.25, bool: i => i % 3 == 0,
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
    check::<T, _>(sample((3, 5)).view());
    check::<T, _>(sample((3, 5).f()).view());
    check::<T, _>(sample((7,)).view());
    check::<T, _>(sample((0, 4)).view());
}

/// Shares the array in every way and reads it in every way.
fn check<T: Sample, D: Dimension>(array: ArrayView<'_, T, D>) {
    for storage in STORAGES {
        let is_f = !array.is_standard_layout() && array.t().is_standard_layout();
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
            let dynamic: ArrayViewD<'_, T> = shared.array(key).unwrap();
            assert_eq!(dynamic, array.view().into_dyn());
            assert_eq!(view.t().is_standard_layout(), is_f || array.t().is_standard_layout(), "column-major stays so");
            assert!(view.is_standard_layout() || is_f);
        }
    }
}
