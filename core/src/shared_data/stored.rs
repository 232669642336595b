//! One thing that is shared, and how it is read.

use std::{
    any::{Any, type_name},
    fmt,
    sync::OnceLock,
};

use ndarray::{ArrayView, Dimension, ShapeBuilder};
use serde::de::DeserializeOwned;

use super::{
    element::Element,
    error::{Cause, SharedDataError},
    layout::{Content, Order},
    map::Section,
    storage::Storage,
};
use crate::payload::{Decoder, PayloadError};

/// What is stored under one key, where, and for a value what it was decoded to.
pub(super) struct Stored {
    content: Content,
    section: Section,
    storage: Storage,
    decoded: OnceLock<Result<Box<dyn Any + Send + Sync>, Cause>>,
}

impl Stored {
    pub(super) fn new(content: Content, section: Section, storage: Storage) -> Self {
        Self { content, section, storage, decoded: OnceLock::new() }
    }

    /// How it is mapped, as events say it.
    pub(super) fn mapping(&self) -> &'static str {
        match self.storage {
            Storage::Memory => "memfd",
            Storage::File => "file",
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.section.bytes().len() as u64
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    pub(super) fn section(&self) -> &Section {
        &self.section
    }

    pub(super) fn array<T: Element, D: Dimension>(&self, key: &str) -> Result<ArrayView<'_, T, D>, SharedDataError> {
        let content = || self.content.clone();
        let Content::Array { shape, order, .. } = &self.content else {
            return Err(SharedDataError::NotAnArray { key: key.to_owned(), content: content() });
        };
        let Some(elements) = self.section.elements::<T>() else {
            return Err(SharedDataError::WrongElement { key: key.to_owned(), content: content(), asked: T::TYPE });
        };
        if let Some(asked) = D::NDIM.filter(|asked| *asked != shape.len()) {
            return Err(SharedDataError::WrongDimension { key: key.to_owned(), content: content(), asked });
        }
        let mut axes = D::zeros(shape.len());
        for (axis, len) in axes.slice_mut().iter_mut().zip(shape) {
            *axis = usize::try_from(*len).expect("it was checked when the section was made");
        }
        let view = ArrayView::from_shape(axes.set_f(*order == Order::F), elements);
        Ok(view.expect("the section was made as long as its shape says"))
    }

    pub(super) fn value<V>(&self, key: &str) -> Result<&V, SharedDataError>
    where
        V: DeserializeOwned + Send + Sync + 'static,
    {
        let Content::Value { type_name: stored } = &self.content else {
            return Err(SharedDataError::NotAValue { key: key.to_owned(), content: self.content.clone() });
        };
        let other = || SharedDataError::OtherValue {
            key: key.to_owned(),
            content: self.content.clone(),
            asked: type_name::<V>().to_owned(),
        };
        if stored != type_name::<V>() {
            return Err(other());
        }
        let decode = || Ok(Box::new(decode::<V>(self.section.bytes())?) as Box<dyn Any + Send + Sync>);
        match self.decoded.get_or_init(decode) {
            // Two types may go by one name, from two versions of a crate for example.
            Ok(value) => value.downcast_ref().ok_or_else(other),
            Err(cause) => Err(SharedDataError::Value {
                key: key.to_owned(),
                type_name: stored.clone(),
                doing: "read back".to_owned(),
                cause: cause.clone(),
            }),
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.content, super::error::Bytes(self.bytes()))
    }
}

/// Reads a value from all of `bytes`.
pub(super) fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, Cause> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.next().map_err(|error| match error {
        PayloadError::Decode(error) => Cause(error.to_string()),
        error => Cause(error.to_string()),
    })?;
    match decoder.rest().len() {
        0 => Ok(value),
        rest => Err(Cause(format!("{rest} of {} bytes are left over", bytes.len()))),
    }
}
