//! Items that consist of plain elements and a shape.

use std::borrow::Cow;

use ndarray::{Array, ArrayRef, Dimension, IxDyn, ShapeBuilder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{PayloadError, plain::Plain};

/// A vector or an array of plain elements.
pub(super) trait Item: Sized + Send + Sync + 'static {
    /// What it has.
    type Element: Plain;
    /// What the head says about it; never encoded to nothing.
    type Shape: Shape;

    fn description(&self) -> Self::Shape;

    /// The elements, in the order that the shape says; borrowed unless they lie in another.
    fn elements(&self) -> Cow<'_, [Self::Element]>;

    /// The item of this shape; there are as many elements as it says.
    fn build(shape: Self::Shape, elements: Vec<Self::Element>) -> Result<Self, PayloadError>;

    /// All elements that it has memory for, in any order.
    fn into_elements(self) -> Vec<Self::Element>;
}

pub(super) trait Shape: Serialize + DeserializeOwned {
    /// Number of elements; none if no memory can hold so many.
    fn count(&self) -> Option<usize>;
}

impl Shape for u64 {
    fn count(&self) -> Option<usize> {
        usize::try_from(*self).ok()
    }
}

impl<T: Plain> Item for Vec<T> {
    type Element = T;
    type Shape = u64;

    fn description(&self) -> u64 {
        self.len() as u64
    }

    fn elements(&self) -> Cow<'_, [T]> {
        Cow::Borrowed(self)
    }

    fn build(_: u64, elements: Vec<T>) -> Result<Self, PayloadError> {
        Ok(elements)
    }

    fn into_elements(self) -> Vec<T> {
        self
    }
}

impl<T: Plain> Item for Box<[T]> {
    type Element = T;
    type Shape = u64;

    fn description(&self) -> u64 {
        self.len() as u64
    }

    fn elements(&self) -> Cow<'_, [T]> {
        Cow::Borrowed(self)
    }

    fn build(_: u64, elements: Vec<T>) -> Result<Self, PayloadError> {
        Ok(elements.into())
    }

    fn into_elements(self) -> Vec<T> {
        self.into_vec()
    }
}

/// Shape of an array, and how its elements follow each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ArrayShape {
    is_column_major: bool,
    axes: Vec<u64>,
}

impl Shape for ArrayShape {
    fn count(&self) -> Option<usize> {
        if self.axes.contains(&0) {
            return Some(0);
        }
        self.axes.iter().try_fold(1, |count: usize, axis| count.checked_mul(usize::try_from(*axis).ok()?))
    }
}

impl<T: Plain, D: Dimension + 'static> Item for Array<T, D> {
    type Element = T;
    type Shape = ArrayShape;

    fn description(&self) -> ArrayShape {
        let axes = self.shape().iter().map(|axis| *axis as u64).collect();
        ArrayShape { is_column_major: is_column_major(self), axes }
    }

    fn elements(&self) -> Cow<'_, [T]> {
        let rows_first = if is_column_major(self) { self.t() } else { self.view() };
        match rows_first.to_slice() {
            Some(elements) => Cow::Borrowed(elements),
            None => Cow::Owned(rows_first.iter().copied().collect()),
        }
    }

    fn build(shape: ArrayShape, elements: Vec<T>) -> Result<Self, PayloadError> {
        let axes: Option<Vec<usize>> = shape.axes.iter().map(|axis| usize::try_from(*axis).ok()).collect();
        let dimension = axes.and_then(|axes| D::from_dimension(&IxDyn(&axes)));
        dimension
            .and_then(|dimension| Array::from_shape_vec(dimension.set_f(shape.is_column_major), elements).ok())
            .ok_or(PayloadError::Shape(shape.axes))
    }

    fn into_elements(self) -> Vec<T> {
        self.into_raw_vec_and_offset().0
    }
}

/// Whether the elements lie column by column (Fortran order, the first index varying fastest), without gaps.
pub(super) fn is_column_major<T, D: Dimension>(array: &ArrayRef<T, D>) -> bool {
    if !array.is_standard_layout() {
        return array.t().is_standard_layout();
    }
    // What has length 1 along all axes but one lies in both orders at once; only its strides tell in which it was made.
    let axes = || array.shape().iter().copied().zip(array.strides().iter().copied());
    !array.is_empty() && lies(axes()) && !lies(axes().rev())
}

/// Whether the strides are those of axes that are given from the fastest to the slowest.
fn lies(mut axes: impl Iterator<Item = (usize, isize)>) -> bool {
    let mut expected = 1;
    axes.all(|(length, stride)| {
        let is_expected = stride == expected;
        expected *= length as isize;
        is_expected
    })
}
