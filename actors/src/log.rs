//! The log as lines of JSON, for dashboards and log stores: [`json`].
//!
//! ```
//! # let path = std::env::temp_dir().join(format!("distfun-doc-{}.ndjson", std::process::id()));
//! let _log = distfun::log::json().file(&path).init()?;
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One object a line, flat: no objects or arrays within, and control characters escaped, so that a line stays a line on
//! any terminal. Supervision events have the fields that `docs/EVENTS.md` lists; other events of the program come with
//! their own, and those whose name is one of the envelope's (`level`, say) are prefixed with `fields.`. Spans are not
//! written: every supervision event carries its own ids.
//!
//! # What happens under load
//! Whoever says something formats it and puts it into a bounded queue; a thread of its own writes. Nobody ever waits for
//! the writer. What does not fit is dropped, DEBUG and TRACE first (from a half full queue on), INFO next (from three
//! quarters on), WARN and ERROR only when nothing fits. Every line has a number, dropped ones too; so the gap in
//! `distfun.seq` shows what is missing, and `distfun.log.dropped` says so as soon as there is room. A line that can't be
//! written (a full disk) is counted and reported likewise.

mod line;
mod queue;

use std::{
    cell::Cell,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use distfun_core::event::SCHEMA;
/// How much is written: [`Json::level`].
pub use tracing::Level;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::LevelFilter,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use crate::layers::Wanted;
use queue::Queue;

/// How long dropping a [`Guard`] waits for the last lines.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Starts a log of JSON lines: to stderr, from INFO on, unless told otherwise.
pub fn json() -> Json {
    Json {
        output: Output::Stderr,
        level: Level::INFO,
        queue: 8192,
        service_name: None,
        service_version: None,
        role: Role::Manager,
        is_minimal: false,
    }
}

/// Settings of a log; see [`json`].
#[must_use = "a builder does nothing until .init() or .build()"]
pub struct Json {
    output: Output,
    level: Level,
    queue: usize,
    service_name: Option<String>,
    service_version: Option<String>,
    role: Role,
    is_minimal: bool,
}

/// What a process is to distfun: [`Json::role`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It calls distributed functions.
    Manager,
    /// It serves others, and does nothing else.
    Node,
}

enum Output {
    Stderr,
    File(PathBuf),
    Writer(Box<dyn Write + Send>),
}

/// A log could not be started.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file can't be written to.
    #[error("the log {} could not be opened for appending", .path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no thread for the writer.
    #[error("the log's thread could not be started")]
    Thread(#[source] io::Error),
    /// Something has set the program's subscriber already.
    #[error("the program has a tracing subscriber already; add the layer of .build() to it instead of calling .init()")]
    AlreadySet,
}

impl Json {
    /// Appends to this file, which is made if it is not there. Several processes may append to one file, each line
    /// stays whole; and it may be truncated while it is written to (logrotate's `copytruncate`). Default: stderr.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.output = Output::File(path.as_ref().to_owned());
        self
    }

    /// Writes to anything. It is called on a thread of its own with whole lines, may block as long as it likes, and may
    /// fail: what it does not take is counted and reported once it takes lines again.
    pub fn writer(mut self, writer: impl Write + Send + 'static) -> Self {
        self.output = Output::Writer(Box::new(writer));
        self
    }

    /// `service.name` on every line. Default: the file name of the executable.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// `service.version` on every line. Default: none.
    pub fn service_version(mut self, version: impl Into<String>) -> Self {
        self.service_version = Some(version.into());
        self
    }

    /// `distfun.role` on every line. Default: [`Role::Manager`].
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// The lowest level that is written, of distfun's events and of all others. Default: INFO, whose volume does not
    /// depend on how many chunks there are. DEBUG has lines for every chunk.
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// How many lines may wait for the writer, at least 16; they take at most 1 KiB of memory each on average. Default:
    /// 8192. Too few lose lines whenever the disk pauses.
    pub fn queue(mut self, lines: usize) -> Self {
        self.queue = lines.max(16);
        self
    }

    /// Says who the service, the host and the process are on the first line only; the others keep
    /// `service.instance.id`.
    pub fn resource_minimal(mut self) -> Self {
        self.is_minimal = true;
        self
    }

    /// Logs this share of all chunks at DEBUG, from 0 to 1, chosen by call and item so that a chunk's start and end go
    /// together. For the whole process. Default: 1.
    pub fn chunk_sampling(self, ratio: f64) -> Self {
        crate::events::set_chunk_sampling(ratio);
        self
    }

    /// The layer, to add to the program's own subscriber, and the guard of its last lines.
    ///
    /// ```
    /// use tracing_subscriber::prelude::*;
    ///
    /// let (layer, _guard) = distfun::log::json().writer(std::io::sink()).build()?;
    /// tracing_subscriber::registry().with(layer).init();
    /// # Ok::<(), distfun::log::LogError>(())
    /// ```
    ///
    /// # Errors
    /// If the file can't be opened or the writer's thread can't be started.
    pub fn build<S>(self) -> Result<(impl Layer<S> + Send + Sync, Guard), LogError>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let (full, short) = self.resource();
        let writer: Box<dyn Write + Send> = match self.output {
            Output::Stderr => Box::new(io::stderr()),
            Output::Writer(writer) => writer,
            Output::File(path) => match File::options().append(true).create(true).open(&path) {
                Ok(file) => Box::new(file),
                Err(source) => return Err(LogError::Open { path, source }),
            },
        };
        let queue = Arc::new(Queue::new(self.queue, full, short));
        queue::start(queue.clone(), writer).map_err(LogError::Thread)?;
        let layer = JsonLayer { sender: Sender(queue.clone()) };
        let level = self.level;
        let is_wanted = move |metadata: &Metadata<'_>| *metadata.level() <= level;
        Ok((layer.with_filter(Wanted { is_wanted, level: LevelFilter::from_level(level) }), Guard { queue }))
    }

    /// Makes this the log of the program, which must have no other `tracing` subscriber.
    ///
    /// # Errors
    /// As [`build`](Self::build), and if there is a subscriber.
    pub fn init(self) -> Result<Guard, LogError> {
        let (layer, guard) = self.build::<Registry>()?;
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)?;
        Ok(guard)
    }

    /// The end of the first line, and of the others, up to their number.
    fn resource(&self) -> (Vec<u8>, Vec<u8>) {
        let boot_id = boot_id();
        let executable = std::env::current_exe().ok();
        let name = executable.as_deref().and_then(Path::file_stem).map(|name| name.to_string_lossy().into_owned());
        let name = self.service_name.clone().or(name).unwrap_or_else(|| "unknown".into());
        let mut short = Vec::new();
        line::text(&mut short, "distfun.schema", SCHEMA);
        line::text(&mut short, "distfun.boot_id", boot_id);
        line::text(&mut short, "distfun.role", if self.role == Role::Node { "node" } else { "manager" });
        line::text(&mut short, "service.instance.id", boot_id);
        let mut full = short.clone();
        line::text(&mut full, "service.name", &name);
        if let Some(version) = &self.service_version {
            line::text(&mut full, "service.version", version);
        }
        line::text(&mut full, "host.name", &gethostname::gethostname().to_string_lossy());
        line::number(&mut full, "process.pid", u64::from(std::process::id()));
        let rest = if self.is_minimal { short } else { full.clone() };
        (full, rest)
    }
}

/// One run of this process.
fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| uuid::Uuid::new_v4().to_string())
}

/// A `tracing` layer that writes lines of JSON.
struct JsonLayer {
    sender: Sender,
}

/// The layer's hold of its queue: the writer's thread ends when the layer is gone and all is written.
struct Sender(Arc<Queue>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.close();
    }
}

thread_local! {
    /// Where this thread puts its lines together.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A longer buffer is not kept for the next line.
const KEPT: usize = 16 << 10;

impl<S: Subscriber> Layer<S> for JsonLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A field that logs while it is formatted, or a thread that is ending, gets a buffer of its own.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        line::write(&mut line, SystemTime::now(), event);
        self.sender.0.push(*event.metadata().level(), &line);
        if line.capacity() <= KEPT {
            let _ = LINE.try_with(|cell| cell.set(line));
        }
    }
}

/// Keeps the last lines: when it is dropped, at the end of `main`, it waits until they are written, at most two seconds.
/// The log goes on without it. Lines that are on their way when a program ends without it (`std::process::exit`, an
/// abort) are lost; that is about the last millisecond.
#[must_use = "dropping the guard at once flushes nothing; keep it until the end of main: let _log = …"]
pub struct Guard {
    queue: Arc<Queue>,
}

impl Guard {
    /// Waits until everything said so far is written, at most this long; says whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        self.queue.flush(within)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush(FLUSH_WITHIN);
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Json").field("level", &self.level).field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}
