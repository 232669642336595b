//! Which functions can run on other machines: those whose arguments and results have a form over bytes.

use serde::{Serialize, de::DeserializeOwned};

use super::kind::{ByRef, ByValue, ColumnsFunction, ColumnsKind, ColumnsOutput, RefFunction, ValueFunction};

/// A function whose arguments and results implement serde.
pub trait WireFunction<M>: Send + Sync + 'static {}

impl<F, A, X> WireFunction<ByValue<A, X>> for F
where
    F: ValueFunction<A, X>,
    F::Out: Serialize + DeserializeOwned,
    A: Serialize + DeserializeOwned,
{
}

impl<F, A, X> WireFunction<ByRef<A, X>> for F
where
    F: RefFunction<A, X>,
    F::Out: Serialize + DeserializeOwned,
    A: Serialize + DeserializeOwned,
{
}

impl<F, T, X> WireFunction<ColumnsKind<T, X>> for F
where
    F: ColumnsFunction<T, X>,
    <F::Out as ColumnsOutput>::Elem: Serialize + DeserializeOwned,
    T: Serialize + DeserializeOwned,
{
}
