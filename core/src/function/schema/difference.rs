//! Explains to people why two schemas differ.

/// Longest excerpt of a schema, in characters.
const MAX_EXCERPT: usize = 60;

/// Where two texts of [`Schema`](super::Schema) first differ, such as ``in `Point`, field `x`: f64 here, f32 there``.
/// `theirs` may come from anyone: the answer is short and one line whatever it holds. Empty if they are the same.
#[must_use]
pub fn difference(ours: &str, theirs: &str) -> String {
    if ours == theirs {
        return String::new();
    }
    let (ours, theirs) = (tokens(ours), tokens(theirs));
    let kinds = [&ours, &theirs].map(|tokens| tokens.split(|&token| token == "fn").next().unwrap_or_default());
    if kinds[0] != kinds[1] {
        return format!("{} here, {} there", excerpt(kinds[0]), excerpt(kinds[1]));
    }
    let same = ours.iter().zip(&theirs).take_while(|(here, there)| here == there).count();
    let place = place(&ours[..same]);
    let [here, there] = [&ours[same..], &theirs[same..]].map(|tokens| tokens.strip_prefix(&[","]).unwrap_or(tokens));
    let is_name = |tokens: &[&str]| matches!(tokens, [_, ":", ..]);
    let what = if is_name(here) || is_name(there) {
        // Not the value but the name of a field, or one that only one side has.
        let field = |tokens: &[&str]| match tokens {
            [name, ":", ..] => format!("field `{}`", excerpt(&[name])),
            _ => "no more fields".to_owned(),
        };
        format!("{} here, {} there", field(here), field(there))
    } else {
        format!("{} here, {} there", excerpt(value(here)), excerpt(value(there)))
    };
    format!("{place}{what}")
}

/// Words, arrows, quoted names and single signs.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '@' || c == '^';
        let end = if first == '"' {
            let mut is_escaped = true; // the opening quote is no end
            let end = rest.char_indices().find(|&(_, c)| {
                let is_end = c == '"' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            });
            end.map_or(rest.len(), |(at, _)| at + 1)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("->") || rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

/// Names where the tokens after `same` are: in which function's side, type and field.
fn place(same: &[&str]) -> String {
    let mut types = Vec::new();
    let mut is_result = false;
    for (i, &token) in same.iter().enumerate() {
        match token {
            "(" | "[" | "<" | "{" => types.push(i.checked_sub(1).map_or("", |before| same[before])),
            ")" | "]" | ">" | "}" => drop(types.pop()),
            "->" => is_result = true,
            _ => {}
        }
    }
    let mut place = match (is_result, types.is_empty()) {
        (true, _) => "result, ".to_owned(),
        (false, false) => "argument, ".to_owned(),
        (false, true) => String::new(),
    };
    if let ["version", ..] | [.., "version"] = same {
        return "version ".to_owned();
    }
    let is_type = |name: &str| name != "fn" && name.starts_with(|c: char| c.is_alphabetic() || c == '"');
    if let Some(name) = types.last().filter(|name| is_type(name)) {
        place += &format!("in `{}`, ", excerpt(&[name]));
    }
    if let [.., field, ":"] = same {
        place += &format!("field `{}`: ", excerpt(&[field]));
    }
    place
}

/// The type or variant that begins here, up to the comma or bracket after it.
fn value<'a, 't>(tokens: &'a [&'t str]) -> &'a [&'t str] {
    let mut depth = 0usize;
    let is_end = |token: &&str| {
        match *token {
            "(" | "[" | "<" | "{" => depth += 1,
            ")" | "]" | ">" | "}" | "," | "->" if depth == 0 => return true,
            ")" | "]" | ">" | "}" => depth -= 1,
            _ => {}
        }
        false
    };
    let end = tokens.iter().position(is_end).unwrap_or(tokens.len());
    &tokens[..end]
}

/// The tokens as text again, without control characters and not too long.
fn excerpt(tokens: &[&str]) -> String {
    if tokens.is_empty() {
        return "nothing more".to_owned();
    }
    let mut text = String::new();
    for (i, &token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map_or("(", |before| tokens[before]);
        let is_close = matches!(token, ")" | "]" | ">" | "," | ":" | ";" | "::" | "(" | "<" | "?");
        let is_open = matches!(before, "(" | "[" | "<" | "::");
        text.push_str(if is_close || is_open { "" } else { " " });
        text.push_str(token);
        if text.len() > 8 * MAX_EXCERPT {
            break;
        }
    }
    let mut chars = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut shown: String = chars.by_ref().take(MAX_EXCERPT).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(ours: &str, theirs: &str, expected: &str) {
        assert_eq!(difference(ours, theirs), expected);
    }

    #[test]
    fn the_first_difference_is_named_with_its_type_and_field() {
        let ours = "item by value fn(Point { x: f64, scale: f64 }) -> Result<u32, String>, version 1";
        check(ours, ours, "");
        let theirs = ours.replace("scale: f64", "scale: [f32; 3]");
        check(ours, &theirs, "argument, in `Point`, field `scale`: f64 here, [f32; 3] there");
        check(ours, &ours.replace("scale", "factor"), "argument, in `Point`, field `scale` here, field `factor` there");
        let shorter = ours.replace(", scale: f64", "");
        check(ours, &shorter, "argument, in `Point`, field `scale` here, no more fields there");
        check(
            ours,
            &ours.replace("u32", "enum E { A(u8), B }"),
            "result, in `Result`, u32 here, enum E { A(u8), B } there",
        );
        check(ours, &ours.replace("version 1", "version 12"), "version 1 here, 12 there");
        check(ours, &ours.replace("item by value", "columns"), "item by value here, columns there");
        check(
            "k fn(u8) -> enum E { A(u8), B }",
            "k fn(u8) -> enum E { A(u8) }",
            "result, in `E`, B here, nothing more there",
        );
        check("k fn(f64) -> f64", "k fn([f64]) -> f64", "argument, f64 here, [f64] there");
        check("k fn(f64) -> f64", "", "k here, nothing more there");
    }

    proptest! {
        #[test]
        fn any_text_gives_one_short_line(ours: String, theirs in r#"(item by value |fn|[()<>\[\]{},:; "\\]|->|version|\PC){0,40}"#) {
            for (ours, theirs) in [(&ours, &theirs), (&theirs, &ours)] {
                let line = difference(ours, theirs);
                prop_assert_eq!(line.is_empty(), ours == theirs);
                prop_assert!(!line.contains(char::is_control) && line.chars().count() < 400);
            }
        }
    }
}
