//! Types whose values are their bytes.

use bytemuck::NoUninit;
use bytes::Bytes;
use num_complex::Complex;

use super::{PayloadError, RawVec, Section};
use crate::shared_data::ElementType;

/// A type whose values travel as the bytes that they are in memory.
///
/// `usize` and `isize` travel as 64-bit integers. Where they are smaller they are not plain, and go through serde; a
/// 64-bit machine and such a one refuse each other's lists of them.
pub(super) trait Plain: NoUninit + Send + Sync {
    /// What it is in a section.
    const TYPE: ElementType;

    /// The elements in the allocation that they arrived in.
    fn from_raw(raw: RawVec) -> Result<Vec<Self>, PayloadError>;

    /// The other way round.
    fn into_raw(elements: Vec<Self>) -> RawVec;
}

macro_rules! plain {
    ($($(#[$only:meta])? $element:ty => $name:ident),* $(,)?) => {$(
        $(#[$only])?
        impl Plain for $element {
            const TYPE: ElementType = ElementType::$name;

            fn from_raw(raw: RawVec) -> Result<Vec<Self>, PayloadError> {
                match raw {
                    RawVec::$name(elements) => Ok(bytemuck::cast_vec(elements)),
                    other => Err(PayloadError::WrongSection { expected: Self::TYPE, got: other.element() }),
                }
            }

            fn into_raw(elements: Vec<Self>) -> RawVec {
                RawVec::$name(bytemuck::cast_vec(elements))
            }
        }
    )*};
}
plain! {
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, u128 => U128,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128,
    f32 => F32, f64 => F64, Complex<f32> => ComplexF32, Complex<f64> => ComplexF64,
    #[cfg(target_pointer_width = "64")] usize => U64,
    #[cfg(target_pointer_width = "64")] isize => I64,
}

impl Plain for bool {
    const TYPE: ElementType = ElementType::Bool;

    fn from_raw(raw: RawVec) -> Result<Vec<Self>, PayloadError> {
        let RawVec::Bool(bytes) = raw else {
            return Err(PayloadError::WrongSection { expected: Self::TYPE, got: raw.element() });
        };
        match bytes.iter().position(|byte| *byte > 1) {
            Some(index) => Err(PayloadError::InvalidBool { index, value: bytes[index] }),
            // Collected in place: the allocation is kept.
            None => Ok(bytes.into_iter().map(|byte| byte == 1).collect()),
        }
    }

    fn into_raw(elements: Vec<Self>) -> RawVec {
        RawVec::Bool(elements.into_iter().map(u8::from).collect())
    }
}

/// A section of the elements that `owner` holds, without a copy.
pub(super) fn section<T: Plain>(owner: impl AsRef<[u8]> + Send + 'static) -> Section {
    let mut bytes = Bytes::from_owner(owner);
    if cfg!(target_endian = "big") {
        let mut turned = bytes.to_vec();
        turn(&mut turned, T::TYPE);
        bytes = turned.into();
    }
    Section { element: T::TYPE, bytes }
}

/// The elements of a section that arrived.
pub(super) fn elements<T: Plain>(mut raw: RawVec) -> Result<Vec<T>, PayloadError> {
    if cfg!(target_endian = "big") {
        let element = raw.element();
        turn(raw.bytes_mut(), element);
    }
    T::from_raw(raw)
}

/// Turns numbers from the machine's order of bytes into little-endian, where that is another, and back.
fn turn(bytes: &mut [u8], element: ElementType) {
    let width = match element {
        ElementType::ComplexF32 | ElementType::ComplexF64 => element.size() / 2,
        _ => element.size(),
    };
    bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
}

/// A vector as the bytes of its elements.
pub(super) struct AsBytes<T>(pub(super) Vec<T>);

impl<T: Plain> AsRef<[u8]> for AsBytes<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_turned_by_itself() {
        let mut bytes: Vec<u8> = (0..8).collect();
        turn(&mut bytes, ElementType::U16);
        assert_eq!(bytes, [1, 0, 3, 2, 5, 4, 7, 6]);
        turn(&mut bytes, ElementType::U16);
        turn(&mut bytes, ElementType::ComplexF32);
        assert_eq!(bytes, [3, 2, 1, 0, 7, 6, 5, 4]);
    }
}
