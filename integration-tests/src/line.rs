//! One line of a log, and what must hold of it.

use std::sync::LazyLock;

use distfun_core::event::{ENVELOPE, FieldUse, Kind, TARGET, spec};
use jsonschema::Validator;
use serde_json::{Map, Value};

/// As it is parsed.
pub type Line = Map<String, Value>;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("../../schema/events-v1.json")).expect("JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
});

/// Whether the published schema accepts a line.
///
/// # Errors
/// It does not, and why.
pub fn accepted(line: &Line) -> Result<(), String> {
    SCHEMA
        .validate(&Value::Object(line.clone()))
        .map_err(|error| format!("{} at {:?}", error.masked(), error.instance_path().as_str()))
}

/// As the published schema says, and as the table does: with nothing that it does not know.
///
/// # Panics
/// If it is not so.
#[track_caller]
pub fn check_line(line: &Line) {
    if let Err(why) = known(line) {
        panic!("{why}: {line:?}");
    }
}

/// Whether it is as the published schema says, and as the table does: with nothing that it does not know.
///
/// # Errors
/// It is not, and why.
pub fn known(line: &Line) -> Result<(), String> {
    accepted(line)?;
    ENVELOPE.iter().try_for_each(|used| known_field(line, used))?;
    if line.values().any(|value| value.is_object() || value.is_array()) {
        return Err("it is not flat".into());
    }
    if line["target"] != TARGET {
        return Ok(());
    }
    let name = line["otel.event.name"].as_str().ok_or("it has no name")?;
    let event = spec(name).ok_or_else(|| format!("{name} is not in the table"))?;
    let level = line["level"].as_str().ok_or("it has no level")?;
    if !event.levels.iter().any(|known| known.as_str() == level) {
        return Err(format!("{name} at {level}"));
    }
    event.fields.iter().try_for_each(|used| known_field(line, used))?;
    match line.keys().find(|field| event.field(field).is_none()) {
        Some(field) => Err(format!("{name} has a field {field}")),
        None => Ok(()),
    }
}

fn known_field(line: &Line, FieldUse { field, is_required }: &FieldUse) -> Result<(), String> {
    let Some(value) = line.get(field.name) else {
        return if *is_required { Err(format!("{} is missing", field.name)) } else { Ok(()) };
    };
    let is_good = match field.kind {
        Kind::Text => value.is_string(),
        Kind::Whole => value.is_u64(),
        Kind::Float => value.as_f64().is_some_and(|value| value >= 0.0),
        Kind::Flag => value.is_boolean(),
    };
    if !is_good {
        return Err(format!("{} is a {:?}, not {value}", field.name, field.kind));
    }
    match field.values.is_empty() || field.values.iter().any(|known| value == known) {
        true => Ok(()),
        false => Err(format!("{} can't be {value}", field.name)),
    }
}
