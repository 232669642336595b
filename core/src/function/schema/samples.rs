//! The values handed to a `Deserialize` that is being traced.
//!
//! Most types take anything; some check. So there are several variations of a sample, and a place whose value was
//! refused gets the next one.

/// Which values a place gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variation(u8);

/// What the checks that people write accept: first anything, then the texts of common types.
const STRINGS: [&str; 18] = [
    "a",
    "",
    "1",
    "0",
    "abc",
    "2000-01-01T00:00:00Z",
    "2000-01-01T00:00:00",
    "2000-01-01",
    "00:00:00",
    "UTC",
    "http://a.aa/",
    "a@a.aa",
    "127.0.0.1",
    "127.0.0.1:80",
    "1.0.0",
    "00000000-0000-0000-0000-000000000000",
    "#000000",
    "/",
];
// Ones first: they are no zero, and a 1 x 1 array has one element.
const INTEGERS: [i64; 11] = [1, 0, 2, 3, 4, 8, 16, 100, 2000, -1, 1000];
const FLOATS: [f64; 7] = [1.0, 0.0, 0.5, 2.0, -1.0, 10.0, 100.0];
const CHARS: [char; 5] = ['a', '0', ' ', 'A', '-'];
const BYTE_COUNTS: [usize; 9] = [1, 0, 4, 8, 12, 16, 20, 32, 64];
const BYTES: [u8; 64] = [1; 64];

/// The variations after those of [`STRINGS`], for checks that look at several values at once.
const ASCENDING: u8 = STRINGS.len() as u8;
const ASCENDING_PAIRS: u8 = ASCENDING + 1;
const DESCENDING_TRIPLES: u8 = ASCENDING + 2;
const EMPTY: u8 = ASCENDING + 3;

impl Variation {
    pub(super) const FIRST: Self = Self(0);

    pub(super) fn next(self) -> Option<Self> {
        (self.0 < EMPTY).then_some(Self(self.0 + 1))
    }

    /// Elements of a sequence, entries of a map.
    pub(super) fn count(self) -> usize {
        match self.0 {
            EMPTY => 0,
            ASCENDING_PAIRS => 2,
            DESCENDING_TRIPLES => 3,
            _ => 1,
        }
    }

    /// The integer for the `position`th value of a place.
    pub(super) fn integer(self, position: usize) -> i64 {
        match self.0 {
            ASCENDING | ASCENDING_PAIRS => (position % 100) as i64 + 1,
            DESCENDING_TRIPLES => 100 - (position % 100) as i64,
            _ => self.of(&INTEGERS, position),
        }
    }

    pub(super) fn float(self, position: usize) -> f64 {
        match self.0 {
            ASCENDING..=DESCENDING_TRIPLES => self.integer(position) as f64,
            _ => self.of(&FLOATS, position),
        }
    }

    pub(super) fn char(self, position: usize) -> char {
        self.of(&CHARS, position)
    }

    pub(super) fn string(self, position: usize) -> &'static str {
        self.of(&STRINGS, position)
    }

    pub(super) fn bytes(self, position: usize) -> &'static [u8] {
        &BYTES[..self.of(&BYTE_COUNTS, position)]
    }

    fn of<T: Copy>(self, samples: &[T], position: usize) -> T {
        let index = if self.0 < ASCENDING { usize::from(self.0) } else { position };
        samples[index % samples.len()]
    }
}
