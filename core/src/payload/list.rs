//! Lists of items.

use std::{any::Any, cell::RefCell, fmt, slice};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Decoder, Parcel, PayloadError, Received,
    form::{Hold, form, pieces},
    serial::{Sequence, encode},
};

/// Whether lists of `A` travel as they lie in memory, without any code of `A`'s, its `Serialize` for example.
///
/// They do if `A` is a plain type (see [`Element`](crate::shared_data::Element)), or a `Vec`, a boxed slice, an
/// `Array1`, `Array2`, `Array3` or `ArrayD` of one. Tuples go through serde, whatever is in them, and so
/// does [`Raw`](super::Raw), which only makes serde fast.
pub fn is_raw<A: 'static>() -> bool {
    form::<A>().is_some()
}

/// A list that is ready to be sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Packed<A> {
    /// What is sent.
    pub parcel: Parcel,
    /// The items, for another try.
    pub kept: Kept<A>,
}

/// Items that were packed.
pub struct Kept<A>(Keeping<A>);

enum Keeping<A> {
    Items(Vec<A>),
    /// Sections of the parcel are part of them.
    Held(Box<dyn Hold>),
}

impl<A: 'static> Kept<A> {
    /// The items.
    ///
    /// # Errors
    /// Gives itself back while sections of the parcel, or clones of them, are still somewhere.
    pub fn into_items(self) -> Result<Vec<A>, Self> {
        match self.0 {
            Keeping::Items(items) => Ok(items),
            Keeping::Held(held) => held.release().map(typed).map_err(|held| Self(Keeping::Held(held))),
        }
    }
}

impl<A> fmt::Debug for Kept<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Keeping::Items(items) => write!(f, "{} kept item(s)", items.len()),
            Keeping::Held(_) => f.write_str("kept items with sections"),
        }
    }
}

/// Packs a list; large arrays and lists of plain values are not copied.
///
/// # Errors
/// The items' own `Serialize` failed. They are given back.
pub fn pack_list<A: Serialize + Send + 'static>(items: Vec<A>) -> Result<Packed<A>, (Vec<A>, PayloadError)> {
    if let Some(form) = form::<A>() {
        let (parcel, held) = form.pack(Box::new(items));
        return Ok(Packed { parcel, kept: Kept(Keeping::Held(held)) });
    }
    match pack_slice(&items) {
        Ok(parcel) => Ok(Packed { parcel, kept: Kept(Keeping::Items(items)) }),
        Err(error) => Err((items, error)),
    }
}

/// Packs copies of the items, as [`pack_list`] would pack them.
///
/// # Errors
/// The items' own `Serialize` failed.
pub fn pack_slice<A: Serialize + 'static>(items: &[A]) -> Result<Parcel, PayloadError> {
    pack_slices(items.len(), &mut std::iter::once(items))
}

/// Packs the `count` items of several slices as one list.
pub(super) fn pack_slices<A: Serialize + 'static>(
    count: usize,
    slices: &mut dyn Iterator<Item = &[A]>,
) -> Result<Parcel, PayloadError> {
    if let Some(form) = form::<A>() {
        return Ok(form.pack_pieces(&mut slices.flat_map(pieces), count));
    }
    encode(Vec::new(), &Sequence { count, slices: RefCell::new(slices) }).map(Parcel::of)
}

/// Unpacks a list of exactly `count` items; what was packed without a copy is not copied here either.
///
/// It allocates in proportion to what arrived. Only `count`, which the caller answers for, limits items that are
/// encoded to no bytes at all, as `()` is; lists and maps within items have at most about a million of those.
///
/// # Errors
/// What arrived is not such a list.
pub fn unpack_list<A: DeserializeOwned + 'static>(received: Received, count: usize) -> Result<Vec<A>, PayloadError> {
    let mut items = Vec::new();
    unpack_list_into(received, count, &mut items)?;
    Ok(items)
}

/// The same; what was read before an error, or before a panic of the items' own `Deserialize`, is in `items`.
///
/// # Errors
/// What arrived is not such a list.
pub fn unpack_list_into<A: DeserializeOwned + 'static>(
    received: Received,
    count: usize,
    items: &mut Vec<A>,
) -> Result<(), PayloadError> {
    if let Some(form) = form::<A>() {
        *items = form.unpack(received, count).map(typed)?;
        return Ok(());
    }
    let (head, sections) = received.open()?;
    sections.finish()?;
    let mut decoder = Decoder::new(&head);
    let got = decoder.next()?;
    if got != count as u64 {
        return Err(PayloadError::WrongCount { expected: count as u64, got });
    }
    // As serde does for sequences inside: a megabyte is no harm, more has to arrive before it is allocated for.
    let room = head.len().max(1 << 20) / size_of::<A>().max(1);
    items.reserve(count.min(room));
    for _ in 0..count {
        items.push(decoder.next()?);
    }
    decoder.finish()
}

fn typed<A: 'static>(items: Box<dyn Any>) -> Vec<A> {
    *items.downcast().expect("a list of the type that its form was found for")
}

/// One item as a slice.
pub(super) fn each<'a, A: 'a>(items: impl Iterator<Item = &'a A>) -> impl Iterator<Item = &'a [A]> {
    items.map(slice::from_ref)
}
