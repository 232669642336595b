//! A column call equals `fun(x)`, bit for bit, without a copy of `x`.

use std::{
    fmt::Debug,
    ops::Range,
    sync::{Arc, Mutex},
};

use distfun::{ColumnResult, prelude::*};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, ShapeBuilder, Slice, s};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{cases, lengths, slots};

/// A matrix, and how to look at it: in C or F order, with steps through rows and columns, possibly backwards.
#[derive(Debug, Clone)]
struct Form {
    rows: usize,
    columns: usize,
    fortran: bool,
    steps: (isize, isize),
    offset: (usize, usize),
}

impl Form {
    fn array<T>(&self, mut element: impl FnMut(usize) -> T) -> Array2<T> {
        let stretched = |count: usize, step: isize, offset: usize| offset + count * step.unsigned_abs();
        let rows = stretched(self.rows, self.steps.0, self.offset.0);
        let columns = stretched(self.columns, self.steps.1, self.offset.1);
        let mut array = Array2::from_shape_simple_fn((rows, columns).set_f(self.fortran), {
            let mut next = 0;
            move || {
                next += 1;
                element(next)
            }
        });
        let (down, right) = self.steps;
        array.slice_collapse(s![self.offset.0..;down, self.offset.1..;right]);
        assert_eq!(array.dim(), (self.rows, self.columns));
        array
    }
}

fn forms() -> impl Strategy<Value = Form> {
    let steps = || proptest::sample::select(vec![1isize, 1, -1, 2, -3]);
    (0usize..5, lengths(150), any::<bool>(), (steps(), steps()), (0usize..3, 0usize..3))
        .prop_map(|(rows, columns, fortran, steps, offset)| Form { rows, columns, fortran, steps, offset })
}

/// Every way to give `x` to the function returns what the function itself returns, in the same layout.
fn check<T, Y, Z>(
    fun: impl Fn(ArrayView2<'_, T>) -> Y + Clone + Send + Sync + 'static,
    x: &Array2<T>,
    slots: usize,
    look: impl Fn(&Y) -> Z,
) where
    T: Clone + Send + Sync + 'static,
    Y: ColumnResult,
    Z: PartialEq + Debug,
{
    let expected = look(&fun(x.view()));
    let once = || distribute_local_columns(fun.clone()).slots(slots).build().unwrap();
    assert_eq!(look(&once().columns(x).wait().unwrap()), expected, "borrowed");
    assert_eq!(look(&once().columns(x.view()).wait().unwrap()), expected, "view");
    assert_eq!(look(&once().columns(x.clone()).wait().unwrap()), expected, "owned");
    assert_eq!(look(&once().columns(x.clone().into_shared()).wait().unwrap()), expected, "shared");
    assert_eq!(look(&once().columns(Arc::new(x.clone())).wait().unwrap()), expected, "counted");
    let sequential = distribute_local_columns(fun.clone()).sequential(true).build().unwrap();
    assert_eq!(look(&sequential.columns(x).wait().unwrap()), expected, "sequential");

    let warm = distribute_local_columns(fun.clone()).slots(slots).endaftercall(false).build().unwrap();
    let mut y = fun(x.view());
    warm.columns_into(x, &mut y).wait().unwrap();
    assert_eq!(look(&y), expected, "into, borrowed");
    warm.columns_into(x.clone(), &mut y).wait().unwrap();
    assert_eq!(look(&y), expected, "into, owned");
}

/// The values of a matrix and how they lie in memory; strides mean nothing along an axis shorter than 2.
fn laid_out<R: Clone>(y: &Array2<R>) -> ((usize, usize), Vec<R>, Option<bool>) {
    let lies_by_column = (y.nrows() > 1 && y.ncols() > 1).then(|| !y.is_standard_layout());
    (y.dim(), y.iter().cloned().collect(), lies_by_column)
}

/// One value per column that depends on every element and on their order.
fn digest<T>(column: ArrayView1<'_, T>, digit: impl Fn(&T) -> u64) -> u64 {
    column.iter().fold(17, |sum: u64, element| sum.wrapping_mul(1_000_003).wrapping_add(digit(element)))
}

fn digests<T>(x: ArrayView2<'_, T>, digit: impl Fn(&T) -> u64) -> Array1<u64> {
    x.columns().into_iter().map(|column| digest(column, &digit)).collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pixel {
    rgb: [u8; 3],
    name: String,
}

/// The memory a function's K x n result lies in: C or F order, backwards, or a part of a larger array.
#[derive(Debug, Clone, Copy)]
enum Memory {
    C,
    F,
    Backwards,
    Part,
}

fn result(k: usize, memory: Memory, x: ArrayView2<'_, f32>) -> Array2<f32> {
    let n = x.ncols();
    let value = |i: usize, j: usize| x.column(j).iter().fold(i as f32 + 0.1, |sum, v| sum * 0.7 + v);
    match memory {
        Memory::C => Array2::from_shape_fn((k, n), |(i, j)| value(i, j)),
        Memory::F => Array2::from_shape_fn((k, n).f(), |(i, j)| value(i, j)),
        Memory::Backwards => {
            Array2::from_shape_fn((k, n), |(i, j)| value(k - 1 - i, n - 1 - j)).slice_move(s![..;-1, ..;-1])
        }
        Memory::Part => Array2::from_shape_fn((k + 2, n), |(i, j)| if i == 0 { -1.0 } else { value(i - 1, j) })
            .slice_move(s![1..k + 1, ..]),
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn one_value_per_column_equals_the_function(form in forms(), slots in slots()) {
        check(|x: ArrayView2<'_, u8>| digests(x, |&v| v.into()), &form.array(|i| (i * 7) as u8), slots, Array1::clone);
        let texts = form.array(|i| "ab".repeat(i % 5) + &i.to_string());
        let digit = |text: &String| text.bytes().map(u64::from).sum::<u64>();
        check(move |x: ArrayView2<'_, String>| digests(x, digit), &texts, slots, Array1::clone);
        let joined = |x: ArrayView2<'_, String>| -> Array1<String> {
            x.columns().into_iter().map(|column| column.iter().cloned().collect()).collect()
        };
        check(joined, &texts, slots, Array1::clone);
    }

    #[test]
    fn structs_go_in_and_come_out(form in forms(), slots in slots()) {
        let image = form.array(|i| Pixel { rgb: [i as u8, (i / 3) as u8, 7], name: i.to_string() });
        let brightest = |x: ArrayView2<'_, Pixel>| -> Array1<Option<Pixel>> {
            x.columns().into_iter().map(|column| column.iter().max_by_key(|p| p.rgb[0]).cloned()).collect()
        };
        check(brightest, &image, slots, Array1::clone);
        check(|x: ArrayView2<'_, Pixel>| x.mapv(|pixel| pixel.name), &image, slots, Array2::clone);
    }

    #[test]
    fn a_column_per_column_equals_the_function_bit_for_bit(
        form in forms(),
        slots in slots(),
        k in 0usize..5,
        memory in proptest::sample::select(vec![Memory::C, Memory::F, Memory::Backwards, Memory::Part]),
    ) {
        let special = [f32::NAN, -0.0, f32::INFINITY, 1e-40];
        let x = form.array(|i| if i % 11 < 4 { special[i % 11] } else { i as f32 / 3.0 });
        let bits = |y: &Array2<f32>| (y.dim(), y.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        check(move |x: ArrayView2<'_, f32>| result(k, memory, x), &x, slots, bits);
        if matches!(memory, Memory::C | Memory::F) {
            let finite = form.array(|i| i as f32 / 3.0);
            check(move |x: ArrayView2<'_, f32>| result(k, memory, x), &finite, slots, laid_out);
        }
        let sums = move |x: ArrayView2<'_, f32>| -> Array1<f32> {
            // As part of a larger array, read backwards.
            let n = x.ncols();
            Array1::from_shape_fn(n + 3, |i| if i < n { result(1, memory, x)[[0, n - 1 - i]] } else { 0.0 })
                .slice_move(s![..n;-1])
        };
        check(sums, &x, slots, |y| y.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn blocks_are_balanced_views_of_the_input(form in forms(), slots in slots(), owned in any::<bool>()) {
        type Block = (Range<usize>, usize, Vec<isize>, (usize, usize));
        let seen: Arc<Mutex<Vec<Block>>> = Arc::default();
        let log = seen.clone();
        let facts = |columns: Range<usize>, view: ArrayView2<'_, u32>| -> Block {
            (columns, view.as_ptr().addr(), view.strides().to_vec(), view.dim())
        };
        let function = distribute_local_columns(move |view: ArrayView2<'_, u32>, context: &Context<'_>| {
            log.lock().unwrap().push(facts(context.items(), view));
            Array1::<u8>::zeros(view.ncols())
        });
        let function = function.slots(slots).build().unwrap();
        let x = form.array(|i| i as u32);
        let of = |columns: &Range<usize>, x: ArrayView2<'_, u32>| {
            facts(columns.clone(), x.slice_axis(Axis(1), Slice::from(columns.clone())))
        };
        let whole = facts(0..form.columns, x.view());
        let keep = x.clone();
        if owned {
            function.columns(x).wait().unwrap();
        } else {
            function.columns(&x).wait().unwrap();
        }
        let mut blocks = std::mem::take(&mut *seen.lock().unwrap());
        blocks.sort_by_key(|(columns, ..)| columns.start);
        if form.columns == 0 {
            prop_assert_eq!(blocks.len(), 1, "a matrix without columns is given to the function once");
        }
        let (mut next, mut least, mut most) = (0, usize::MAX, 0);
        for block in &blocks {
            let columns = &block.0;
            prop_assert_eq!(columns.start, next);
            next = columns.end;
            (least, most) = (least.min(columns.len()), most.max(columns.len()));
            // Where the block lies within the whole; the clone has other memory but the same strides.
            let mut expected = of(columns, keep.view());
            expected.1 = expected.1.wrapping_sub(keep.as_ptr().addr()).wrapping_add(whole.1);
            prop_assert_eq!(block, &expected);
        }
        prop_assert_eq!(next, form.columns);
        prop_assert!(most - least <= 1 && (least > 0 || form.columns == 0));
        if form.columns >= slots && slots > 1 {
            prop_assert!(blocks.len() >= slots, "every slot can have a block");
        }
    }

    #[test]
    fn columns_into_uses_the_buffer_again(form in forms(), slots in slots(), k in 1usize..4) {
        let x = form.array(|i| i as f32);
        let function = distribute_local_columns(move |x: ArrayView2<'_, f32>| result(k, Memory::C, x));
        let function = function.slots(slots).endaftercall(false).build().unwrap();
        let mut y = Array2::from_elem((k + 1, form.columns + 1), 7.0);
        let buffer = y.as_ptr();
        for _ in 0..2 {
            function.columns_into(&x, &mut y).wait().unwrap();
            prop_assert_eq!(&y, &result(k, Memory::C, x.view()));
            prop_assert!(form.columns == 0 || y.as_ptr() == buffer);
            if form.columns == 0 {
                break; // the function's own empty result has replaced the buffer
            }
        }
    }
}

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    x.columns().into_iter().map(|column| column.iter().sum()).collect()
}

fn centred(x: ArrayView2<f64>) -> Array2<f64> {
    &x - &(sums(x) / x.nrows() as f64)
}

#[test]
fn columns_that_share_their_memory_equal_the_function() {
    let column = Array2::from_shape_fn((3, 1), |(i, _)| i as f64 + 0.5);
    let row = Array2::from_shape_fn((1, 100), |(_, j)| j as f64);
    for x in [column.broadcast((3, 100)).unwrap(), row.broadcast((4, 100)).unwrap()] {
        assert_eq!(distribute!(sums).slots(3).build().unwrap().columns(x).wait().unwrap(), sums(x));
        assert_eq!(distribute!(centred).slots(3).build().unwrap().columns(x).wait().unwrap(), centred(x));
    }
}

#[test]
fn a_matrix_of_many_columns_equals_the_function_in_both_orders() {
    for order in [false, true] {
        let x = Array2::from_shape_fn((7, 30_011).set_f(order), |(i, j)| (i * 31 + j) as f64 / 7.0);
        for slots in [1, 3, 8] {
            let function = distribute!(centred).slots(slots).endaftercall(false).build().unwrap();
            for _ in 0..3 {
                assert!(function.columns(&x).wait().unwrap() == centred(x.view()));
            }
        }
    }
}
