//! Lists of hosts: `n[01-08]` is n01 to n08, `r[1-2]n[1,3]` is r1n1, r1n3, r2n1 and r2n3.

use super::fault::Fault;

/// Most digits of a number in a bracket, so that it fits into 64 bits.
pub(super) const MAX_DIGITS: usize = 18;

/// A text with brackets, read and not yet expanded.
#[derive(Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Numbers(Vec<Range>),
}

/// Numbers from `from` to `to`, both included, each with at least `width` digits.
#[derive(Debug)]
struct Range {
    from: u64,
    to: u64,
    width: usize,
}

impl Template {
    /// Reads a text that may have brackets.
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('[') {
            let Some((inside, after)) = behind.split_once(']') else {
                return Err(Fault::Unclosed(closed(text)));
            };
            if before.contains(']') {
                return Err(Fault::Unopened);
            }
            if inside.contains('[') {
                return Err(Fault::Nested);
            }
            pieces.push(Piece::Text(before.into()));
            pieces.push(Piece::Numbers(inside.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>()?));
            rest = after;
        }
        if rest.contains(']') {
            return Err(Fault::Unopened);
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self(pieces))
    }

    /// How many texts it stands for, or `u64::MAX` if they are more.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().fold(1, |product, piece| match piece {
            Piece::Text(_) => product,
            Piece::Numbers(ranges) => {
                let sum = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.to - range.from + 1));
                product.saturating_mul(sum)
            }
        })
    }

    /// The first text that it stands for; the others are longer by some digits at most.
    pub(super) fn first(&self) -> String {
        let first = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Numbers(ranges) => numbered("", ranges).next().unwrap_or_default(),
        };
        self.0.iter().map(first).collect()
    }

    /// Every text that it stands for, the last bracket fastest. Look at [`count`](Self::count) before.
    pub(super) fn expand(&self) -> Vec<String> {
        self.0.iter().fold(vec![String::new()], |texts, piece| match piece {
            Piece::Text(text) => texts.into_iter().map(|before| before + text).collect(),
            Piece::Numbers(ranges) => texts.iter().flat_map(|before| numbered(before, ranges)).collect(),
        })
    }
}

fn numbered<'a>(before: &'a str, ranges: &'a [Range]) -> impl Iterator<Item = String> + 'a {
    ranges
        .iter()
        .flat_map(move |&Range { from, to, width }| (from..=to).map(move |number| format!("{before}{number:0width$}")))
}

fn range(part: &str) -> Result<Range, Fault> {
    if part.is_empty() {
        return Err(Fault::EmptyBracket);
    }
    let (from, to) = part.split_once('-').unwrap_or((part, part));
    let (from_number, to_number) = (number(from.trim(), part)?, number(to.trim(), part)?);
    let (from, to) = (from.trim(), to.trim());
    let ends = || (from.to_owned(), to.to_owned());
    if from_number > to_number {
        let (from, to) = ends();
        return Err(Fault::Reversed { from, to });
    }
    // 1-08 and 001-10 leave open how n1, n01 or n001 is spelt.
    let is_padded = [from, to].iter().any(|end| end.len() > 1 && end.starts_with('0'));
    if is_padded && from.len() != to.len() {
        let (from, to) = ends();
        return Err(Fault::Width { from, to });
    }
    Ok(Range { from: from_number, to: to_number, width: from.len() })
}

fn number(text: &str, part: &str) -> Result<u64, Fault> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::NotRange(part.into()));
    }
    match text.len() {
        ..=MAX_DIGITS => text.parse().map_err(|_| Fault::NotRange(part.into())),
        _ => Err(Fault::LongNumber(text.into())),
    }
}

/// `text` with the bracket that was probably forgotten.
pub(super) fn closed(text: &str) -> String {
    let open = text.rfind('[').map_or(0, |at| at + 1);
    let is_inside = |c: char| c.is_ascii_digit() || ",- ".contains(c);
    let len = text[open..].find(|c| !is_inside(c)).unwrap_or(text.len() - open);
    let at = if len == 0 { text.len() } else { open + len };
    format!("{}]{}", &text[..at], &text[at..])
}
