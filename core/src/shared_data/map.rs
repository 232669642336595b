//! An island of `unsafe`: files mapped into memory, and their bytes seen as elements.
//!
//! Two facts carry it. A [`PrivateFile`] and a [`SealedFile`] are known to nobody else, have all of their length, and
//! once sealed are written by nobody; [`storage`](super::storage), which alone makes them, promises that, and says there
//! what a [kept](SealedFile::kept) one rests on, which has a name. And a [`Section`] has been looked at once, when it was made: it lies inside its mapping, is aligned for its elements, and holds no bytes
//! that are not elements.
#![allow(unsafe_code)]

use std::{fs::File, io, ops::Range, sync::Arc};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{Mmap, MmapMut, MmapOptions};
use num_complex::Complex;

use super::{
    element::ElementType,
    storage::{PrivateFile, SealedFile},
};

/// What seals [`Element`](super::Element): a type without padding and pointers.
///
/// # Safety
///
/// `TYPE` names this type's own representation (size, alignment and meaning of its bytes). Every initialised byte
/// pattern is a value of it, unless it is `bool`.
pub unsafe trait Plain: Copy + Send + Sync + 'static {
    /// This type's name in files.
    const TYPE: ElementType;
}

macro_rules! plain {
    ($($(#[$only:meta])? $element:ty => $name:ident),* $(,)?) => {$(
        // SAFETY: a primitive number, or two in a `repr(C)` struct without padding, under its own name; or `bool`.
        $(#[$only])? unsafe impl Plain for $element {
            const TYPE: ElementType = {
                assert!(size_of::<$element>() == ElementType::$name.size());
                ElementType::$name
            };
        }
    )*};
}
plain! {
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, u128 => U128,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128,
    f32 => F32, f64 => F64, bool => Bool, Complex<f32> => ComplexF32, Complex<f64> => ComplexF64,
    #[cfg(target_pointer_width = "64")] usize => U64,
    #[cfg(target_pointer_width = "64")] isize => I64,
    #[cfg(target_pointer_width = "32")] usize => U32,
    #[cfg(target_pointer_width = "32")] isize => I32,
}

/// Whether `bytes` are whole, well-formed elements at an address where they can be read.
fn holds<T: Plain>(bytes: &[u8]) -> bool {
    bytes.as_ptr().cast::<T>().is_aligned()
        && bytes.len().is_multiple_of(size_of::<T>())
        && (T::TYPE != ElementType::Bool || bytes.iter().all(|byte| *byte <= 1))
}

/// `bytes` as elements to be filled. None unless they are whole and aligned, and for `bool` all 0 or 1.
pub(super) fn elements_mut<T: Plain>(bytes: &mut [u8]) -> Option<&mut [T]> {
    if !holds::<T>(bytes) {
        return None;
    }
    let len = bytes.len() / size_of::<T>();
    // SAFETY: `holds` saw that the address is aligned and that the bytes are `len` values of `T`; they stay borrowed
    // for the life of the result, and any `T` written leaves initialised bytes, as it has no padding.
    Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) })
}

/// A private file, mapped to be filled.
pub(super) struct Filling {
    map: MmapMut,
    file: PrivateFile,
}

impl Filling {
    pub(super) fn map(file: PrivateFile) -> io::Result<Self> {
        // SAFETY: a `PrivateFile` is known to nobody else, so nobody writes or truncates it. It has all of its length,
        // allocated on disk or in memory, so no access can fail. It is given by value and comes back only when this mapping is gone, so there is no second one.
        let map = unsafe { MmapOptions::new().len(file.len()).map_mut(file.file()) }?;
        // A process that is forked meanwhile would hold a writable mapping as well, and keep the file from being sealed.
        // Huge pages are for speed; where files can't have them the system says no, which is no harm.
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::DontFork).and_then(|()| map.advise(Advice::HugePage));
        Ok(Self { map, file })
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// Unmaps the file, so that it can be sealed.
    pub(super) fn into_file(self) -> PrivateFile {
        self.file
    }
}

/// A file mapped for reading, shared by its [`Section`]s.
#[derive(Clone)]
pub(super) struct Map(Arc<Mmap>);

impl Map {
    pub(super) fn sealed(file: &SealedFile) -> io::Result<Self> {
        // SAFETY: nobody writes or truncates a `SealedFile`, and it has all of its length; `SealedFile::kept` names what
        // that rests on if the file has a name.
        let map = unsafe { MmapOptions::new().len(file.len()).map(file.file()) }?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::HugePage);
        Ok(Self(Arc::new(map)))
    }

    /// Maps the first `len` bytes of a file that belongs to somebody else.
    ///
    /// This is as sound as its owner is well-behaved: who writes to it while it is mapped changes values under a `&`,
    /// and who truncates it ends this process by SIGBUS. `SharedDataBuilder::npy` says so to those who call it.
    pub(super) fn foreign(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the caller of `SharedDataBuilder::npy` has been told to leave the file alone, and
        // `SharedData::check_unchanged` tells calls when it was not.
        unsafe { MmapOptions::new().len(len).map(file) }.map(|map| Self(Arc::new(map)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A section of elements; none if they can't be read from there. Booleans are read through once.
    pub(super) fn section(&self, range: Range<usize>, element: ElementType) -> Option<Section> {
        let bytes = self.0.get(range.clone())?;
        let is_sound = match element {
            ElementType::U8 | ElementType::I8 => true,
            ElementType::Bool => holds::<bool>(bytes),
            ElementType::U16 | ElementType::I16 => holds::<u16>(bytes),
            ElementType::U32 | ElementType::I32 => holds::<u32>(bytes),
            ElementType::U64 | ElementType::I64 => holds::<u64>(bytes),
            ElementType::U128 | ElementType::I128 => holds::<u128>(bytes),
            ElementType::F32 => holds::<f32>(bytes),
            ElementType::F64 => holds::<f64>(bytes),
            ElementType::ComplexF32 => holds::<Complex<f32>>(bytes),
            ElementType::ComplexF64 => holds::<Complex<f64>>(bytes),
        };
        is_sound.then(|| Section { map: self.clone(), range, element })
    }
}

/// Part of a mapping that holds elements of one type, checked when it was made.
#[derive(Clone)]
pub(super) struct Section {
    map: Map,
    range: Range<usize>,
    element: ElementType,
}

impl Section {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map.bytes()[self.range.clone()]
    }

    /// The elements, if they are of this type.
    pub(super) fn elements<T: Plain>(&self) -> Option<&[T]> {
        if T::TYPE != self.element {
            return None;
        }
        let bytes = self.bytes();
        // SAFETY: `Map::section`, which alone makes a `Section`, saw that these bytes are whole, aligned values of the
        // type that `T::TYPE` names. They are not written while mapped: see `Map::sealed` and `Map::foreign`. The
        // mapping is held by `self`, which stays borrowed for the life of the result.
        Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
    }
}
