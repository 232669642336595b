//! What may be given to a call, and which handle it gets: owned input a [`Call`], borrowed input a [`Scoped`].

use std::sync::Arc;

use ndarray::{ArcArray2, Array2, ArrayBase, ArrayView2, Data, Ix2};

use crate::{
    call::{Call, Output, Scoped},
    compute::lend::{lend_matrix, lend_slice},
    job::{ListInput, Matrix},
};

/// Starts a call on the input it is given.
pub struct Start<I, O: Output>(Box<dyn FnOnce(I) -> Call<O> + Send>);

impl<I, O: Output> Start<I, O> {
    pub(crate) fn new(start: impl FnOnce(I) -> Call<O> + Send + 'static) -> Self {
        Self(Box::new(start))
    }
}

/// Input of a list call.
///
/// Anything that gives its items by value (a `Vec`, an array, any iterator) makes a [`Call`], which has started. A
/// borrowed slice, `&Vec` or `&[A; N]` makes a [`Scoped`], which starts in its `wait`; its items are cloned for a
/// function by value, and not at all for a function by reference.
///
/// `M` tells the two apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` holds no items of type `{A}`",
    note = "a list call takes a `Vec`, an array or an iterator over `{A}`, or borrows `&[{A}]`, `&Vec<{A}>` or `&[{A}; N]`"
)]
pub trait MapInput<A, M>: Sized {
    /// [`Call`] or [`Scoped`].
    type Handle<O: Output>;
    #[doc(hidden)]
    fn start<O: Output>(self, start: Start<List<A>, O>) -> Self::Handle<O>;
    /// Starts a call and gives it to `with`, once, which does not return before the call has ended.
    #[doc(hidden)]
    fn run<O: Output>(self, start: Start<List<A>, O>, with: &mut dyn FnMut(Call<O>));
}

/// Marks input that the call owns.
#[derive(Debug)]
pub struct Owned;

/// Marks input that the call borrows.
#[derive(Debug)]
pub struct Borrowed;

/// The items of a list call, owned or lent.
pub struct List<A>(pub(crate) ListInput<A>);

impl<A, I: IntoIterator<Item = A>> MapInput<A, Owned> for I {
    type Handle<O: Output> = Call<O>;
    fn start<O: Output>(self, start: Start<List<A>, O>) -> Call<O> {
        // A vector keeps its allocation here.
        start.0(List(ListInput::Owned(self.into_iter().collect())))
    }
    fn run<O: Output>(self, start: Start<List<A>, O>, with: &mut dyn FnMut(Call<O>)) {
        with(MapInput::<A, Owned>::start(self, start));
    }
}

#[diagnostic::do_not_recommend]
impl<'a, A: Clone + Sync> MapInput<A, Borrowed> for &'a [A] {
    type Handle<O: Output> = Scoped<'a, O>;
    fn start<O: Output>(self, start: Start<List<A>, O>) -> Scoped<'a, O> {
        Scoped::lending(move |with| MapInput::<A, Borrowed>::run(self, start, with))
    }
    fn run<O: Output>(self, start: Start<List<A>, O>, with: &mut dyn FnMut(Call<O>)) {
        lend_slice(self, |lent| with(start.0(List(ListInput::Lent(lent, <[A]>::to_vec)))));
    }
}

#[diagnostic::do_not_recommend]
impl<'a, A: Clone + Sync> MapInput<A, Borrowed> for &'a Vec<A> {
    type Handle<O: Output> = Scoped<'a, O>;
    fn start<O: Output>(self, start: Start<List<A>, O>) -> Scoped<'a, O> {
        MapInput::<A, Borrowed>::start(self.as_slice(), start)
    }
    fn run<O: Output>(self, start: Start<List<A>, O>, with: &mut dyn FnMut(Call<O>)) {
        MapInput::<A, Borrowed>::run(self.as_slice(), start, with);
    }
}

#[diagnostic::do_not_recommend]
impl<'a, A: Clone + Sync, const N: usize> MapInput<A, Borrowed> for &'a [A; N] {
    type Handle<O: Output> = Scoped<'a, O>;
    fn start<O: Output>(self, start: Start<List<A>, O>) -> Scoped<'a, O> {
        MapInput::<A, Borrowed>::start(self.as_slice(), start)
    }
    fn run<O: Output>(self, start: Start<List<A>, O>, with: &mut dyn FnMut(Call<O>)) {
        MapInput::<A, Borrowed>::run(self.as_slice(), start, with);
    }
}

/// Input of a column call, D x N with one column per item.
///
/// `Array2`, `ArcArray2` and `Arc<Array2>` make a [`Call`], which has started. `&Array2` (any `&ArrayBase`) and
/// `ArrayView2` make a [`Scoped`], which starts in its `wait`. Neither is copied.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no matrix of `{T}`",
    label = "expected a matrix with one column per item",
    note = "a column call takes an `Array2<{T}>`, `ArcArray2<{T}>` or `Arc<Array2<{T}>>`, or borrows a `&Array2<{T}>` or `ArrayView2<{T}>`"
)]
pub trait ColumnsInput<T>: Sized {
    /// [`Call`] or [`Scoped`].
    type Handle<O: Output>;
    #[doc(hidden)]
    fn start<O: Output>(self, start: Start<Columns<T>, O>) -> Self::Handle<O>;
    /// As [`MapInput::run`].
    #[doc(hidden)]
    fn run<O: Output>(self, start: Start<Columns<T>, O>, with: &mut dyn FnMut(Call<O>));
}

/// The matrix of a column call, owned or lent.
pub struct Columns<T>(pub(crate) Matrix<T>);

/// Owned input of a column call: `Array2`, `ArcArray2` or `Arc<Array2>`.
pub trait OwnedColumns<T>: sealed::Sealed {
    #[doc(hidden)]
    fn into_columns(self) -> Columns<T>;
}

impl<T> OwnedColumns<T> for Array2<T> {
    fn into_columns(self) -> Columns<T> {
        Columns(Matrix::Owned(self))
    }
}

impl<T> OwnedColumns<T> for ArcArray2<T> {
    fn into_columns(self) -> Columns<T> {
        Columns(Matrix::Shared(self))
    }
}

impl<T> OwnedColumns<T> for Arc<Array2<T>> {
    fn into_columns(self) -> Columns<T> {
        Columns(Matrix::Counted(self))
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for ndarray::Array2<T> {}
    impl<T> Sealed for ndarray::ArcArray2<T> {}
    impl<T> Sealed for std::sync::Arc<ndarray::Array2<T>> {}
}

macro_rules! owned_columns {
    ($($owner:ty),*) => {$(
        #[diagnostic::do_not_recommend]
        impl<T> ColumnsInput<T> for $owner {
            type Handle<O: Output> = Call<O>;
            fn start<O: Output>(self, start: Start<Columns<T>, O>) -> Call<O> {
                start.0(self.into_columns())
            }
            fn run<O: Output>(self, start: Start<Columns<T>, O>, with: &mut dyn FnMut(Call<O>)) {
                with(ColumnsInput::start(self, start));
            }
        }
    )*};
}
owned_columns!(Array2<T>, ArcArray2<T>, Arc<Array2<T>>);

#[diagnostic::do_not_recommend]
impl<'a, T: Sync> ColumnsInput<T> for ArrayView2<'a, T> {
    type Handle<O: Output> = Scoped<'a, O>;
    fn start<O: Output>(self, start: Start<Columns<T>, O>) -> Scoped<'a, O> {
        Scoped::lending(move |with| ColumnsInput::run(self, start, with))
    }
    fn run<O: Output>(self, start: Start<Columns<T>, O>, with: &mut dyn FnMut(Call<O>)) {
        lend_matrix(self, |lent| with(start.0(Columns(Matrix::Lent(lent)))));
    }
}

#[diagnostic::do_not_recommend]
impl<'a, T: Sync, S: Data<Elem = T>> ColumnsInput<T> for &'a ArrayBase<S, Ix2> {
    type Handle<O: Output> = Scoped<'a, O>;
    fn start<O: Output>(self, start: Start<Columns<T>, O>) -> Scoped<'a, O> {
        ColumnsInput::start(self.view(), start)
    }
    fn run<O: Output>(self, start: Start<Columns<T>, O>, with: &mut dyn FnMut(Call<O>)) {
        ColumnsInput::run(self.view(), start, with);
    }
}
