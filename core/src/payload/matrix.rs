//! Blocks of columns, and what functions of columns return.
//!
//! Both are lists of their elements, with a few bytes before the list's head.

use std::{any::TypeId, iter};

use ndarray::{Array1, Array2, ArrayView2, Axis, ShapeBuilder};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Decoder, PREFIX_BYTES, Parcel, PayloadError, Received, is_column_major,
    list::{each, pack_list, pack_slices, unpack_list},
    serial::encode,
};
use crate::function::ColumnsOutput;

/// Elements without any bytes that a result may have.
const MAX_EMPTY_ELEMENTS: usize = 1 << 20;

/// Packs a copy of a D x N block.
///
/// What lies column by column without gaps (Fortran order) arrives so; anything else arrives row by row.
///
/// # Errors
/// The elements' own `Serialize` failed.
pub fn pack_matrix<T: Serialize + 'static>(view: ArrayView2<'_, T>) -> Result<Parcel, PayloadError> {
    let is_columns = is_column_major(&view);
    let count = view.len();
    let rows_first = if is_columns { view.t() } else { view.view() };
    let parcel = if let Some(elements) = rows_first.to_slice() {
        pack_slices(count, &mut iter::once(elements))
    } else if rows_first.row(0).to_slice().is_some() {
        // All rows lie alike: each is copied as a whole.
        pack_slices(count, &mut rows_first.axis_iter(Axis(0)).filter_map(|row| row.to_slice()))
    } else {
        pack_slices(count, &mut each(rows_first.iter()))
    };
    prefixed(parcel?, &is_columns)
}

/// Unpacks a block of `rows` x `columns`, in the memory order that [`pack_matrix`] says.
///
/// # Errors
/// What arrived is not such a block.
pub fn unpack_matrix<T: DeserializeOwned + 'static>(
    received: Received,
    rows: usize,
    columns: usize,
) -> Result<Array2<T>, PayloadError> {
    let shape = || PayloadError::Shape(vec![rows as u64, columns as u64]);
    let (is_columns, list): (bool, _) = split(received)?;
    let count = rows.checked_mul(columns).ok_or_else(shape)?;
    let elements = unpack_list(list, count)?;
    Array2::from_shape_vec((rows, columns).set_f(is_columns), elements).map_err(|_| shape())
}

/// Packs what a function of columns returned; elements that lie without gaps are not copied.
///
/// # Errors
/// The elements' own `Serialize` failed.
pub fn pack_result<Y: ColumnsOutput>(result: Y) -> Result<Parcel, PayloadError>
where
    Y::Elem: Serialize,
{
    let (rows, is_columns) = (result.rows() as u64, result.is_column_major());
    let packed = pack_list(result.into_elements(is_columns)).map_err(|(_, error)| error)?;
    prefixed(packed.parcel, &(is_columns, rows))
}

/// Unpacks what a function returned for `columns` columns, in the memory order in which it did.
///
/// # Errors
/// What arrived is not such a result.
pub fn unpack_result<Y: ColumnsOutput>(received: Received, columns: usize) -> Result<Y, PayloadError>
where
    Y::Elem: DeserializeOwned,
{
    let bytes = received.head.len() + received.sections.iter().map(|section| section.bytes().len()).sum::<usize>();
    let ((is_columns, sent_rows), list): ((bool, u64), _) = split(received)?;
    let shape = || PayloadError::Shape(vec![sent_rows, columns as u64]);
    let rows = usize::try_from(sent_rows).map_err(|_| shape())?;
    let is_array1 = TypeId::of::<Y>() == TypeId::of::<Array1<Y::Elem>>();
    // ndarray wants room for all lengths but zeros, even where there are no elements.
    let room = rows.max(1).checked_mul(columns.max(1)).and_then(|count| count.checked_mul(size_of::<Y::Elem>().max(1)));
    if is_array1 && rows != 1 || room.is_none_or(|room| isize::try_from(room).is_err()) {
        return Err(shape());
    }
    let count = rows * columns;
    // The rows are the peer's word, and such elements are bounded by nothing else.
    if count > bytes.max(columns).max(MAX_EMPTY_ELEMENTS) {
        return Err(PayloadError::TooShort { expected: count as u64, got: bytes as u64 });
    }
    Ok(Y::from_elements(unpack_list(list, count)?, rows, columns, is_columns))
}

fn prefixed(mut parcel: Parcel, prefix: &impl Serialize) -> Result<Parcel, PayloadError> {
    let mut head = encode(Vec::with_capacity(PREFIX_BYTES + parcel.head.len()), prefix)?;
    head.append(&mut parcel.head);
    Ok(Parcel { head, ..parcel })
}

fn split<P: DeserializeOwned>(mut received: Received) -> Result<(P, Received), PayloadError> {
    let mut decoder = Decoder::new(&received.head);
    let prefix = decoder.next()?;
    let length = received.head.len() - decoder.rest().len();
    received.head.drain(..length);
    Ok((prefix, received))
}
