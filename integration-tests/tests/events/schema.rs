//! `schema/events-v1.json` as readers of logs use it: what it must accept, now and later, and what it must not.

use distfun_core::event::{ENVELOPE, EVENTS, EventSpec, FieldSpec, FieldUse, Kind, SCHEMA, TARGET};
use distfun_integration_tests::line::{Line, accepted};
use serde_json::{Value, json};

/// Something that the field may be.
fn good(field: &FieldSpec) -> Value {
    match (field.name, field.kind) {
        ("timestamp", _) => "2026-01-01T00:00:00.000000Z".into(),
        ("distfun.schema", _) => SCHEMA.into(),
        (_, Kind::Text) => (*field.values.first().unwrap_or(&"any")).into(),
        (_, Kind::Whole) => u64::MAX.into(),
        (_, Kind::Float) => 0.5.into(),
        (_, Kind::Flag) => true.into(),
    }
}

/// What the field can't be.
fn bad(field: &FieldSpec) -> Vec<Value> {
    let mut bad = match field.kind {
        Kind::Text => vec![json!(1), json!(true)],
        Kind::Whole => vec![json!("1"), json!(1.5), json!(-1)],
        Kind::Float => vec![json!("1"), json!(-0.5), json!(false)],
        Kind::Flag => vec![json!("true"), json!(1)],
    };
    if field.unit() == "0 to 1" {
        bad.push(json!(1.5));
    }
    if !field.values.is_empty() || ["timestamp", "distfun.schema"].contains(&field.name) {
        bad.push(json!("something else"));
    }
    bad.extend([json!(null), json!({ "a": 1 }), json!([1])]);
    bad
}

/// A line of this event with every field that it may have.
fn line_of(event: &EventSpec) -> Line {
    let mut line: Line =
        ENVELOPE.iter().chain(event.fields).map(|used| (used.field.name.into(), good(&used.field))).collect();
    for (name, value) in [("target", TARGET), ("otel.event.name", event.name), ("level", event.levels[0].as_str())] {
        line[name] = value.into();
    }
    line
}

/// A line from elsewhere in the program.
fn line_of_program() -> Line {
    let mut line: Line = ENVELOPE.iter().map(|used| (used.field.name.into(), good(&used.field))).collect();
    line.remove("otel.event.name");
    line["target"] = "my_program".into();
    line
}

fn with(line: &Line, name: &str, value: impl Into<Value>) -> Line {
    let mut line = line.clone();
    line.insert(name.into(), value.into());
    line
}

fn without(line: &Line, name: &str) -> Line {
    let mut line = line.clone();
    line.remove(name).unwrap_or_else(|| panic!("{name} is not there"));
    line
}

#[track_caller]
fn assert_accepted(line: &Line) {
    accepted(line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
}

#[track_caller]
fn assert_refused(line: &Line) {
    assert!(accepted(line).is_err(), "{line:?}");
}

/// Also by a schema that has grown since: what was required of a line first is all that can be.
#[test]
fn the_log_as_first_published_is_accepted() {
    let log = include_str!("../../testdata/events-v1.ndjson");
    assert!(log.lines().count() > 10);
    for line in log.lines() {
        assert_accepted(&serde_json::from_str(line).expect("JSON"));
    }
}

#[test]
fn each_event_is_accepted_as_the_table_has_it_and_not_otherwise() {
    for event in EVENTS {
        let line = line_of(event);
        assert_accepted(&line);
        for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] {
            let is_known = event.levels.iter().any(|known| known.as_str() == level);
            assert_eq!(accepted(&with(&line, "level", level)).is_ok(), is_known, "{} at {level}", event.name);
        }
        assert_refused(&without(&line, "otel.event.name"));
        for FieldUse { field, is_required } in ENVELOPE.iter().chain(event.fields) {
            if field.name != "otel.event.name" {
                let is_accepted = accepted(&without(&line, field.name)).is_ok();
                assert_eq!(is_accepted, !is_required, "{} without {}", event.name, field.name);
            }
            for value in bad(field) {
                assert_refused(&with(&line, field.name, value));
            }
        }
    }
}

#[test]
fn what_a_later_version_adds_is_accepted_if_it_is_flat() {
    for event in EVENTS {
        let line = line_of(event);
        assert_accepted(&with(&line, "distfun.schema", "1.4711"));
        for value in [json!("a text"), json!(-1.5), json!(false), json!(null)] {
            assert_accepted(&with(&line, "distfun.new.field", value));
        }
        for value in [json!({ "a": 1 }), json!([1]), json!([])] {
            assert_refused(&with(&line, "distfun.new.field", value));
        }
        let new = with(&line, "otel.event.name", "distfun.thing.happened");
        assert_accepted(&new);
        for used in event.fields {
            assert_accepted(&without(&new, used.field.name));
        }
        for FieldUse { field, .. } in ENVELOPE.iter().filter(|used| used.is_required) {
            assert_refused(&without(&new, field.name));
        }
    }
    assert_refused(&with(&line_of(&EVENTS[0]), "distfun.schema", "2.0"));
    assert_refused(&with(&line_of(&EVENTS[0]), "distfun.schema", "11.0"));
}

#[test]
fn a_line_from_elsewhere_has_what_all_lines_have_and_any_flat_fields() {
    let line = line_of_program();
    assert_accepted(&line);
    for used in EVENTS.iter().flat_map(|event| event.fields) {
        for value in bad(&used.field) {
            let is_flat = !value.is_object() && !value.is_array();
            assert_eq!(accepted(&with(&line, used.field.name, value)).is_ok(), is_flat, "{}", used.field.name);
        }
    }
    for FieldUse { field, is_required } in ENVELOPE.iter().filter(|used| used.field.name != "otel.event.name") {
        assert_eq!(accepted(&without(&line, field.name)).is_ok(), !is_required, "without {}", field.name);
        for value in bad(field) {
            assert_refused(&with(&line, field.name, value));
        }
    }
}
