//! Vectors of plain elements, whatever their type.

use num_complex::Complex;

use crate::shared_data::ElementType;

/// A vector of plain elements that is filled byte by byte.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum RawVec {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    U128(Vec<u128>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Each byte is 0 or 1 once it has been looked at.
    Bool(Vec<u8>),
    ComplexF32(Vec<Complex<f32>>),
    ComplexF64(Vec<Complex<f64>>),
}

macro_rules! on_all {
    ($value:expr, $elements:ident => $body:expr) => {
        match $value {
            RawVec::U8($elements) | RawVec::Bool($elements) => $body,
            RawVec::U16($elements) => $body,
            RawVec::U32($elements) => $body,
            RawVec::U64($elements) => $body,
            RawVec::U128($elements) => $body,
            RawVec::I8($elements) => $body,
            RawVec::I16($elements) => $body,
            RawVec::I32($elements) => $body,
            RawVec::I64($elements) => $body,
            RawVec::I128($elements) => $body,
            RawVec::F32($elements) => $body,
            RawVec::F64($elements) => $body,
            RawVec::ComplexF32($elements) => $body,
            RawVec::ComplexF64($elements) => $body,
        }
    };
}

impl RawVec {
    /// No elements yet.
    pub fn empty(element: ElementType) -> Self {
        match element {
            ElementType::U8 => Self::U8(Vec::new()),
            ElementType::U16 => Self::U16(Vec::new()),
            ElementType::U32 => Self::U32(Vec::new()),
            ElementType::U64 => Self::U64(Vec::new()),
            ElementType::U128 => Self::U128(Vec::new()),
            ElementType::I8 => Self::I8(Vec::new()),
            ElementType::I16 => Self::I16(Vec::new()),
            ElementType::I32 => Self::I32(Vec::new()),
            ElementType::I64 => Self::I64(Vec::new()),
            ElementType::I128 => Self::I128(Vec::new()),
            ElementType::F32 => Self::F32(Vec::new()),
            ElementType::F64 => Self::F64(Vec::new()),
            ElementType::Bool => Self::Bool(Vec::new()),
            ElementType::ComplexF32 => Self::ComplexF32(Vec::new()),
            ElementType::ComplexF64 => Self::ComplexF64(Vec::new()),
        }
    }

    /// What the elements are.
    pub fn element(&self) -> ElementType {
        match self {
            Self::U8(_) => ElementType::U8,
            Self::U16(_) => ElementType::U16,
            Self::U32(_) => ElementType::U32,
            Self::U64(_) => ElementType::U64,
            Self::U128(_) => ElementType::U128,
            Self::I8(_) => ElementType::I8,
            Self::I16(_) => ElementType::I16,
            Self::I32(_) => ElementType::I32,
            Self::I64(_) => ElementType::I64,
            Self::I128(_) => ElementType::I128,
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
            Self::Bool(_) => ElementType::Bool,
            Self::ComplexF32(_) => ElementType::ComplexF32,
            Self::ComplexF64(_) => ElementType::ComplexF64,
        }
    }

    /// Makes it `count` elements long; new ones are zero.
    ///
    /// # Errors
    /// There is not enough memory; nothing has changed.
    pub fn resize(&mut self, count: usize) -> Result<(), std::collections::TryReserveError> {
        on_all!(self, elements => {
            if elements.is_empty() {
                // Fresh zeros from the system cost nothing until they are written to; `resize` would write them.
                elements.try_reserve_exact(count)?;
                *elements = vec![Default::default(); count];
            } else {
                elements.try_reserve(count.saturating_sub(elements.len()))?;
                elements.resize(count, Default::default());
            }
            Ok(())
        })
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        on_all!(self, elements => elements.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        on_all!(self, elements => bytemuck::cast_slice(elements))
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        on_all!(self, elements => bytemuck::cast_slice_mut(elements))
    }
}
