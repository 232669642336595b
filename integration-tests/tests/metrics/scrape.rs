//! What is served, and what must hold of it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::LIMIT;

type Labels = BTreeMap<String, String>;

/// All samples of one time.
#[derive(Debug)]
pub(super) struct Samples {
    values: BTreeMap<(String, Labels), f64>,
    /// The type of each metric.
    kinds: BTreeMap<String, String>,
}

impl Samples {
    pub(super) fn get(address: SocketAddr) -> Self {
        Self::read(&get(address, "/metrics"))
    }

    pub(super) fn read(text: &str) -> Self {
        let mut samples = Self { values: BTreeMap::new(), kinds: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP")) {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert_eq!(samples.kinds.insert(name.into(), kind.into()), None, "{line}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').expect("a brace");
            let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
                let (name, value) = label.split_once("=\"").expect("name and value");
                (name.to_owned(), value.trim_end_matches('"').to_owned())
            });
            let before = samples.values.insert((name.into(), labels.collect()), value.parse().expect("a number"));
            assert_eq!(before, None, "twice: {line}");
        }
        samples
    }

    /// The sum over all series of this name that have these labels; `function` by how it ends.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &Labels| {
            labels.iter().all(|&(label, value)| match of.get(label) {
                Some(is) if label == "function" => is.ends_with(value),
                is => is.is_some_and(|is| is == value),
            })
        };
        let series = self.values.iter().filter(|((is, of), _)| is == name && has(of));
        series.map(|(_, value)| value).sum()
    }

    fn kind(&self, name: &str) -> (&str, &str) {
        for end in ["", "_bucket", "_sum", "_count"] {
            if let Some((name, kind)) = name.strip_suffix(end).and_then(|name| self.kinds.get_key_value(name)) {
                return (name, kind);
            }
        }
        panic!("{name} has no type");
    }

    /// What only grows has not shrunk, and nothing of it is gone.
    pub(super) fn check_since(&self, before: &Self) {
        for ((name, labels), then) in &before.values {
            let now = self.values.get(&(name.clone(), labels.clone()));
            if before.kind(name).1 != "gauge" {
                assert!(now.is_some_and(|now| now >= then), "{name} {labels:?}: {then}, then {now:?}");
            }
        }
    }

    /// Every sample is of a metric that `docs/METRICS.md` lists, with its type and labels and no others.
    pub(super) fn check_against_page(&self) {
        let page = page();
        for (name, labels) in self.values.keys() {
            let (metric, kind) = self.kind(name);
            let (listed, known) = page.get(metric).unwrap_or_else(|| panic!("{metric} is not listed"));
            assert_eq!(listed, kind, "{metric}");
            let is: Vec<&str> = labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
            known.sort_unstable();
            assert_eq!(is, known, "{name}");
        }
    }
}

/// Type and labels of each metric that `docs/METRICS.md` lists.
pub(super) fn page() -> BTreeMap<String, (String, Vec<String>)> {
    let page = include_str!("../../../docs/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `distfun_"));
    let rows = rows.map(|row| {
        let [name, kind, labels, _] = row.splitn(4, " | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
        let kind = kind.split(',').next().expect("a type");
        let labels = labels.split('`').filter(|text| text.starts_with(|c: char| c.is_ascii_lowercase()));
        let labels = labels.map(str::to_owned).collect();
        (format!("distfun_{}", name.trim_end_matches('`')), (kind.to_owned(), labels))
    });
    rows.collect()
}

/// Asks, and returns the whole answer.
pub(super) fn ask(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8(answer).expect("text"))
}

/// Status and body.
pub(super) fn answer(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = ask(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

pub(super) fn get(address: SocketAddr, path: &str) -> String {
    let (status, body) = answer(address, path);
    assert_eq!(status, 200, "{body}");
    body
}

pub(super) fn health(address: SocketAddr) -> (u16, Value) {
    let (status, body) = answer(address, "/health");
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// Runs `promtool`, where it is.
pub(super) fn promtool(arguments: &[&str], input: &str) {
    let mut run = Command::new("promtool");
    run.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = match run.spawn() {
        Ok(run) => run,
        Err(error) => return eprintln!("promtool {arguments:?} is left out: {error}"),
    };
    // What needs no input may have ended.
    let _ = run.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = run.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success() && !said[1].contains("should"), "promtool {arguments:?}: {said:?}");
}
