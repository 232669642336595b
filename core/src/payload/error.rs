//! What can be wrong with values on their way.

use crate::shared_data::ElementType;

/// Arguments or results could not be turned into bytes or back.
///
/// Nothing was taken from what arrived: the items are as they were at the sender.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The bytes are no value of the receiver's type.
    #[error("could not decode the values")]
    Decode(#[source] postcard::Error),
    /// A value has so many others within others that the stack would not hold them.
    #[error(
        "values are nested too deeply: decoding needs more than {limit} bytes of stack; send a flat list and rebuild the nesting"
    )]
    TooDeep {
        /// Bytes of stack that decoding may use.
        limit: usize,
    },
    /// Lists or maps in the values have elements without bytes, such as `()`, in a number that no sender means.
    #[error(
        "lists or maps within the values have more than {limit} elements without any bytes; send how many there are"
    )]
    TooManyEmpty {
        /// How many they may have together.
        limit: usize,
    },
    /// Bytes were left over after the values.
    #[error("{0} byte(s) follow the values; sender and receiver disagree about their type")]
    TrailingBytes(usize),
    /// Sections were left over after the values.
    #[error("{0} section(s) follow the values; sender and receiver disagree about their type")]
    LeftOverSections(usize),
    /// There are more or fewer values than there should be.
    #[error("{got} value(s) arrived in place of {expected}")]
    WrongCount {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        got: u64,
    },
    /// A section has elements of another type.
    #[error("a section of {got} arrived in place of {expected}; sender and receiver disagree about the type")]
    WrongSection {
        /// What it should have.
        expected: ElementType,
        /// What it has.
        got: ElementType,
    },
    /// A section has not come.
    #[error("the section with the {expected} element(s) of a value is missing")]
    MissingSection {
        /// How many elements it should have.
        expected: u64,
    },
    /// Fewer bytes arrived than the values need.
    #[error("{got} byte(s) are too few for {expected} value(s)")]
    TooShort {
        /// How many values there should be.
        expected: u64,
        /// How many bytes there are for them.
        got: u64,
    },
    /// A byte in place of a `bool` is neither 0 nor 1.
    #[error("byte {value} at {index} is no bool")]
    InvalidBool {
        /// Which element of its section.
        index: usize,
        /// The byte.
        value: u8,
    },
    /// No array can have this shape.
    #[error("no array of the receiver's type has the shape {0:?}")]
    Shape(Vec<u64>),
    /// The result's own `Serialize` failed.
    #[error("could not encode the values")]
    Encode(#[source] postcard::Error),
}
