//! How a function's items and results travel, with their types erased beside the function.

use std::{marker::PhantomData, sync::OnceLock};

use distfun_core::{
    failure::FailureCause,
    function::{ColumnsOutput, Fingerprint, Schema, schema_of_columns, schema_of_list},
    payload::{
        Kept, Packed, Parcel, PayloadError, Received, is_raw, pack_list, pack_matrix, pack_result, pack_slice,
        unpack_list, unpack_list_into, unpack_matrix, unpack_result,
    },
};
use ndarray::{Array2, ArrayView2};
use serde::{Serialize, de::DeserializeOwned};

use crate::compute::catch::catch;

/// Items that are on their way, until their outcome is known.
pub(crate) trait Held<A>: Send {
    /// Gives the items back for another try; or itself, while something still sends them.
    fn items(self: Box<Self>) -> Result<Vec<A>, Box<dyn Held<A>>>;
}

/// The items and results of a function of single items.
pub(crate) trait ListWire<A, R>: Send + Sync {
    /// Nothing of the user's code runs when items are packed and results unpacked.
    fn is_raw(&self) -> bool;
    /// A chunk travels as one item, which is a list.
    fn is_lists(&self) -> bool;
    fn schema(&self) -> &Schema;
    fn fingerprint(&self) -> Fingerprint;
    /// Where in the source the function was distributed.
    fn site(&self) -> &'static str;
    /// Panics of the user's code are caught, here and below.
    fn pack(&self, items: Vec<A>) -> (Result<Parcel, FailureCause>, Box<dyn Held<A>>);
    fn pack_lent(&self, items: &[A], clone: fn(&[A]) -> Vec<A>) -> Result<Parcel, FailureCause>;
    /// The items, or those before one that can't be read, and why it can't.
    fn unpack(&self, items: Received, count: usize) -> (Vec<A>, Option<FailureCause>);
    fn pack_results(&self, results: Vec<R>) -> Result<Parcel, FailureCause>;
    fn unpack_results(&self, results: Received, count: usize) -> Result<Vec<R>, FailureCause>;
}

/// The blocks and results of a column function.
pub(crate) trait ColumnWire<T, Y>: Send + Sync {
    fn is_raw(&self) -> bool;
    fn schema(&self) -> &Schema;
    fn fingerprint(&self) -> Fingerprint;
    /// As in [`ListWire`].
    fn site(&self) -> &'static str;
    fn pack(&self, block: ArrayView2<'_, T>) -> Result<Parcel, FailureCause>;
    fn unpack(&self, block: Received, columns: usize) -> Result<Array2<T>, FailureCause>;
    fn pack_result(&self, result: Y) -> Result<Parcel, FailureCause>;
    fn unpack_result(&self, result: Received, columns: usize) -> Result<Y, FailureCause>;
}

/// [`ListWire`] of types that have serde.
pub(crate) struct BySerde<A, R> {
    kind: &'static str,
    site: &'static str,
    /// The function is a closure.
    is_closure: bool,
    schema: OnceLock<Schema>,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> BySerde<A, R> {
    pub(crate) fn new(kind: &'static str, name: &str, site: &'static str) -> Self {
        Self { kind, site, is_closure: is_closure(name), schema: OnceLock::new(), types: PhantomData }
    }
}

/// Whether a function of this name is a closure, which is known by its place in the source.
fn is_closure(name: &str) -> bool {
    name.rsplit(':').next().is_some_and(|column| column.parse::<u32>().is_ok())
}

/// What a function must have in common: its types, and for a closure, whose name says little, the whole program.
fn fingerprint(schema: &Schema, is_closure: bool) -> Fingerprint {
    if !is_closure {
        return schema.fingerprint();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&schema.fingerprint()).update(&crate::instance::program());
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer")
}

struct HeldVec<A>(Vec<A>);

impl<A: Send + 'static> Held<A> for HeldVec<A> {
    fn items(self: Box<Self>) -> Result<Vec<A>, Box<dyn Held<A>>> {
        Ok(self.0)
    }
}

struct HeldList<A>(Kept<A>);

impl<A: Send + 'static> Held<A> for HeldList<A> {
    fn items(self: Box<Self>) -> Result<Vec<A>, Box<dyn Held<A>>> {
        self.0.into_items().map_err(|kept| Box::new(Self(kept)) as Box<dyn Held<A>>)
    }
}

impl<A, R> ListWire<A, R> for BySerde<A, R>
where
    A: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    fn is_raw(&self) -> bool {
        is_raw::<A>() && is_raw::<R>()
    }

    fn is_lists(&self) -> bool {
        false
    }

    fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| schema_of_list::<A, R>(self.kind, 0))
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.schema(), self.is_closure)
    }

    fn site(&self) -> &'static str {
        self.site
    }

    fn pack(&self, items: Vec<A>) -> (Result<Parcel, FailureCause>, Box<dyn Held<A>>) {
        if is_raw::<A>() {
            return match pack_list(items) {
                Ok(Packed { parcel, kept, .. }) => (Ok(parcel), Box::new(HeldList(kept))),
                Err((items, error)) => (Err(failed("arguments", error)), Box::new(HeldVec(items))),
            };
        }
        // Written down by reference, so that a panic does not take the items along.
        (careful("arguments", || pack_slice(&items)), Box::new(HeldVec(items)))
    }

    fn pack_lent(&self, items: &[A], _: fn(&[A]) -> Vec<A>) -> Result<Parcel, FailureCause> {
        careful("arguments", || pack_slice(items))
    }

    fn unpack(&self, items: Received, count: usize) -> (Vec<A>, Option<FailureCause>) {
        let mut all = Vec::new();
        let unread = careful("arguments", || unpack_list_into(items, count, &mut all)).err();
        (all, unread)
    }

    fn pack_results(&self, results: Vec<R>) -> Result<Parcel, FailureCause> {
        careful("results", || pack_list(results).map(|packed| packed.parcel).map_err(|(_, error)| error))
    }

    fn unpack_results(&self, results: Received, count: usize) -> Result<Vec<R>, FailureCause> {
        careful("results", || unpack_list(results, count))
    }
}

/// Runs serde of the user's types; an error says what of the call it was about.
fn careful<T>(what: &str, body: impl FnOnce() -> Result<T, PayloadError>) -> Result<T, FailureCause> {
    catch(body)?.map_err(|error| failed(what, error))
}

fn failed(what: &str, error: PayloadError) -> FailureCause {
    let message = match std::error::Error::source(&error) {
        Some(source) => format!("its {what} could not travel: {error}: {source}"),
        None => format!("its {what} could not travel: {error}"),
    };
    FailureCause::Payload { message: message.into() }
}

/// [`ListWire`] of a function under `accept_lists`, over that of the function itself.
pub(crate) struct Lists<A, R>(pub(crate) std::sync::Arc<dyn ListWire<Vec<A>, Vec<R>>>);

struct HeldOne<A>(Box<dyn Held<Vec<A>>>);

impl<A: Send + 'static> Held<A> for HeldOne<A> {
    fn items(self: Box<Self>) -> Result<Vec<A>, Box<dyn Held<A>>> {
        let lists = self.0.items().map_err(|held| Box::new(Self(held)) as Box<dyn Held<A>>)?;
        Ok(lists.into_iter().next().unwrap_or_default())
    }
}

impl<A: Send + 'static, R: Send + 'static> ListWire<A, R> for Lists<A, R> {
    fn is_raw(&self) -> bool {
        self.0.is_raw()
    }

    fn is_lists(&self) -> bool {
        true
    }

    fn schema(&self) -> &Schema {
        self.0.schema()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    fn site(&self) -> &'static str {
        self.0.site()
    }

    fn pack(&self, items: Vec<A>) -> (Result<Parcel, FailureCause>, Box<dyn Held<A>>) {
        let (packed, held) = self.0.pack(vec![items]);
        (packed, Box::new(HeldOne(held)))
    }

    fn pack_lent(&self, items: &[A], clone: fn(&[A]) -> Vec<A>) -> Result<Parcel, FailureCause> {
        self.0.pack(vec![catch(|| clone(items))?]).0
    }

    fn unpack(&self, items: Received, _: usize) -> (Vec<A>, Option<FailureCause>) {
        let (lists, unread) = self.0.unpack(items, 1);
        (lists.into_iter().next().unwrap_or_default(), unread)
    }

    fn pack_results(&self, results: Vec<R>) -> Result<Parcel, FailureCause> {
        self.0.pack_results(vec![results])
    }

    fn unpack_results(&self, results: Received, _: usize) -> Result<Vec<R>, FailureCause> {
        Ok(self.0.unpack_results(results, 1)?.into_iter().next().unwrap_or_default())
    }
}

/// [`ColumnWire`] of types that have serde.
pub(crate) struct ColumnsBySerde<T, Y> {
    site: &'static str,
    is_closure: bool,
    schema: OnceLock<Schema>,
    types: PhantomData<fn(T) -> Y>,
}

impl<T, Y> ColumnsBySerde<T, Y> {
    pub(crate) fn new(name: &str, site: &'static str) -> Self {
        Self { site, is_closure: is_closure(name), schema: OnceLock::new(), types: PhantomData }
    }
}

impl<T, Y> ColumnWire<T, Y> for ColumnsBySerde<T, Y>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    Y: ColumnsOutput<Elem: Serialize + DeserializeOwned>,
{
    fn is_raw(&self) -> bool {
        is_raw::<T>() && is_raw::<Y::Elem>()
    }

    fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| schema_of_columns::<T, Y::Elem>(Y::NAME, 0))
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.schema(), self.is_closure)
    }

    fn site(&self) -> &'static str {
        self.site
    }

    fn pack(&self, block: ArrayView2<'_, T>) -> Result<Parcel, FailureCause> {
        careful("arguments", || {
            let mut parcel = pack_matrix(block)?;
            parcel.head.extend((block.nrows() as u64).to_le_bytes());
            Ok(parcel)
        })
    }

    fn unpack(&self, mut block: Received, columns: usize) -> Result<Array2<T>, FailureCause> {
        let rows = block.head.split_last_chunk().map(|(_, rows)| u64::from_le_bytes(*rows));
        let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok()) else {
            let message = "its arguments could not travel: a block of columns has no number of rows".into();
            return Err(FailureCause::Payload { message });
        };
        block.head.truncate(block.head.len() - size_of::<u64>());
        careful("arguments", || unpack_matrix(block, rows, columns))
    }

    fn pack_result(&self, result: Y) -> Result<Parcel, FailureCause> {
        careful("results", || pack_result(result))
    }

    fn unpack_result(&self, result: Received, columns: usize) -> Result<Y, FailureCause> {
        careful("results", || unpack_result(result, columns))
    }
}
