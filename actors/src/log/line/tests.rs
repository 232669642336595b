use proptest::prelude::*;
use serde_json::{Map, Value};
use tracing::{Level, info, subscriber::with_default};
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt};

use super::*;

/// Puts together the lines of events, without a queue.
#[derive(Default, Clone)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut line = Vec::new();
        write(&mut line, SystemTime::UNIX_EPOCH, event);
        line.push(b'}');
        self.0.lock().unwrap().push(String::from_utf8(line).unwrap());
    }
}

/// The line of the one event in `body`, and what JSON reads in it; no key is there twice, nothing is nested.
#[track_caller]
fn line(body: impl FnOnce()) -> (String, Map<String, Value>) {
    let lines = Lines::default();
    with_default(Registry::default().with(lines.clone()), body);
    let line = lines.0.lock().unwrap()[0].clone();
    let read: Map<String, Value> = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(line.matches("\":").count(), read.len() + read.values().map(colons).sum::<usize>(), "{line}");
    assert!(read.values().all(|value| !value.is_object() && !value.is_array()), "{line}");
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{line:?}");
    (line, read)
}

/// How often a value itself has what looks like the end of a key.
fn colons(value: &Value) -> usize {
    serde_json::to_string(value).unwrap().matches("\":").count()
}

/// Any text, with control characters, which a plain `any::<String>()` has not.
fn texts() -> impl Strategy<Value = String> {
    let chars = prop_oneof![any::<char>(), (0u8..0xa1).prop_map(char::from), Just('\u{2028}')];
    proptest::collection::vec(chars, 0..40).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn every_line_is_json_whatever_is_said(text in texts(), other in texts(), number in any::<f64>()) {
        let (_, read) = line(|| info!(text, debug = ?other, number, "{text}"));
        prop_assert_eq!(&read["text"], &text);
        prop_assert_eq!(&read["message"], &text);
        prop_assert_eq!(read["debug"].as_str().unwrap(), format!("{other:?}"));
        prop_assert_eq!(read["number"].as_f64(), number.is_finite().then_some(number));
    }
}

#[test]
fn numbers_are_numbers_and_what_is_not_finite_is_null() {
    let (_, read) = line(|| {
        info!(a = u64::MAX, b = i64::MIN, c = 1e300, d = f64::NAN, e = f64::NEG_INFINITY, f = true, g = u128::MAX)
    });
    assert_eq!(read["a"], u64::MAX);
    assert_eq!(read["b"], i64::MIN);
    assert_eq!(read["c"], 1e300);
    assert_eq!((&read["d"], &read["e"], &read["f"]), (&Value::Null, &Value::Null, &Value::Bool(true)));
    assert_eq!(read["g"], u128::MAX.to_string());
}

#[test]
fn foreign_fields_make_way_for_the_envelope_s_and_for_one_another() {
    let (text, read) =
        line(|| info!(level = "mine", "distfun.seq" = 3, "fields.level" = 5, "otel.event.name" = "no", "hello"));
    assert_eq!(read["level"], "INFO");
    assert!(!read.contains_key("distfun.seq"), "the queue's: {text}");
    assert_eq!((&read["fields.distfun.seq"], &read["fields.otel.event.name"]), (&3.into(), &"no".into()));
    assert_eq!((&read["fields.level"], &read["fields.fields.level"]), (&"mine".into(), &5.into()));
}

#[test]
fn an_event_without_a_message_has_its_place_for_one() {
    let (_, read) = line(|| info!(a = 1));
    assert!(read["message"].as_str().unwrap().contains("tests.rs"), "{read:?}");
}

#[test]
fn long_texts_are_cut_and_a_line_has_an_end() {
    let (_, read) = line(|| info!(text = "ä".repeat(MAX_TEXT)));
    let text = read["text"].as_str().unwrap();
    assert!(text.len() <= MAX_TEXT + 3 && text.ends_with("ä…"), "{}", text.len());
    let quotes = "\u{1}".repeat(MAX_TEXT);
    let q = quotes.as_str();
    let (text, read) = line(|| info!(a = q, b = q, c = q, d = q, "{q}"));
    assert!(text.len() < MAX_LINE + 7 * MAX_TEXT && read.len() < 8, "{}", text.len());
}

#[test]
fn the_time_is_to_the_microsecond() {
    let (text, _) = line(|| info!("hello"));
    let target = module_path!();
    let begin = r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","target":""#;
    assert_eq!(text, format!("{begin}{target}\",\"message\":\"hello\"}}"));
    let mut line = Vec::new();
    open(&mut line, SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_500_001_999), Level::WARN, "t");
    assert!(line.starts_with(b"{\"timestamp\":\"1970-01-01T00:00:01.500001Z\",\"level\":\"WARN\""));
}
