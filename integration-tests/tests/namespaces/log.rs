//! What the processes of a story log, as the story reads it.

use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    rc::Rc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use distfun_integration_tests::line::{self, check_line};
use serde_json::Value;

use crate::lan::{Host, Lan};

/// The log of the process on one host.
pub(crate) struct Log {
    path: PathBuf,
    read: RefCell<(u64, Vec<Rc<Line>>)>,
}

impl Log {
    pub(crate) fn of(lan: &Lan, host: Host) -> Self {
        Self { path: lan.dir().join(format!("{host:?}.ndjson")), read: RefCell::default() }
    }

    /// Begins to write it: everything, chunks too.
    pub(crate) fn begin(&self) -> distfun::log::Guard {
        distfun::log::json().file(&self.path).level(tracing::Level::DEBUG).init().expect("nobody else logs here")
    }

    /// All lines so far; what was read once is kept.
    pub(crate) fn lines(&self) -> Vec<Rc<Line>> {
        let mut read = self.read.borrow_mut();
        let (end, lines) = &mut *read;
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(*end)).and_then(|_| file.read_to_string(&mut text)).expect("it can be read");
        }
        let whole = text.rfind('\n').map_or("", |last| &text[..=last]);
        *end += whole.len() as u64;
        for line in whole.lines() {
            let line = serde_json::from_str(line).expect("JSON");
            check_line(&line);
            lines.push(Rc::new(Line(line)));
        }
        lines.clone()
    }

    /// The events of this name.
    pub(crate) fn events(&self, name: &str) -> Vec<Rc<Line>> {
        self.lines().into_iter().filter(|line| line.is(name)).collect()
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn wait_for(&self, limit: Duration, what: &str, is_it: impl Fn(&Line) -> bool) -> Rc<Line> {
        let start = Instant::now();
        loop {
            if let Some(line) = self.lines().into_iter().find(|line| is_it(line)) {
                return line;
            }
            if start.elapsed() >= limit {
                let lines: Vec<String> =
                    self.lines().iter().filter(|line| !line.is_debug()).map(|line| line.brief()).collect();
                panic!("not within {limit:?} in {}: {what}\n{}", self.path.display(), lines.join("\n"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One line.
pub(crate) struct Line(line::Line);

impl Line {
    /// Whether it is the event `distfun.<name>`.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.text("otel.event.name").strip_prefix("distfun.") == Some(name)
    }

    fn is_debug(&self) -> bool {
        self.text("level") == "DEBUG"
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        self.0.get(field).and_then(Value::as_u64).unwrap_or_default()
    }

    pub(crate) fn machine(&self) -> &str {
        self.text("distfun.machine")
    }

    pub(crate) fn message(&self) -> &str {
        self.text("message")
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    pub(crate) fn time(&self) -> SystemTime {
        humantime::parse_rfc3339(self.text("timestamp")).expect("a time")
    }

    fn brief(&self) -> String {
        format!("{} {} {}", self.text("timestamp"), self.text("level"), self.message())
    }
}
