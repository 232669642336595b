//! Logs: files, read once or followed through rotation, and standard input; merged by time.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use distfun_core::view::{Line, Time, View};
use serde::Deserialize;

/// A longer line is none of a log.
const LONGEST_LINE: usize = 1 << 20;

/// Some editors put it before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines between two looks at the clock.
const LINES_AT_ONCE: usize = 256;

/// How far the logs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// There is more to read now.
    More,
    /// All that is there now is read; more may come.
    Now,
    /// The time that was asked for.
    Time,
    /// Nothing more will come.
    End,
}

/// By this machine's clock, as those who wrote looked at theirs.
pub(crate) fn wall_clock() -> Time {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Time(since.as_micros() as u64)
}

/// Some logs, as one.
pub(crate) struct Logs {
    sources: Vec<Source>,
    follows: bool,
}

impl Logs {
    /// Opens each of `paths`; `-` is standard input. With `follows`, what is written later is read too.
    ///
    /// # Errors
    /// In words, naming the file that can't be read.
    pub(crate) fn open(paths: &[PathBuf], follows: bool) -> Result<Self, String> {
        let sources = paths.iter().map(|path| Source::open(path)).collect::<Result<_, _>>()?;
        Ok(Self { sources, follows })
    }

    /// Hands lines to `view` in the order of their times, none that is later than `until`, for about as long as `budget`.
    ///
    /// # Errors
    /// In words, naming the file that can't be read any more.
    pub(crate) fn advance(
        &mut self,
        view: &mut View,
        until: Option<Time>,
        budget: Duration,
    ) -> Result<Reached, String> {
        let since = Instant::now();
        loop {
            for _ in 0..LINES_AT_ONCE {
                match self.step(view, until)? {
                    // As much as many lines.
                    Reached::More if self.sources.iter().any(|source| source.pauses) => break,
                    Reached::More => {}
                    reached => return Ok(reached),
                }
            }
            if since.elapsed() >= budget {
                return Ok(Reached::More);
            }
        }
    }

    fn step(&mut self, view: &mut View, until: Option<Time>) -> Result<Reached, String> {
        let follows = self.follows;
        if let ([source], None) = (&mut self.sources[..], until)
            && source.next.is_none()
        {
            // Nothing to compare the time of a line with.
            return Ok(match source.read(follows)? {
                true => {
                    source.hand_over(view);
                    Reached::More
                }
                false if source.pauses => Reached::More,
                false => self.rest(),
            });
        }
        for source in self.sources.iter_mut().filter(|source| source.next.is_none()) {
            while source.next.is_none() && source.read(follows)? {
                match serde_json::from_slice::<At>(&source.line) {
                    Ok(at) => source.next = Some(at.timestamp),
                    Err(_) => {
                        // One after the other, as lines are: there may be many.
                        source.hand_over(view);
                        return Ok(Reached::More);
                    }
                }
            }
            if source.pauses {
                return Ok(Reached::More);
            }
        }
        let first = self.sources.iter_mut().filter(|source| source.next.is_some()).min_by_key(|source| source.next);
        let Some(source) = first else { return Ok(self.rest()) };
        if until.is_some_and(|until| source.next > Some(until)) {
            return Ok(Reached::Time);
        }
        source.hand_over(view);
        Ok(Reached::More)
    }

    fn rest(&self) -> Reached {
        let goes_on = self.sources.iter().any(|source| match &source.path {
            Some(_) => self.follows,
            None => !source.is_over(),
        });
        if goes_on { Reached::Now } else { Reached::End }
    }

    /// The time of the next line, if it is known: [`Reached::Time`] has been told.
    pub(crate) fn next_time(&self) -> Option<Time> {
        self.sources.iter().filter_map(|source| source.next).min()
    }

    /// Bytes that were read, and bytes that there were, of files.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.sources
            .iter()
            .fold((0, 0), |(read, all), source| (read + source.read, all + source.bytes.max(source.read)))
    }
}

/// What a line is sorted by.
#[derive(Deserialize)]
struct At {
    timestamp: Time,
}

struct Source {
    /// None for standard input.
    path: Option<PathBuf>,
    input: BufReader<Input>,
    /// The line that was read last, or its beginning.
    line: Vec<u8>,
    is_whole: bool,
    /// It has no end that was found yet, and is longer than any line.
    is_too_long: bool,
    /// There is more of such a line.
    pauses: bool,
    /// The time of `line`, where it was asked for.
    next: Option<Time>,
    read: u64,
    bytes: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, String> {
        let (input, is_file, bytes) = if path == Path::new("-") {
            (Input::piped(io::stdin()).map_err(|error| format!("standard input: {error}"))?, false, 0)
        } else {
            let failed = |error| format!("the log {} can't be read: {error}", path.display());
            let file = File::open(path).map_err(failed)?;
            let about = file.metadata().map_err(failed)?;
            if about.is_dir() {
                return Err(format!("the log {} is a directory; name the files in it", path.display()));
            }
            // A pipe blocks whoever reads it.
            let input = if about.is_file() { Input::File(file) } else { Input::piped(file).map_err(failed)? };
            (input, about.is_file(), about.len())
        };
        Ok(Self {
            path: is_file.then(|| path.to_owned()),
            input: BufReader::with_capacity(256 << 10, input),
            line: Vec::new(),
            is_whole: true,
            is_too_long: false,
            pauses: false,
            next: None,
            read: 0,
            bytes,
        })
    }

    fn is_over(&self) -> bool {
        matches!(self.input.get_ref(), Input::Pipe { is_over: true, .. })
    }

    /// Reads on; says whether a whole line is there.
    fn read(&mut self, follows: bool) -> Result<bool, String> {
        if self.is_whole {
            self.line.clear();
            (self.is_whole, self.is_too_long) = (false, false);
        }
        self.pauses = false;
        loop {
            let before = self.line.len();
            let read = match (&mut self.input).take(LONGEST_LINE as u64).read_until(b'\n', &mut self.line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let name = self.path.as_ref().map_or("standard input".into(), |path| path.display().to_string());
                    return Err(format!("the log {name} can't be read any more: {error}"));
                }
                Ok(read) => read,
            };
            self.read += read as u64;
            if self.line.last() == Some(&b'\n') {
                self.is_whole = true;
                return Ok(true);
            }
            if self.line.len() >= LONGEST_LINE {
                // Whatever comes to its end, it is no line.
                self.line.clear();
                (self.is_too_long, self.pauses) = (true, true);
                return Ok(false);
            }
            if read > 0 && before + read == self.line.len() {
                continue; // as much as the buffer held
            }
            if follows && self.path.is_some() && self.turn_over() {
                continue;
            }
            // The last line of a file that nobody writes to may lack its end.
            let is_last = !self.line.is_empty() && (self.is_over() || (self.path.is_some() && !follows));
            self.is_whole = is_last;
            return Ok(is_last);
        }
    }

    /// At the end of the file: whether another one has its name now, or it begins anew. What it had is read.
    fn turn_over(&mut self) -> bool {
        let (Some(path), Input::File(file)) = (&self.path, self.input.get_mut()) else { return false };
        // Whatever else has its name now is no log.
        let Some(now) = fs::metadata(path).ok().filter(fs::Metadata::is_file) else { return false };
        let Ok(about) = file.metadata() else { return false };
        if is_other(&now, &about) {
            // Between the last read and now the old one may have grown.
            let is_read = file.stream_position().is_ok_and(|at| at >= about.len());
            let Some(new) = is_read.then(|| File::open(path).ok()).flatten() else { return !is_read };
            *self.input.get_mut() = Input::File(new);
            self.line.clear();
            self.bytes += now.len();
            return true;
        }
        let is_cut = file.stream_position().is_ok_and(|at| about.len() < at);
        if is_cut && file.seek(SeekFrom::Start(0)).is_ok() {
            self.line.clear();
            self.bytes += about.len();
            return true;
        }
        false
    }

    fn hand_over(&mut self, view: &mut View) {
        self.next = None;
        let line = self.line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.line).trim_ascii();
        match line.first() {
            _ if self.is_too_long => view.note_unreadable(),
            None => {}
            // What serde reads of an array is nobody's line.
            Some(b'{') => match serde_json::from_slice::<Line<'_>>(line) {
                Ok(line) => view.apply(&line),
                Err(_) => view.note_unreadable(),
            },
            Some(_) => view.note_unreadable(),
        }
    }
}

#[cfg(unix)]
fn is_other(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) != (other.dev(), other.ino())
}

/// Files have no numbers there: one that is renamed is followed under its new name.
#[cfg(not(unix))]
fn is_other(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    false
}

/// Where bytes come from. None at the moment is as the end of a file.
enum Input {
    File(File),
    /// A thread reads it, and waits where nobody takes what it has read.
    Pipe {
        pieces: Receiver<io::Result<Vec<u8>>>,
        rest: io::Cursor<Vec<u8>>,
        is_over: bool,
    },
}

impl Input {
    fn piped(mut from: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, pieces): (SyncSender<io::Result<Vec<u8>>>, _) = sync_channel(16);
        let read = move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let piece = match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(buffer[..count].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let is_last = piece.is_err();
                if sender.send(piece).is_err() || is_last {
                    return;
                }
            }
        };
        thread::Builder::new().name("distfun-log-in".into()).spawn(read)?;
        Ok(Self::Pipe { pieces, rest: io::Cursor::default(), is_over: false })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Pipe { pieces, rest, is_over } => loop {
                match rest.read(buffer)? {
                    0 => {}
                    count => return Ok(count),
                }
                match pieces.try_recv() {
                    Ok(piece) => *rest = io::Cursor::new(piece?),
                    Err(TryRecvError::Empty) => return Ok(0),
                    Err(TryRecvError::Disconnected) => {
                        *is_over = true;
                        return Ok(0);
                    }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(boot_id: &str, seq: u64, second: u64) -> String {
        format!(
            "{{\"timestamp\":\"2026-01-01T00:00:{second:02}.000000Z\",\"level\":\"WARN\",\"target\":\"t\",\
             \"message\":\"{boot_id}{seq}\",\"distfun.boot_id\":\"{boot_id}\",\"distfun.seq\":{seq}}}\n"
        )
    }

    fn told(view: &View) -> Vec<String> {
        view.story().map(|told| told.text.clone()).collect()
    }

    fn advance(logs: &mut Logs, view: &mut View) -> Reached {
        logs.advance(view, None, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn logs_are_merged_by_time_and_what_is_no_line_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, line("a", 0, 1) + "nonsense\n\n" + &line("a", 1, 4) + line("a", 2, 5).trim_end()).unwrap();
        fs::write(&two, line("b", 0, 2) + &line("b", 1, 3)).unwrap();
        let mut view = View::default();
        let mut logs = Logs::open(&[one, two], false).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::End);
        assert_eq!(told(&view), ["a0", "b0", "b1", "a1", "a2"]);
        assert_eq!(view.losses().unreadable, 1);
    }

    #[test]
    fn a_log_is_read_up_to_a_time_and_on_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let one = dir.path().join("one");
        fs::write(&one, line("a", 0, 1) + &line("a", 1, 2) + &line("a", 2, 9)).unwrap();
        let mut view = View::default();
        let mut logs = Logs::open(&[one], false).unwrap();
        let first = Time(1_767_225_603_000_000);
        assert_eq!(logs.advance(&mut view, Some(first), Duration::from_secs(5)), Ok(Reached::Time));
        assert_eq!(told(&view), ["a0", "a1"]);
        assert_eq!(logs.next_time(), Some(first.after(6.0)));
        assert_eq!(advance(&mut logs, &mut view), Reached::End);
        assert_eq!(told(&view), ["a0", "a1", "a2"]);
    }

    #[test]
    fn a_file_is_followed_while_it_grows_is_replaced_and_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let append =
            |text: &str| File::options().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes());
        let (half, rest) = (line("a", 1, 2), line("a", 1, 2).split_off(20));
        append(&(line("a", 0, 1) + &half[..20])).unwrap();
        let mut view = View::default();
        let mut logs = Logs::open(std::slice::from_ref(&path), true).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        assert_eq!(told(&view), ["a0"], "half a line is none");
        append(&rest).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        assert_eq!(told(&view), ["a0", "a1"]);
        // Written after the rename, by whoever has it open still.
        let mut old = File::options().append(true).open(&path).unwrap();
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        old.write_all(line("a", 2, 3).as_bytes()).unwrap();
        append(&line("a", 3, 4)).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        assert_eq!(told(&view), ["a0", "a1", "a2", "a3"]);
        append(&line("a", 4, 5)).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append(&line("a", 5, 6)).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        assert_eq!(told(&view), ["a0", "a1", "a2", "a3", "a4", "a5"]);
        assert!(view.losses().is_whole());
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_the_next_one_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "x".repeat(5 * LONGEST_LINE) + "\n" + &line("a", 0, 1)).unwrap();
        let mut view = View::default();
        let mut logs = Logs::open(&[path], false).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::End);
        assert_eq!((told(&view), view.losses().unreadable), (vec!["a0".to_owned()], 1));
        assert!(logs.sources[0].line.capacity() < 4 * LONGEST_LINE);
    }

    /// Whoever reads has keys to look at too.
    #[test]
    fn however_much_is_no_log_it_takes_no_longer_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, three) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("three"));
        fs::write(&one, "garbage\n".repeat(100_000)).unwrap();
        fs::write(&two, line("a", 0, 1)).unwrap();
        fs::write(&three, "x".repeat(20 * LONGEST_LINE)).unwrap();
        for paths in [&[one, two][..], &[three]] {
            let mut view = View::default();
            let mut logs = Logs::open(paths, true).unwrap();
            assert_eq!(logs.advance(&mut view, None, Duration::ZERO), Ok(Reached::More), "{paths:?}");
            assert!(view.losses().unreadable <= LINES_AT_ONCE as u64);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_has_the_name_of_a_log_and_is_none_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, line("a", 0, 1)).unwrap();
        let mut view = View::default();
        let mut logs = Logs::open(std::slice::from_ref(&path), true).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        fs::remove_file(&path).unwrap();
        fs::write(&path, line("a", 1, 2)).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::Now);
        assert_eq!(told(&view), ["a0", "a1"]);
    }

    #[test]
    fn an_array_is_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(
            &path,
            "[\"2026-11-28T00:36:24Z\",5,\"b\",\"WARN\",\"t\",\"m\"]\n\u{feff}".to_owned() + &line("a", 0, 1),
        )
        .unwrap();
        let mut view = View::default();
        let mut logs = Logs::open(&[path], false).unwrap();
        assert_eq!(advance(&mut logs, &mut view), Reached::End);
        assert_eq!((told(&view), view.losses().unreadable), (vec!["a0".to_owned()], 1));
    }

    #[test]
    fn a_log_that_can_not_be_read_is_named() {
        let error = |path: &Path| Logs::open(&[path.to_owned()], true).map(|_| ()).unwrap_err();
        let dir = tempfile::tempdir().unwrap();
        assert!(error(&dir.path().join("missing.ndjson")).contains("missing.ndjson can't be read: "));
        assert!(error(dir.path()).ends_with("is a directory; name the files in it"));
    }
}
