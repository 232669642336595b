use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use super::*;

mod schema;

/// Every field of every event and of the envelope.
fn fields() -> impl Iterator<Item = &'static FieldUse> {
    ENVELOPE.iter().chain(EVENTS.iter().flat_map(|event| event.fields))
}

#[test]
fn names_are_lower_case_dotted_and_snake_case() {
    let names = fields().map(|used| used.field.name).chain(EVENTS.iter().map(|event| event.name));
    for name in names {
        let is_good = |part: &str| {
            let mut chars = part.chars();
            chars.next().is_some_and(|first| first.is_ascii_lowercase())
                && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        assert!(name.split('.').all(is_good), "{name}");
        assert!(!name.contains("__") && name.split('.').all(|part| !part.ends_with('_')), "{name}");
    }
}

#[test]
fn names_are_ours_or_those_that_opentelemetry_has() {
    // What every log of `tracing` in JSON has.
    let of_line = ["timestamp", "level", "target", "message"];
    let of_otel = [
        "code.file.path",
        "code.line.number",
        "error.message",
        "error.type",
        "exception.message",
        "exception.type",
        "host.name",
        "otel.event.name",
        "process.pid",
        "service.instance.id",
        "service.name",
        "service.version",
    ];
    for FieldUse { field: FieldSpec { name, .. }, .. } in fields() {
        let is_known = name.starts_with("distfun.") || of_otel.contains(name) || of_line.contains(name);
        assert!(is_known, "{name} is neither ours nor known to all");
    }
    let names: BTreeSet<String> = fields().map(|used| used.field.name.replace('.', "_")).collect();
    for event in EVENTS {
        assert!(event.name.starts_with("distfun.") && event.name.matches('.').count() == 2, "{}", event.name);
        assert!(!names.contains(&event.name.replace('.', "_")), "{} is a field too", event.name);
    }
}

#[test]
fn no_name_is_both_a_value_and_a_parent() {
    // "chunks" beside "chunks.done" can't both be mapped by Elasticsearch.
    let names: BTreeSet<&str> = fields().map(|used| used.field.name).collect();
    for name in &names {
        for (at, _) in name.match_indices('.') {
            assert!(!names.contains(&name[..at]), "{} is a value, and the parent of {name}", &name[..at]);
        }
    }
}

#[test]
fn no_two_names_meet_when_dots_become_underscores() {
    // As Loki and Prometheus write them.
    let mut flat = BTreeMap::new();
    for used in fields() {
        let name = used.field.name;
        let before = flat.insert(name.replace('.', "_"), name);
        assert!(before.is_none_or(|before| before == name), "{before:?} and {name}");
    }
}

#[test]
fn names_tell_the_unit_and_a_name_has_one_type() {
    let mut kinds = BTreeMap::new();
    for FieldUse { field, .. } in fields() {
        match (field.kind, field.unit()) {
            (Kind::Float, "s" | "1/s" | "0 to 1") | (Kind::Whole, "" | "bytes") | (Kind::Text | Kind::Flag, "") => {}
            (kind, unit) => panic!("{} is a {kind:?} and its name says {unit:?}", field.name),
        }
        assert_eq!(*kinds.entry(field.name).or_insert(field.kind), field.kind, "{}", field.name);
    }
}

#[test]
fn events_have_different_names_and_no_field_twice() {
    let mut names = BTreeSet::new();
    for event in EVENTS {
        assert!(names.insert(event.name), "{}", event.name);
        let mut seen: BTreeSet<&str> = ENVELOPE.iter().map(|used| used.field.name).collect();
        for used in event.fields {
            assert!(seen.insert(used.field.name), "{} in {}", used.field.name, event.name);
        }
    }
}

#[test]
fn texts_are_cut_at_characters() {
    assert_eq!(capped("short"), "short");
    let long = "ä".repeat(300);
    assert_eq!(capped(&long).len(), MAX_TEXT_BYTES);
    assert_eq!(capped(&format!("x{long}")).len(), MAX_TEXT_BYTES - 1);
}

fn kind(field: &FieldSpec) -> String {
    let kind = match field.kind {
        Kind::Text => "text",
        Kind::Whole => "integer",
        Kind::Float => "number",
        Kind::Flag => "true or false",
    };
    match field.unit() {
        "" => kind.into(),
        unit => format!("{kind}, {unit}"),
    }
}

fn trimmed(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `docs/EVENTS.md`, between its two marks.
fn reference() -> String {
    let mut text = String::new();
    let used_by = |text: &mut String, uses: &[FieldUse]| {
        writeln!(text, "| field | type | | meaning |\n|---|---|---|---|").unwrap();
        for FieldUse { field, is_required } in uses {
            let mut doc = trimmed(field.doc);
            if !field.values.is_empty() {
                write!(doc, " One of `{}`.", field.values.join("`, `")).unwrap();
            }
            let required = if *is_required { "always" } else { "if known" };
            writeln!(text, "| `{}` | {} | {required} | {doc} |", field.name, kind(field)).unwrap();
        }
    };
    writeln!(text, "\n## On every line\n").unwrap();
    used_by(&mut text, ENVELOPE);
    writeln!(text, "\n## Events\n\n| event | level | when |\n|---|---|---|").unwrap();
    let levels = |event: &EventSpec| event.levels.iter().map(Level::as_str).collect::<Vec<_>>().join(", ");
    for event in EVENTS {
        let anchor = event.name.replace('.', "");
        writeln!(text, "| [`{}`](#{anchor}) | {} | {} |", event.name, levels(event), trimmed(event.when)).unwrap();
    }
    for event in EVENTS {
        writeln!(text, "\n### {}\n\n{}: {}\n", event.name, levels(event), trimmed(event.when)).unwrap();
        used_by(&mut text, event.fields);
    }
    text.push('\n');
    text
}

/// `REWRITE=1 cargo test -p distfun-core` writes the page anew.
#[test]
fn the_page_about_events_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/EVENTS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let [begin, end] = ["<!-- from here on made from core/src/event -->", "<!-- until here -->"];
    let (before, rest) = page.split_once(begin).expect("the first mark");
    let (is, after) = rest.split_once(end).expect("the second mark");
    let should = reference();
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, format!("{before}{begin}\n{should}{end}{after}")).unwrap();
    } else {
        assert_same(is, &should);
    }
}

/// That a file is what is made from the table.
#[track_caller]
fn assert_same(is: &str, should: &str) {
    let remedy = "write it anew: REWRITE=1 cargo test -p distfun-core";
    for (is, should) in is.trim().lines().zip(should.trim().lines()) {
        assert_eq!(is, should, "{remedy}");
    }
    assert_eq!(is.trim().len(), should.trim().len(), "{remedy}");
}
