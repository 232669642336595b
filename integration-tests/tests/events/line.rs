//! One line of a log, and what must hold of it; for the other test binary too.

use std::sync::LazyLock;

use distfun_core::event::{ENVELOPE, FieldUse, Kind, TARGET, spec};
use jsonschema::Validator;
use serde_json::{Map, Value};

pub(crate) type Line = Map<String, Value>;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("../../../schema/events-v1.json")).expect("JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
});

/// Whether the published schema accepts a line, and if not, why.
pub(crate) fn accepted(line: &Line) -> Result<(), String> {
    SCHEMA
        .validate(&Value::Object(line.clone()))
        .map_err(|error| format!("{} at {:?}", error.masked(), error.instance_path().as_str()))
}

/// As the published schema says, and as the table does: with nothing that it does not know.
#[track_caller]
pub(crate) fn check_line(line: &Line) {
    if let Err(why) = accepted(line) {
        panic!("{why}: {line:?}");
    }
    for used in ENVELOPE {
        check_field(line, used);
    }
    for value in line.values() {
        assert!(!value.is_object() && !value.is_array(), "{line:?}");
    }
    if line["target"] != TARGET {
        return;
    }
    let name = line["otel.event.name"].as_str().expect("a name");
    let event = spec(name).unwrap_or_else(|| panic!("{name} is not in the table"));
    let level = line["level"].as_str().expect("a level");
    assert!(event.levels.iter().any(|known| known.as_str() == level), "{name} at {level}");
    for used in event.fields {
        check_field(line, used);
    }
    for field in line.keys() {
        assert!(event.field(field).is_some(), "{name} has a field {field}");
    }
}

#[track_caller]
fn check_field(line: &Line, FieldUse { field, is_required }: &FieldUse) {
    let Some(value) = line.get(field.name) else {
        assert!(!is_required, "{} is missing in {line:?}", field.name);
        return;
    };
    let is_good = match field.kind {
        Kind::Text => value.is_string(),
        Kind::Whole => value.is_u64(),
        Kind::Float => value.as_f64().is_some_and(|value| value >= 0.0),
        Kind::Flag => value.is_boolean(),
    };
    assert!(is_good, "{} is a {:?}: {line:?}", field.name, field.kind);
    let is_known = field.values.is_empty() || field.values.iter().any(|known| value == known);
    assert!(is_known, "{} can't be {value}", field.name);
}
