//! Reads values that postcard wrote, from bytes that may be anyone's.
//!
//! postcard itself reads everything that has no parts. What has parts is taken apart here, because two things can't be
//! seen in the bytes: how deep values lie in each other, and how many of them take no bytes at all.

use postcard::Error as Bad;
use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer, Visitor},
};

use super::PayloadError;

/// Bytes of stack that decoding may use.
///
/// Each level of a recursive type costs a peer one byte and us some hundred bytes of stack: without a limit 200 kB of
/// ones end the process. The smallest stacks, those of threads made by std, are twice as large.
const MAX_STACK_BYTES: usize = 1 << 20;

/// Elements without bytes that all lists and maps in a value may have together, or 16 for each byte of it if those are
/// more. A list of a thousand million million `()` has nine bytes, and reading it would never end.
const MAX_EMPTY_ELEMENTS: usize = 1 << 20;

/// Reads one value after the other.
pub(crate) struct Decoder<'de> {
    rest: &'de [u8],
    base: usize,
    max_empty: usize,
    /// Elements without bytes that may still come.
    empty_left: usize,
}

impl<'de> Decoder<'de> {
    pub(crate) fn new(bytes: &'de [u8]) -> Self {
        let max_empty = MAX_EMPTY_ELEMENTS.max(bytes.len().saturating_mul(16));
        Self { rest: bytes, base: stack_address(), max_empty, empty_left: max_empty }
    }

    pub(crate) fn next<T: Deserialize<'de>>(&mut self) -> Result<T, PayloadError> {
        T::deserialize(&mut *self).map_err(|fault| match fault {
            Fault::Bad(error) => PayloadError::Decode(error),
            Fault::TooDeep => PayloadError::TooDeep { limit: MAX_STACK_BYTES },
            Fault::TooManyEmpty => PayloadError::TooManyEmpty { limit: self.max_empty },
        })
    }

    /// The bytes that no value was read from.
    pub(crate) fn rest(self) -> &'de [u8] {
        self.rest
    }

    /// Refuses bytes that no value was read from.
    pub(crate) fn finish(self) -> Result<(), PayloadError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(PayloadError::TrailingBytes(count)),
        }
    }

    /// To be called for everything that has parts: no type contains itself but in a part.
    #[inline]
    fn check_depth(&self) -> Result<(), Fault> {
        // Miri has no stack that addresses would tell anything about.
        let is_deep = !cfg!(miri) && stack_address().abs_diff(self.base) > MAX_STACK_BYTES;
        if is_deep { Err(Fault::TooDeep) } else { Ok(()) }
    }

    /// The length of a list or map.
    #[inline]
    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(u64::deserialize(&mut *self)?).map_err(|_| Fault::Bad(Bad::DeserializeBadVarint))
    }
}

#[inline(always)]
fn stack_address() -> usize {
    let here = 0u8;
    (&raw const here).addr()
}

/// Why a value can't be read.
#[derive(Debug)]
pub(crate) enum Fault {
    Bad(Bad),
    TooDeep,
    TooManyEmpty,
}

impl From<Bad> for Fault {
    fn from(error: Bad) -> Self {
        Self::Bad(error)
    }
}

impl de::Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Bad(de::Error::custom(message))
    }
}

impl std::error::Error for Fault {}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Methods for what has no parts.
macro_rules! without_parts {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let mut plain = postcard::Deserializer::from_bytes(self.rest);
            let value = de::Deserializer::$method(&mut plain, visitor)?;
            self.rest = plain.finalize()?;
            Ok(value)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Fault;

    without_parts! {
        deserialize_any deserialize_ignored_any deserialize_identifier
        deserialize_bool deserialize_char deserialize_unit
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_f32 deserialize_f64
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.check_depth()?;
        match u8::deserialize(&mut *self)? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(Fault::Bad(Bad::DeserializeBadOption)),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        self.check_depth()?;
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.check_depth()?;
        let left = self.length()?;
        visitor.visit_seq(Elements { decoder: self, left })
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.check_depth()?;
        let left = self.length()?;
        visitor.visit_map(Elements { decoder: self, left })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.check_depth()?;
        visitor.visit_seq(Fields { decoder: self, left: len })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.check_depth()?;
        visitor.visit_enum(self)
    }
}

/// Fields that a type has: as many as its code says.
struct Fields<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Elements of a list or map: as many as the bytes say.
struct Elements<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
}

impl Elements<'_, '_> {
    /// Takes note of an element, before which there were this many bytes.
    #[inline]
    fn count(&mut self, bytes_before: usize) -> Result<(), Fault> {
        if self.decoder.rest.len() == bytes_before {
            self.decoder.empty_left = self.decoder.empty_left.checked_sub(1).ok_or(Fault::TooManyEmpty)?;
        }
        Ok(())
    }

    /// What may be made room for: no more elements than bytes.
    #[inline]
    fn hint(&self) -> Option<usize> {
        Some(self.left).filter(|left| *left <= self.decoder.rest.len())
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let before = self.decoder.rest.len();
        let element = seed.deserialize(&mut *self.decoder)?;
        self.count(before)?;
        Ok(Some(element))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        // Keys alone: a map of them without bytes has one.
        de::SeqAccess::next_element_seed(self, seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(&mut *self.decoder)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Fault;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let variant = u32::deserialize(&mut *self)?;
        let deserializer: de::value::U32Deserializer<Fault> = variant.into_deserializer();
        Ok((seed.deserialize(deserializer)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Fault;

    #[inline]
    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}
