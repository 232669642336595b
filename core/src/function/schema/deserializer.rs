//! The deserializer that writes down what it is asked for. It behaves as postcard's: not self-describing, structs as
//! sequences, variants by number.

use std::{any::type_name, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use super::{
    graph::{Kind, PlaceId, ShapeId},
    tracer::Tracer,
};

/// Some value was refused; the tracer knows more.
#[derive(Debug, PartialEq)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample value was refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Deserializes a value at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'t> {
    pub(super) tracer: &'t Tracer,
    pub(super) place: PlaceId,
}

impl<'t> At<'t> {
    fn shape<V: Visitor<'static>>(self, kind: Kind) -> ShapeId {
        self.tracer.shape::<V>(self.place, kind, type_name::<V::Value>())
    }

    fn seed<S: DeserializeSeed<'static>>(self, shape: ShapeId, position: usize, seed: S) -> Result<S::Value, Refused> {
        let place = self.tracer.child(shape, position);
        let value = self.tracer.at_place(place, type_name::<S::Value>(), |at| seed.deserialize(at));
        if value.is_err() && self.tracer.graph.borrow().places[place].is_identifier {
            // A struct with a flattened field, or an enum with tag and content: without names it can't be read, and
            // an empty map is not to be taken for it.
            return Err(self.tracer.give_up_at(self.place));
        }
        value
    }

    fn elements<V: Visitor<'static>>(self, kind: Kind, count: usize, visitor: V) -> Result<V::Value, Refused> {
        let shape = self.shape::<V>(kind);
        let value = visitor.visit_seq(Elements { at: self, shape, next: 0, count, is_list: false })?;
        let shape = &mut self.tracer.graph.borrow_mut().shapes[shape];
        shape.count = Some(shape.children.len());
        Ok(value)
    }

    /// A list or a map: one element, or none if that is the only way out of a recursion.
    fn list<V: Visitor<'static>>(
        self,
        kind: Kind,
        visit: impl FnOnce(Elements<'t>) -> Result<V::Value, Refused>,
    ) -> Result<V::Value, Refused> {
        let shape = self.shape::<V>(kind);
        let followed = self.tracer.follow(shape)?;
        let count = if followed.way == 0 { self.tracer.count() } else { 0 };
        let outcome = visit(Elements { at: self, shape, next: 0, count, is_list: true });
        self.tracer.followed(shape, followed, outcome)
    }
}

macro_rules! plain {
    ($($method:ident $name:literal $visit:ident |$variation:ident, $position:ident| $sample:expr;)*) => {$(
        fn $method<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.shape::<V>(Kind::Plain($name));
            self.tracer.step()?;
            let ($variation, $position) = self.tracer.sample();
            visitor.$visit($sample)
        }
    )*};
}

impl Deserializer<'static> for At<'_> {
    type Error = Refused;

    plain! {
        deserialize_bool "bool" visit_bool |samples, i| samples.integer(i) & 1 == 1;
        deserialize_i8 "i8" visit_i8 |samples, i| samples.integer(i) as i8;
        deserialize_i16 "i16" visit_i16 |samples, i| samples.integer(i) as i16;
        deserialize_i32 "i32" visit_i32 |samples, i| samples.integer(i) as i32;
        deserialize_i64 "i64" visit_i64 |samples, i| samples.integer(i);
        deserialize_i128 "i128" visit_i128 |samples, i| samples.integer(i).into();
        deserialize_u8 "u8" visit_u8 |samples, i| samples.integer(i) as u8;
        deserialize_u16 "u16" visit_u16 |samples, i| samples.integer(i) as u16;
        deserialize_u32 "u32" visit_u32 |samples, i| samples.integer(i) as u32;
        deserialize_u64 "u64" visit_u64 |samples, i| samples.integer(i) as u64;
        deserialize_u128 "u128" visit_u128 |samples, i| samples.integer(i) as u128;
        deserialize_f32 "f32" visit_f32 |samples, i| samples.float(i) as f32;
        deserialize_f64 "f64" visit_f64 |samples, i| samples.float(i);
        deserialize_char "char" visit_char |samples, i| samples.char(i);
        deserialize_str "String" visit_borrowed_str |samples, i| samples.string(i);
        deserialize_string "String" visit_borrowed_str |samples, i| samples.string(i);
        deserialize_bytes "bytes" visit_borrowed_bytes |samples, i| samples.bytes(i);
        deserialize_byte_buf "bytes" visit_borrowed_bytes |samples, i| samples.bytes(i);
    }

    fn deserialize_any<V: Visitor<'static>>(self, _: V) -> Result<V::Value, Refused> {
        Err(self.tracer.give_up_at(self.place))
    }

    fn deserialize_identifier<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.tracer.graph.borrow_mut().places[self.place].is_identifier = true;
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
        let shape = self.shape::<V>(Kind::Option);
        let followed = self.tracer.follow(shape)?;
        let outcome = if followed.way == 0 {
            let place = self.tracer.child(shape, 0);
            self.tracer.at_place(place, without_option(type_name::<V::Value>()), |at| visitor.visit_some(at))
        } else {
            visitor.visit_none()
        };
        self.tracer.followed(shape, followed, outcome)
    }

    fn deserialize_unit<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.shape::<V>(Kind::Unit);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'static>>(self, name: &'static str, visitor: V) -> Result<V::Value, Refused> {
        self.shape::<V>(Kind::UnitStruct(name));
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let shape = self.shape::<V>(Kind::Newtype(name));
        let place = self.tracer.child(shape, 0);
        self.tracer.at_place(place, type_name::<V::Value>(), |at| visitor.visit_newtype_struct(at))
    }

    fn deserialize_seq<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.list::<V>(Kind::Seq, |elements| visitor.visit_seq(elements))
    }

    fn deserialize_map<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.list::<V>(Kind::Map, |entries| visitor.visit_map(entries))
    }

    fn deserialize_tuple<V: Visitor<'static>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        self.elements(Kind::Tuple(len), len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.elements(Kind::TupleStruct(name, len), len, visitor)
    }

    fn deserialize_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.elements(Kind::Struct(name, fields), fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'static>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let shape = self.shape::<V>(Kind::Enum(name, variants));
        let followed = self.tracer.follow(shape)?;
        let place = self.tracer.child(shape, followed.way);
        let outcome = visitor.visit_enum(Content { at: At { place, ..self }, shape, variant: followed.way });
        self.tracer.followed(shape, followed, outcome)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

fn without_option(name: &'static str) -> &'static str {
    let inner = name.strip_prefix("core::option::Option<").and_then(|rest| rest.strip_suffix('>'));
    inner.unwrap_or(name)
}

/// The elements of a sequence, tuple or struct; the entries of a map.
struct Elements<'t> {
    at: At<'t>,
    shape: ShapeId,
    next: usize,
    count: usize,
    /// All elements are at the same place.
    is_list: bool,
}

impl Elements<'_> {
    fn advance(&mut self) -> Option<usize> {
        let position = self.next;
        self.next += usize::from(position < self.count);
        (position < self.count).then_some(if self.is_list { 0 } else { position })
    }
}

impl SeqAccess<'static> for Elements<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some(position) = self.advance() else { return Ok(None) };
        self.at.seed(self.shape, position, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

impl MapAccess<'static> for Elements<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some(position) = self.advance() else { return Ok(None) };
        self.at.seed(self.shape, position, seed).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.at.seed(self.shape, 1, seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

/// A variant: its number, then its content at a place of its own.
struct Content<'t> {
    at: At<'t>,
    shape: ShapeId,
    variant: usize,
}

impl<'t> EnumAccess<'static> for Content<'t> {
    type Error = Refused;
    type Variant = At<'t>;

    fn variant_seed<S: DeserializeSeed<'static>>(self, seed: S) -> Result<(S::Value, At<'t>), Refused> {
        let index = u32::try_from(self.variant).map_err(|_| Refused)?;
        let value = seed.deserialize(IntoDeserializer::<Refused>::into_deserializer(index));
        if value.is_err() {
            let count = &mut self.at.tracer.graph.borrow_mut().shapes[self.shape].count;
            *count = Some(count.map_or(self.variant, |count| count.min(self.variant)));
        }
        Ok((value?, self.at))
    }
}

impl VariantAccess<'static> for At<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.tracer.shape::<()>(self.place, Kind::Unit, "()");
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'static>>(self, seed: S) -> Result<S::Value, Refused> {
        let value = type_name::<S::Value>();
        let shape = self.tracer.shape::<S>(self.place, Kind::Newtype(""), value);
        self.seed(shape, 0, seed)
    }

    fn tuple_variant<V: Visitor<'static>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        self.elements(Kind::Tuple(len), len, visitor)
    }

    fn struct_variant<V: Visitor<'static>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.elements(Kind::Fields(fields), fields.len(), visitor)
    }
}
