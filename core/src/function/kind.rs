//! Tells the kinds of function apart by what they take.
//!
//! One trait per shape, each implemented for `Fn` types directly, with a marker type that only one shape and one set of
//! further arguments fits: so trait selection finds the kind of any path or closure without an attribute on it.

use std::marker::PhantomData;

use ndarray::{Array1, Array2, ArrayView2};

use super::Context;
use crate::shared_data::SharedData;

/// Marks functions that take nothing beside their item.
#[derive(Debug)]
pub struct Plain;

/// Marks functions that also take `&Context`.
#[derive(Debug)]
pub struct Contextual;

/// Marks functions that also take `&SharedData`.
#[derive(Debug)]
pub struct Sharing;

/// Marks functions of one item by value, `Fn(A) -> R`; `X` is [`Plain`], [`Contextual`] or [`Sharing`].
#[derive(Debug)]
pub struct ByValue<A, X>(PhantomData<fn(A, X)>);

/// Marks functions of one item by reference, `Fn(&A) -> R`.
#[derive(Debug)]
pub struct ByRef<A, X>(PhantomData<fn(A, X)>);

/// Marks functions of a block of columns, `Fn(ArrayView2<T>) -> Array1<R>` or `Array2<R>`.
#[derive(Debug)]
pub struct ColumnsKind<T, X>(PhantomData<fn(T, X)>);

/// A function of one item by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no function of one item by value",
    label = "expected `Fn(A) -> R`, `Fn(A, &SharedData) -> R` or `Fn(A, &Context) -> R`, `Send + Sync + 'static`",
    note = "functions of `&A` go to `distribute_local_ref`, functions of `ArrayView2<T>` to `distribute_local_columns`"
)]
pub trait ValueFunction<A, X>: Send + Sync + 'static {
    /// What it returns.
    type Out;
    /// Whether the context must be told which item runs.
    const CONTEXTUAL: bool;
    /// Whether it asks for shared data.
    const SHARING: bool;
    /// Calls it.
    fn call(&self, item: A, context: &Context<'_>) -> Self::Out;
}

impl<F, A, R> ValueFunction<A, Plain> for F
where
    F: Fn(A) -> R + Send + Sync + 'static,
{
    type Out = R;
    const CONTEXTUAL: bool = false;
    const SHARING: bool = false;
    #[inline(always)]
    fn call(&self, item: A, _: &Context<'_>) -> R {
        self(item)
    }
}

impl<F, A, R> ValueFunction<A, Contextual> for F
where
    F: for<'a, 'b> Fn(A, &'a Context<'b>) -> R + Send + Sync + 'static,
{
    type Out = R;
    const CONTEXTUAL: bool = true;
    const SHARING: bool = false;
    #[inline(always)]
    fn call(&self, item: A, context: &Context<'_>) -> R {
        self(item, context)
    }
}

impl<F, A, R> ValueFunction<A, Sharing> for F
where
    F: for<'a> Fn(A, &'a SharedData) -> R + Send + Sync + 'static,
{
    type Out = R;
    const CONTEXTUAL: bool = false;
    const SHARING: bool = true;
    #[inline(always)]
    fn call(&self, item: A, context: &Context<'_>) -> R {
        self(item, context.shared())
    }
}

/// A function of one item by reference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no function of one item by reference",
    label = "expected `Fn(&A) -> R`, `Fn(&A, &SharedData) -> R` or `Fn(&A, &Context) -> R`, `Send + Sync + 'static`",
    note = "the result must not borrow from the item; return what it owns, a clone or an index"
)]
pub trait RefFunction<A, X>: Send + Sync + 'static {
    /// What it returns.
    type Out;
    /// Whether the context must be told which item runs.
    const CONTEXTUAL: bool;
    /// Whether it asks for shared data.
    const SHARING: bool;
    /// Calls it.
    fn call(&self, item: &A, context: &Context<'_>) -> Self::Out;
}

impl<F, A, R> RefFunction<A, Plain> for F
where
    F: for<'a> Fn(&'a A) -> R + Send + Sync + 'static,
{
    type Out = R;
    const CONTEXTUAL: bool = false;
    const SHARING: bool = false;
    #[inline(always)]
    fn call(&self, item: &A, _: &Context<'_>) -> R {
        self(item)
    }
}

impl<F, A, R> RefFunction<A, Contextual> for F
where
    F: for<'a, 'b, 'c> Fn(&'a A, &'b Context<'c>) -> R + Send + Sync + 'static,
{
    type Out = R;
    const CONTEXTUAL: bool = true;
    const SHARING: bool = false;
    #[inline(always)]
    fn call(&self, item: &A, context: &Context<'_>) -> R {
        self(item, context)
    }
}

impl<F, A, R> RefFunction<A, Sharing> for F
where
    F: for<'a, 'b> Fn(&'a A, &'b SharedData) -> R + Send + Sync + 'static,
{
    type Out = R;
    const CONTEXTUAL: bool = false;
    const SHARING: bool = true;
    #[inline(always)]
    fn call(&self, item: &A, context: &Context<'_>) -> R {
        self(item, context.shared())
    }
}

/// A function of a D x n block of columns, one column per item.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no function of columns",
    label = "expected `Fn(ArrayView2<T>) -> Y`, `Fn(ArrayView2<T>, &SharedData) -> Y` or `Fn(ArrayView2<T>, &Context) -> Y`, `Send + Sync + 'static`",
    note = "`Y` is `Array1<R>`, one value per column, or `Array2<R>`, one column per column"
)]
pub trait ColumnsFunction<T, X>: Send + Sync + 'static {
    /// What it returns: `Array1<R>` with n values or `Array2<R>` of K x n.
    type Out: ColumnsOutput;
    /// Whether it asks for shared data.
    const SHARING: bool;
    /// Calls it.
    fn call(&self, block: ArrayView2<'_, T>, context: &Context<'_>) -> Self::Out;
}

impl<F, T, Y> ColumnsFunction<T, Plain> for F
where
    F: for<'a> Fn(ArrayView2<'a, T>) -> Y + Send + Sync + 'static,
    Y: ColumnsOutput,
{
    type Out = Y;
    const SHARING: bool = false;
    fn call(&self, block: ArrayView2<'_, T>, _: &Context<'_>) -> Y {
        self(block)
    }
}

impl<F, T, Y> ColumnsFunction<T, Contextual> for F
where
    F: for<'a, 'b, 'c> Fn(ArrayView2<'a, T>, &'b Context<'c>) -> Y + Send + Sync + 'static,
    Y: ColumnsOutput,
{
    type Out = Y;
    const SHARING: bool = false;
    fn call(&self, block: ArrayView2<'_, T>, context: &Context<'_>) -> Y {
        self(block, context)
    }
}

impl<F, T, Y> ColumnsFunction<T, Sharing> for F
where
    F: for<'a, 'b> Fn(ArrayView2<'a, T>, &'b SharedData) -> Y + Send + Sync + 'static,
    Y: ColumnsOutput,
{
    type Out = Y;
    const SHARING: bool = true;
    fn call(&self, block: ArrayView2<'_, T>, context: &Context<'_>) -> Y {
        self(block, context.shared())
    }
}

/// What a column function may return: `Array1<R>` (one value per column) or `Array2<R>` (K x n, one column per column).
pub trait ColumnsOutput: Sized + Send + 'static + sealed::Sealed {
    /// Type of one element.
    type Elem: Send + 'static;
    /// What it is called in schemas.
    const NAME: &'static str;
    /// Number of rows K; 1 for `Array1`.
    fn rows(&self) -> usize;
    /// Number of columns n.
    fn columns(&self) -> usize;
    /// Whether the elements lie column by column (Fortran order) and not row by row.
    fn is_column_major(&self) -> bool;
    /// Takes the elements out, row by row or (`column_major`) column by column.
    fn into_elements(self, column_major: bool) -> Vec<Self::Elem>;
    /// Builds a K x n result from its elements, laid out row by row or column by column.
    ///
    /// # Panics
    /// If there are not `rows * columns` elements, or `rows` is not 1 for an `Array1`.
    fn from_elements(elements: Vec<Self::Elem>, rows: usize, columns: usize, column_major: bool) -> Self;
    /// Takes the allocation out for another result, without its elements.
    fn into_buffer(self) -> Vec<Self::Elem>;
}

impl<R: Send + 'static> ColumnsOutput for Array1<R> {
    type Elem = R;
    const NAME: &'static str = "Array1";
    fn rows(&self) -> usize {
        1
    }
    fn columns(&self) -> usize {
        self.len()
    }
    fn is_column_major(&self) -> bool {
        false
    }
    fn into_elements(self, _: bool) -> Vec<R> {
        if !self.is_standard_layout() {
            return self.into_iter().collect();
        }
        let count = self.len();
        cut(self.into_raw_vec_and_offset(), count)
    }
    fn from_elements(elements: Vec<R>, rows: usize, columns: usize, _: bool) -> Self {
        assert!(rows == 1 && elements.len() == columns, "{rows} x {columns} from {}", elements.len());
        Array1::from_vec(elements)
    }
    fn into_buffer(self) -> Vec<R> {
        emptied(self.into_raw_vec_and_offset().0)
    }
}

impl<R: Send + 'static> ColumnsOutput for Array2<R> {
    type Elem = R;
    const NAME: &'static str = "Array2";
    fn rows(&self) -> usize {
        self.nrows()
    }
    fn columns(&self) -> usize {
        self.ncols()
    }
    fn is_column_major(&self) -> bool {
        // A single column lies in both orders at once; only its strides tell in which it was made.
        let is_fortran_column = self.ncols() == 1 && self.nrows() > 1 && self.strides()[1] == self.nrows() as isize;
        is_fortran_column || !self.is_standard_layout() && self.t().is_standard_layout()
    }
    fn into_elements(self, column_major: bool) -> Vec<R> {
        let rows_first = if column_major { self.reversed_axes() } else { self };
        if !rows_first.is_standard_layout() {
            return rows_first.into_iter().collect();
        }
        let count = rows_first.len();
        cut(rows_first.into_raw_vec_and_offset(), count)
    }
    fn from_elements(elements: Vec<R>, rows: usize, columns: usize, column_major: bool) -> Self {
        use ndarray::ShapeBuilder;
        Array2::from_shape_vec((rows, columns).set_f(column_major), elements).expect("rows * columns elements")
    }
    fn into_buffer(self) -> Vec<R> {
        emptied(self.into_raw_vec_and_offset().0)
    }
}

/// The `count` elements that a contiguous array has in its vector.
fn cut<R>((mut elements, offset): (Vec<R>, Option<usize>), count: usize) -> Vec<R> {
    if let Some(offset) = offset.filter(|&offset| offset > 0) {
        drop(elements.drain(..offset));
    }
    elements.truncate(count);
    elements
}

fn emptied<R>(mut buffer: Vec<R>) -> Vec<R> {
    buffer.clear();
    buffer
}

mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for ndarray::Array1<R> {}
    impl<R> Sealed for ndarray::Array2<R> {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ShapeBuilder, array};

    #[test]
    fn results_come_apart_and_together_in_both_orders() {
        for y in [array![[1, 2, 3], [4, 5, 6]], Array2::from_shape_fn((3, 4).f(), |(i, j)| 10 * i + j)] {
            let order = y.is_column_major();
            let (rows, columns) = (y.rows(), y.columns());
            let elements = y.clone().into_elements(order);
            let again = Array2::from_elements(elements, rows, columns, order);
            assert_eq!(again, y);
            assert_eq!(again.strides(), y.strides());
        }
    }
}
