//! How lists of types that this module knows travel without serde.
//!
//! Which form a list has is found by the type of its items when the program runs, as there is no other way without
//! specialization: so a generic caller holds one look into a table and no code for any of the types in it.

use std::{
    any::{Any, TypeId},
    borrow::Cow,
    collections::HashMap,
    marker::PhantomData,
    slice,
    sync::{Arc, LazyLock},
};

use ndarray::{Array1, Array2, Array3, ArrayD};
use num_complex::Complex;

use super::{
    Decoder, Parcel, PayloadError, Received, Spares,
    item::{Item, Shape},
    plain::{AsBytes, Plain, elements, section},
    serial::encode,
};

/// An item of at least this many bytes has a section of its own. Part of the format.
pub(super) const LARGE_BYTES: usize = 16 << 10;

/// How many items [`pieces`] puts into one piece.
const RUN: usize = 64;

/// How lists of one type travel. Lists are `Vec`s of that type.
pub(super) trait Form: Send + Sync {
    /// Packs a list without copying what is large.
    fn pack(&self, items: Box<dyn Any>) -> (Parcel, Box<dyn Hold>);

    /// Packs copies of the `count` items in `pieces`, which are as [`pieces`] makes them.
    fn pack_pieces(&self, pieces: &mut dyn Iterator<Item = &(dyn Any + 'static)>, count: usize) -> Parcel;

    /// Gives the memory of a list that is done with.
    fn spend(&self, items: Box<dyn Any>, to: &mut Spares);

    /// The list of `count` items.
    fn unpack(&self, received: Received, count: usize) -> Result<Box<dyn Any>, PayloadError>;
}

/// A list that sections may still be part of.
pub(super) trait Hold: Send + Sync {
    /// The list, unless sections still are.
    fn release(self: Box<Self>) -> Result<Box<dyn Any>, Box<dyn Hold>>;
}

impl<I: Send + Sync + 'static> Hold for Arc<Vec<I>> {
    fn release(self: Box<Self>) -> Result<Box<dyn Any>, Box<dyn Hold>> {
        match Arc::try_unwrap(*self) {
            Ok(items) => Ok(Box::new(items)),
            Err(held) => Err(Box::new(held)),
        }
    }
}

/// The form of lists of `A`; none if they go through serde.
pub(super) fn form<A: 'static>() -> Option<&'static dyn Form> {
    static FORMS: LazyLock<HashMap<TypeId, &'static dyn Form>> = LazyLock::new(|| {
        let mut forms = HashMap::new();
        macro_rules! add {
            ($($plain:ty),*) => {$(
                forms.insert(TypeId::of::<$plain>(), &Scalars::<$plain>(PhantomData) as &dyn Form);
                add!(@items Vec<$plain>, Box<[$plain]>, Array1<$plain>, Array2<$plain>, Array3<$plain>, ArrayD<$plain>);
            )*};
            (@items $($item:ty),*) => {$(
                forms.insert(TypeId::of::<$item>(), &Items::<$item>(PhantomData) as &dyn Form);
            )*};
        }
        add!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64, bool, Complex<f32>, Complex<f64>);
        #[cfg(target_pointer_width = "64")]
        add!(usize, isize);
        forms
    });
    FORMS.get(&TypeId::of::<A>()).copied()
}

/// Items of `A` behind `dyn Any`, in arrays as far as they go, so that looking at the type costs nothing per item.
pub(super) fn pieces<A: 'static>(items: &[A]) -> impl Iterator<Item = &(dyn Any + 'static)> {
    let (runs, rest) = items.as_chunks::<RUN>();
    runs.iter().map(|run| run as &dyn Any).chain(rest.iter().map(|item| item as &dyn Any))
}

fn items_of<'a, I: 'static>(piece: &'a (dyn Any + 'static)) -> &'a [I] {
    match piece.downcast_ref::<[I; RUN]>() {
        Some(run) => run,
        None => slice::from_ref(piece.downcast_ref().expect("a piece of the type that its form was found for")),
    }
}

fn list<I: 'static>(items: Box<dyn Any>) -> Arc<Vec<I>> {
    Arc::new(typed(items))
}

fn typed<I: 'static>(items: Box<dyn Any>) -> Vec<I> {
    *items.downcast().expect("a list of the type that its form was found for")
}

/// One section with all of them, and no head.
struct Scalars<T>(PhantomData<fn() -> T>);

impl<T: Plain> Form for Scalars<T> {
    fn pack(&self, items: Box<dyn Any>) -> (Parcel, Box<dyn Hold>) {
        struct All<T>(Arc<Vec<T>>);
        impl<T: Plain> AsRef<[u8]> for All<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }

        let items = list::<T>(items);
        let mut parcel = Parcel::default();
        if !items.is_empty() {
            parcel.sections.push(section::<T>(All(items.clone())));
        }
        (parcel, Box::new(items))
    }

    fn pack_pieces(&self, pieces: &mut dyn Iterator<Item = &(dyn Any + 'static)>, count: usize) -> Parcel {
        let mut all = Vec::with_capacity(count);
        pieces.for_each(|piece| all.extend_from_slice(items_of::<T>(piece)));
        let mut parcel = Parcel::default();
        if !all.is_empty() {
            parcel.sections.push(section::<T>(AsBytes(all)));
        }
        parcel
    }

    fn spend(&self, items: Box<dyn Any>, to: &mut Spares) {
        to.keep(T::into_raw(typed(items)));
    }

    fn unpack(&self, received: Received, count: usize) -> Result<Box<dyn Any>, PayloadError> {
        if !received.head.is_empty() {
            return Err(PayloadError::TrailingBytes(received.head.len()));
        }
        let mut sections = Sections(received.sections.into_iter());
        let items = sections.take::<T>(count)?;
        sections.finish()?;
        Ok(Box::new(items))
    }
}

/// Their shapes in the head; a section with all small ones; sections of the large ones.
struct Items<I>(PhantomData<fn() -> I>);

impl<I: Item> Form for Items<I> {
    fn pack(&self, items: Box<dyn Any>) -> (Parcel, Box<dyn Hold>) {
        struct One<I>(Arc<Vec<I>>, usize);
        impl<I: Item> AsRef<[u8]> for One<I> {
            fn as_ref(&self) -> &[u8] {
                match self.0[self.1].elements() {
                    Cow::Borrowed(elements) => bytemuck::cast_slice(elements),
                    Cow::Owned(_) => unreachable!("elements that had to be copied are sent as the copy"),
                }
            }
        }

        let items = list::<I>(items);
        let mut packing = Packing::new();
        for (index, item) in items.iter().enumerate() {
            packing.add(item, || Some(One(items.clone(), index)));
        }
        (packing.finish(), Box::new(items))
    }

    fn pack_pieces(&self, pieces: &mut dyn Iterator<Item = &(dyn Any + 'static)>, _: usize) -> Parcel {
        let mut packing = Packing::new();
        for item in pieces.flat_map(items_of::<I>) {
            packing.add(item, || None::<AsBytes<I::Element>>);
        }
        packing.finish()
    }

    fn spend(&self, items: Box<dyn Any>, to: &mut Spares) {
        for item in typed::<I>(items) {
            to.keep(I::Element::into_raw(item.into_elements()));
        }
    }

    fn unpack(&self, received: Received, count: usize) -> Result<Box<dyn Any>, PayloadError> {
        let (head, mut sections) = received.open()?;
        if head.len() < count {
            return Err(PayloadError::TooShort { expected: count as u64, got: head.len() as u64 });
        }
        let mut decoder = Decoder::new(&head);
        let mut shapes = Vec::with_capacity(count);
        let mut small_count = 0usize;
        for _ in 0..count {
            let shape: I::Shape = decoder.next()?;
            let elements = shape.count().unwrap_or(usize::MAX);
            if !is_large::<I::Element>(elements) {
                small_count = small_count.saturating_add(elements);
            }
            shapes.push((shape, elements));
        }
        decoder.finish()?;
        let small: Vec<I::Element> = sections.take(small_count)?;
        let mut small = &small[..];
        let build = |(shape, count)| {
            if is_large::<I::Element>(count) {
                return I::build(shape, sections.take(count)?);
            }
            let (own, rest) = small.split_at(count);
            small = rest;
            I::build(shape, own.to_vec())
        };
        let items = shapes.into_iter().map(build).collect::<Result<Vec<I>, _>>()?;
        sections.finish()?;
        Ok(Box::new(items))
    }
}

fn is_large<T>(count: usize) -> bool {
    count.saturating_mul(size_of::<T>()) >= LARGE_BYTES
}

/// Items on their way into a parcel.
struct Packing<T> {
    head: Vec<u8>,
    small: Vec<T>,
    large: Parcel,
}

impl<T: Plain> Packing<T> {
    fn new() -> Self {
        Self { head: Vec::new(), small: Vec::new(), large: Parcel::default() }
    }

    /// Adds an item; if it is large and its elements lie as they are sent, `owner` may keep them from being copied.
    fn add<I, O>(&mut self, item: &I, owner: impl FnOnce() -> Option<O>)
    where
        I: Item<Element = T>,
        O: AsRef<[u8]> + Send + 'static,
    {
        let head = std::mem::take(&mut self.head);
        self.head = encode(head, &item.description()).expect("integers and lists of them can be written");
        let elements = item.elements();
        if !is_large::<T>(elements.len()) {
            return self.small.extend_from_slice(&elements);
        }
        let owner = if matches!(elements, Cow::Borrowed(_)) { owner() } else { None };
        self.large.sections.push(match owner {
            Some(owner) => section::<T>(owner),
            None => section::<T>(AsBytes(elements.into_owned())),
        });
    }

    fn finish(self) -> Parcel {
        let mut parcel = Parcel::of(self.head);
        if !self.small.is_empty() {
            parcel.sections.push(section::<T>(AsBytes(self.small)));
        }
        parcel.sections.extend(self.large.sections);
        parcel
    }
}

/// The sections of a parcel, one after the other.
pub(super) struct Sections(pub(super) std::vec::IntoIter<super::RawVec>);

impl Sections {
    /// The next section's elements. There is no section of no elements.
    fn take<T: Plain>(&mut self, count: usize) -> Result<Vec<T>, PayloadError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let Some(raw) = self.0.next() else {
            return Err(PayloadError::MissingSection { expected: count as u64 });
        };
        if raw.element() == T::TYPE && raw.len() != count {
            return Err(PayloadError::WrongCount { expected: count as u64, got: raw.len() as u64 });
        }
        elements(raw)
    }

    /// Refuses sections that nobody took.
    pub(super) fn finish(self) -> Result<(), PayloadError> {
        match self.0.len() {
            0 => Ok(()),
            count => Err(PayloadError::LeftOverSections(count)),
        }
    }
}
