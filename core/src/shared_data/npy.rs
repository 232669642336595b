//! The header of a NumPy file (`.npy`, versions 1.0 to 3.0).
//!
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>: a magic word, a version, the header's
//! length, and a Python dictionary of the element type, the order and the shape. The elements follow.

use std::ops::Range;

use super::{
    element::ElementType,
    layout::{self, Order},
};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own headers have some 120 bytes; what is longer than this is no header of numbers.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// Deeper than this no element type of NumPy's is nested.
const MAX_DEPTH: usize = 32;

/// What a NumPy file holds, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) element: ElementType,
    pub(super) order: Order,
    pub(super) shape: Vec<u64>,
    /// Where the elements are in the file.
    pub(super) place: Range<usize>,
}

/// Why a NumPy file can't be used. The text continues one that names the file, and says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NpyError {
    #[error("is no NumPy file; make one with `np.save(path, x)`")]
    Magic,
    #[error("is an archive of arrays (.npz); save each array by itself: `np.save(path, archive['name'])`")]
    Archive,
    #[error("is of version {0}.{1} of NumPy's format, and this build reads 1.0 to 3.0")]
    Version(u8, u8),
    #[error("has a damaged header ({0}); save it again with `np.save(path, x)`")]
    Header(&'static str),
    #[error("is cut short: its header announces {needed} bytes of elements and there are {has}; save it again")]
    CutShort { needed: usize, has: usize },
    #[error("has a shape that is larger than any memory: {0:?}")]
    Overflow(Vec<u64>),
    #[error("holds {what} ('{descr}'); {remedy}")]
    Element { what: &'static str, descr: String, remedy: String },
    #[error("holds records, with more than one element type; save each field by itself: `np.save(path, x['{0}'])`")]
    Records(String),
    #[error("holds booleans that are neither 0 nor 1; save it again with `np.save(path, x.view('u1') != 0)`")]
    Bools,
}

/// Reads the header of a file and checks that all elements are there. What follows them is left alone, as NumPy does.
pub(super) fn parse(file: &[u8]) -> Result<Header, NpyError> {
    if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
        return Err(NpyError::Archive);
    }
    let rest = file.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let cut = NpyError::Header("it is cut short");
    let (len, start) = match *rest {
        [1, 0, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10),
        [2 | 3, 0, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
        [1..=3, 0, ..] | [] | [_] => return Err(cut),
        [major, minor, ..] => return Err(NpyError::Version(major, minor)),
    };
    if len > MAX_HEADER_BYTES {
        return Err(NpyError::Header("it is too long"));
    }
    let text = file.get(start..start + len).ok_or(cut)?;
    let (descr, order, shape) = fields(text)?;
    let element = element(&descr)?;
    let needed = layout::array_bytes(element, shape.iter().map(|len| usize::try_from(*len).ok()));
    let needed = needed.ok_or_else(|| NpyError::Overflow(shape.clone()))?;
    let has = file.len() - start - len;
    if needed > has {
        return Err(NpyError::CutShort { needed, has });
    }
    Ok(Header { element, order, shape, place: start + len..start + len + needed })
}

/// The three fields of the dictionary.
fn fields(text: &[u8]) -> Result<(Literal, Order, Vec<u64>), NpyError> {
    const ODD: NpyError = NpyError::Header("it is not a dictionary of descr, fortran_order and shape");
    let mut parser = Parser { rest: text };
    let (mut descr, mut order, mut shape) = (None, None, None);
    parser.expect(b'{').ok_or(ODD)?;
    while parser.expect(b'}').is_none() {
        let key = parser.text().ok_or(ODD)?;
        parser.expect(b':').ok_or(ODD)?;
        let value = parser.literal(MAX_DEPTH).ok_or(ODD)?;
        match (key.as_str(), value) {
            ("descr", value) if descr.is_none() => descr = Some(value),
            ("fortran_order", Literal::Bool(is_f)) if order.is_none() => {
                order = Some(if is_f { Order::F } else { Order::C });
            }
            ("shape", Literal::Tuple(axes)) if shape.is_none() => shape = Some(axes),
            _ => return Err(ODD),
        }
        if parser.expect(b',').is_none() {
            parser.expect(b'}').ok_or(ODD)?;
            break;
        }
    }
    parser.skip_space();
    let axes = shape.ok_or(ODD)?.into_iter().map(|axis| match axis {
        Literal::Number(len) => Ok(len),
        _ => Err(ODD),
    });
    let shape = axes.collect::<Result<_, _>>()?;
    if !parser.rest.is_empty() {
        return Err(ODD);
    }
    Ok((descr.ok_or(ODD)?, order.ok_or(ODD)?, shape))
}

/// The element type that NumPy calls `descr`, or what to do about it.
fn element(descr: &Literal) -> Result<ElementType, NpyError> {
    let Literal::Text(descr) = descr else {
        return Err(match descr {
            Literal::List(_) => NpyError::Records(descr.first_text().unwrap_or("field").to_owned()),
            _ => NpyError::Header("its descr is no element type"),
        });
    };
    let (byte_order, kind) = match descr.as_bytes().first() {
        Some(b'<' | b'>' | b'|' | b'=') => descr.split_at(1),
        _ => ("=", descr.as_str()),
    };
    let native = if cfg!(target_endian = "big") { ">" } else { "<" };
    let cast = |to: &str| format!("save it as `np.save(path, x.astype('{to}'))`");
    let refuse = |what, remedy| Err(NpyError::Element { what, descr: descr.clone(), remedy });
    let element = match kind {
        "b1" | "?" => ElementType::Bool,
        "u1" => ElementType::U8,
        "u2" => ElementType::U16,
        "u4" => ElementType::U32,
        "u8" => ElementType::U64,
        "i1" => ElementType::I8,
        "i2" => ElementType::I16,
        "i4" => ElementType::I32,
        "i8" => ElementType::I64,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        "c8" => ElementType::ComplexF32,
        "c16" => ElementType::ComplexF64,
        "f2" => return refuse("floats of half precision", cast(&format!("{native}f4"))),
        "f12" | "f16" => return refuse("floats of extended precision", cast(&format!("{native}f8"))),
        "c24" | "c32" => return refuse("complex numbers of extended precision", cast(&format!("{native}c16"))),
        _ => {
            return match kind.as_bytes().first() {
                Some(b'O') => {
                    let remedy = format!("if they are numbers, {}", cast(&format!("{native}f8")));
                    refuse("Python objects", remedy)
                }
                Some(b'U' | b'S' | b'a') => {
                    refuse("strings", "share them as a value: `.value(key, &strings)` with a `Vec<String>`".to_owned())
                }
                Some(b'M' | b'm') => refuse("dates or times", cast(&format!("{native}i8"))),
                _ => refuse("elements of a type that is no number here", cast(&format!("{native}f8"))),
            };
        }
    };
    if element.size() > 1 && byte_order != native && byte_order != "=" {
        return refuse("numbers in the other byte order", cast(&format!("{native}{kind}")));
    }
    Ok(element)
}

/// What a Python literal in a header can be.
#[derive(Debug)]
enum Literal {
    Text(String),
    Bool(bool),
    Number(u64),
    Tuple(Vec<Literal>),
    List(Vec<Literal>),
}

impl Literal {
    /// The first text in it, which of a list of fields is the first field's name.
    fn first_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Tuple(items) | Self::List(items) => items.iter().find_map(Self::first_text),
            _ => None,
        }
    }
}

/// Reads the few Python literals that NumPy writes.
struct Parser<'t> {
    rest: &'t [u8],
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(word.as_bytes())?;
        Some(())
    }

    fn text(&mut self) -> Option<String> {
        self.skip_space();
        let quote = *self.rest.first().filter(|byte| matches!(byte, b'\'' | b'"'))?;
        let end = 1 + self.rest[1..].iter().position(|byte| *byte == quote)?;
        // Latin-1 before version 3.0, UTF-8 since.
        let bytes = &self.rest[1..end];
        let latin1 = || bytes.iter().map(|byte| char::from(*byte)).collect();
        let text = std::str::from_utf8(bytes).map_or_else(|_| latin1(), str::to_owned);
        self.rest = &self.rest[end + 1..];
        Some(text)
    }

    fn number(&mut self) -> Option<u64> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&self.rest[..len]).ok()?.parse().ok()?;
        self.rest = &self.rest[len..];
        // Python 2 wrote some numbers with an L.
        self.rest = self.rest.strip_prefix(b"L").unwrap_or(self.rest);
        Some(number)
    }

    fn literal(&mut self, depth: usize) -> Option<Literal> {
        self.skip_space();
        Some(match self.rest.first()? {
            b'\'' | b'"' => Literal::Text(self.text()?),
            b'T' => self.word("True").map(|()| Literal::Bool(true))?,
            b'F' => self.word("False").map(|()| Literal::Bool(false))?,
            b'(' => Literal::Tuple(self.items(b'(', b')', depth)?),
            b'[' => Literal::List(self.items(b'[', b']', depth)?),
            _ => Literal::Number(self.number()?),
        })
    }

    fn items(&mut self, open: u8, close: u8, depth: usize) -> Option<Vec<Literal>> {
        let depth = depth.checked_sub(1)?;
        self.expect(open)?;
        let mut items = Vec::new();
        while self.expect(close).is_none() {
            items.push(self.literal(depth)?);
            if self.expect(b',').is_none() {
                self.expect(close)?;
                break;
            }
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    fn header(text: &str) -> Result<(ElementType, Order, Vec<u64>), NpyError> {
        parse(&file(text, 64)).map(|header| (header.element, header.order, header.shape))
    }

    #[test]
    fn headers_are_python_dictionaries() {
        let plain = Ok((ElementType::U8, Order::C, vec![2, 3]));
        for text in [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }          \n",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3)}",
            "{\"shape\":(2,3,),\"descr\":\"u1\",\"fortran_order\":False}\n",
            " { 'fortran_order' : False , 'shape' : ( 2L , 3L ) , 'descr' : '<u1' } ",
        ] {
            assert_eq!(header(text), plain, "{text}");
        }
        let scalar = "{'descr': '|b1', 'fortran_order': True, 'shape': (), }";
        assert_eq!(header(scalar), Ok((ElementType::Bool, Order::F, vec![])));
        let empty = "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 99999999999), }";
        assert_eq!(header(empty), Ok((ElementType::U8, Order::C, vec![0, 99_999_999_999])));
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            "{'descr': '|u1', 'fortran_order': False}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3)} x",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2 3)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-2,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': 2}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': ('2',)}",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}",
            "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), 'more': 1}",
            "{'descr': 1, 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '|u1",
        ] {
            assert!(matches!(header(text), Err(NpyError::Header(_))), "{text}: {:?}", header(text));
        }
        let deep = format!("{{'descr': {}", "[".repeat(60_000));
        assert!(matches!(header(&deep), Err(NpyError::Header(_))));
        let overflow = "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}";
        assert!(matches!(header(overflow), Err(NpyError::Overflow(_))));
    }

    #[test]
    fn lengths_and_versions_are_checked() {
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }\n";
        let whole = file(text, 32);
        assert!(parse(&whole).is_ok());
        assert_eq!(parse(&whole[..whole.len() - 1]), Err(NpyError::CutShort { needed: 32, has: 31 }));
        for len in 0..whole.len() - 32 {
            assert!(matches!(parse(&whole[..len]), Err(NpyError::Magic | NpyError::Header(_))), "{len}");
        }
        let mut other = whole.clone();
        other[6] = 4;
        assert_eq!(parse(&other), Err(NpyError::Version(4, 0)));
        let long = b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec();
        assert_eq!(parse(&long), Err(NpyError::Header("it is too long")));
    }

    proptest! {
        #[test]
        fn junk_never_panics(
            start in prop_oneof![Just(&b"\x93NUMPY\x01\0"[..]), Just(&b"\x93NUMPY\x03\0"[..]), Just(&b""[..])],
            junk: Vec<u8>,
        ) {
            let _ = parse(&[start, &junk].concat());
        }

        #[test]
        fn junk_in_headers_never_panics(at in 0usize..60, byte: u8) {
            let mut bytes = file("{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }", 32);
            bytes[at] = byte;
            if let Ok(header) = parse(&bytes) {
                prop_assert!(header.place.end <= bytes.len());
            }
        }
    }
}
