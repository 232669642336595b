//! `schema/events-v1.json`: the table as a JSON Schema of one line of a log.

use serde_json::{Map, Value, json};

use super::*;

/// A line of this version and of later ones of the same major: what is not known here may be there, but flat.
fn schema() -> Value {
    let is_ours = json!({ "required": ["target"], "properties": { "target": { "const": TARGET } } });
    let named = json!({ "if": is_ours, "then": { "required": ["otel.event.name"] } });
    let rules: Vec<Value> = std::iter::once(named).chain(EVENTS.iter().map(rule)).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:distfun:events:v1",
        "title": "A line of a log of distfun, schema 1",
        "description": format!(
            "As of schema {SCHEMA}. Within schema 1 there are only additions: events and fields that are not here are accepted, \
             if they are flat; a later version of this file may know more values of a text. Lines with another target than \
             {TARGET} come from elsewhere in the program: they have what all lines have, and fields of their own. \
             docs/EVENTS.md says the same as a page."
        ),
        "type": "object",
        "required": required(ENVELOPE),
        "properties": properties(ENVELOPE),
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        "allOf": rules
    })
}

/// What holds for a line of this event.
fn rule(event: &EventSpec) -> Value {
    let mut fields = Map::new();
    fields.insert("level".into(), json!({ "enum": event.levels.iter().map(Level::as_str).collect::<Vec<_>>() }));
    fields.extend(properties(event.fields));
    let mut then = json!({ "description": trimmed(event.when), "properties": fields });
    if !required(event.fields).is_empty() {
        then["required"] = required(event.fields).into();
    }
    let is_it = json!({ "target": { "const": TARGET }, "otel.event.name": { "const": event.name } });
    json!({ "if": { "required": ["target", "otel.event.name"], "properties": is_it }, "then": then })
}

fn required(uses: &[FieldUse]) -> Vec<&'static str> {
    uses.iter().filter(|used| used.is_required).map(|used| used.field.name).collect()
}

fn properties(uses: &[FieldUse]) -> Map<String, Value> {
    uses.iter().map(|used| (used.field.name.into(), property(&used.field))).collect()
}

fn property(field: &FieldSpec) -> Value {
    let kind = match field.kind {
        Kind::Text => "string",
        Kind::Whole => "integer",
        Kind::Float => "number",
        Kind::Flag => "boolean",
    };
    let mut property = json!({ "type": kind });
    if matches!(field.kind, Kind::Whole | Kind::Float) {
        property["minimum"] = 0.into();
    }
    if field.unit() == "0 to 1" {
        property["maximum"] = 1.into();
    }
    if !field.values.is_empty() {
        property["enum"] = field.values.into();
    }
    match field.name {
        "timestamp" => property["format"] = "date-time".into(),
        "distfun.schema" => property["pattern"] = r"^1\.[0-9]+$".into(),
        _ => {}
    }
    let doc = trimmed(field.doc);
    property["description"] = match field.unit() {
        "" => doc.into(),
        unit => format!("{doc} Unit: {unit}.").into(),
    };
    property
}

/// As JSON, with a line for each field, so that a change of one field changes one line.
fn layout(value: &Value, indent: usize) -> String {
    let (inside, end) = (" ".repeat(indent + 2), " ".repeat(indent));
    let lines = |open: char, parts: Vec<String>, close: char| {
        format!("{open}\n{inside}{}\n{end}{close}", parts.join(&format!(",\n{inside}")))
    };
    match value {
        Value::Object(members) if members.values().any(has_objects) => {
            let member = |(name, value): (&String, &Value)| format!("{name:?}: {}", layout(value, indent + 2));
            lines('{', members.iter().map(member).collect(), '}')
        }
        Value::Array(values) if has_objects(value) => {
            lines('[', values.iter().map(|value| layout(value, indent + 2)).collect(), ']')
        }
        _ => value.to_string(),
    }
}

fn has_objects(value: &Value) -> bool {
    value.is_object() || value.as_array().is_some_and(|values| values.iter().any(Value::is_object))
}

/// `REWRITE=1 cargo test -p distfun-core` writes the file anew.
#[test]
fn the_schema_of_a_line_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/events-v1.json");
    let should = layout(&schema(), 0) + "\n";
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, should).unwrap();
    } else {
        assert_same(&std::fs::read_to_string(&path).unwrap(), &should);
    }
}
