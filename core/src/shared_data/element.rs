//! The types that arrays of shared data are made of.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::map::Plain;

/// The type of an array's elements: a number, a `bool` or a complex number, stored as the machine holds it.
///
/// It is implemented for `u8` to `u128`, `i8` to `i128`, `usize`, `isize`, `f32`, `f64`, `bool` and ndarray's
/// `Complex<f32>` and `Complex<f64>`, and for nothing else. `usize` and `isize` are stored as the integer of their
/// size, so that an array of `u64`, from NumPy for example, can be read as one of `usize` on a 64-bit machine.
///
/// Anything else goes into shared data as a [value](super::SharedDataBuilder::value).
#[diagnostic::on_unimplemented(
    message = "arrays of `{Self}` can't be shared data",
    label = "not a number, `bool`, `Complex<f32>` or `Complex<f64>`",
    note = "share anything else that serde can write with `SharedDataBuilder::value`"
)]
pub trait Element: Plain {}

impl<T: Plain> Element for T {}

/// Which [`Element`] an array holds.
// Its variants are written to the file by their position: new ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ElementType {
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    Bool,
    ComplexF32,
    ComplexF64,
}

impl ElementType {
    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::ComplexF32 => 8,
            Self::U128 | Self::I128 | Self::ComplexF64 => 16,
        }
    }
}

impl fmt::Display for ElementType {
    /// The type as it is written in Rust.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bool => "bool",
            Self::ComplexF32 => "Complex<f32>",
            Self::ComplexF64 => "Complex<f64>",
        })
    }
}
