//! How the macros look at a function, so that one that can't be distributed is reported once and in our words.
//!
//! `(&&&&Probe(f)).method()` tries the traits by the references on their `Self`, most first: the first one whose bounds
//! hold has the method.

use std::{any::type_name, ffi::OsStr, path::Path};

use distfun_core::function::{ByValue, ValueFunction};

use crate::{
    kernel::{Distributable, ListKernel},
    node::{Offer, Offered},
};

/// A function that a macro was given.
#[derive(Debug)]
pub struct Probe<F>(pub F);

/// First: functions of a reference to something unsized. `&str` is an item as far as types go, by value and with serde,
/// and would fail on a lifetime later, without a word on what to do.
pub trait UnsizedArgument<U: ?Sized, R>: Sized {
    fn __distfun_kernel(self, _: &'static str) -> ListKernel<&'static U, R>
    where
        for<'a> &'a U: OwnedItem,
    {
        unreachable!("no unsized argument is an owned item")
    }
}

impl<F, U: ?Sized + WithoutSize, R> UnsizedArgument<U, R> for &&&&Probe<F> where F: for<'a> Fn(&'a U) -> R {}

/// The unsized types whose references implement serde, and those that come near.
pub trait WithoutSize {}
impl WithoutSize for str {}
impl<T> WithoutSize for [T] {}
impl WithoutSize for Path {}
impl WithoutSize for OsStr {}

#[diagnostic::on_unimplemented(
    message = "a function of `{Self}` can't be distributed",
    label = "its items would be borrowed",
    note = "a distributed function owns its items; wrap it in a closure over an owned type, as in `distribute!(|s: String| f(&s))` or `distribute!(|list: Vec<f64>| f(&list))`"
)]
pub trait OwnedItem {}

/// Second: functions by value whose items are `Clone`, so that one that failed may be run again.
pub trait ClonesItems<A, X>: Sized {
    type Kernel;
    fn __distfun_kernel(self, site: &'static str) -> Self::Kernel;
}

impl<F, A, R, X> ClonesItems<A, X> for &&&Probe<F>
where
    F: Copy + ValueFunction<A, X, Out = R> + Distributable<ByValue<A, X>, Kernel = ListKernel<A, R>>,
    A: Clone + Send + 'static,
    R: Send + 'static,
{
    type Kernel = ListKernel<A, R>;
    fn __distfun_kernel(self, site: &'static str) -> Self::Kernel {
        made(self.0, site).cloning(<[A]>::to_vec)
    }
}

/// Third: everything else. It demands what [`Distributable`] does.
pub trait Function<F>: Sized {
    fn __distfun_kernel<M>(self, site: &'static str) -> F::Kernel
    where
        F: Distributable<M>;
}

impl<F: Copy> Function<F> for &&Probe<F> {
    fn __distfun_kernel<M>(self, site: &'static str) -> F::Kernel
    where
        F: Distributable<M>,
    {
        made(self.0, site)
    }
}

/// A function is known by its path, a closure by its place.
fn made<F: Distributable<M>, M>(function: F, site: &'static str) -> F::Kernel {
    let path = type_name::<F>();
    function.into_kernel(if path.contains("{{closure}}") { site } else { path }, site)
}

/// For the registry, first: functions of a reference to something unsized, as above.
pub trait RegisteredUnsized<U: ?Sized, R>: Sized {
    fn __distfun_offered(self, _: &'static str) -> Option<Offered> {
        None
    }
}

impl<F, U: ?Sized + WithoutSize, R> RegisteredUnsized<U, R> for &&&Probe<F> where F: for<'a> Fn(&'a U) -> R {}

/// Second: what can be distributed.
pub trait Registered<M>: Sized {
    fn __distfun_offered(self, site: &'static str) -> Option<Offered>;
}

impl<F, M> Registered<M> for &&Probe<F>
where
    F: Copy + Distributable<M>,
{
    fn __distfun_offered(self, site: &'static str) -> Option<Offered> {
        Some(Function::__distfun_kernel(self, site).offered())
    }
}

/// Third: what can't, about which [`Function`] has complained.
pub trait Unregistered: Sized {
    fn __distfun_offered(self, _: &'static str) -> Option<Offered> {
        None
    }
}

impl<F> Unregistered for &Probe<F> {}
