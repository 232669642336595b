//! What a host process writes to its stdout and stderr, line by line.

use std::{
    collections::VecDeque,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
};

/// A line that is longer is told in parts.
const MAX_LINE: usize = 8 << 10;

/// How much of the end is kept, to say why a process died.
const TAIL: usize = 4 << 10;

/// One of the two, as far as it has been read.
#[derive(Debug)]
pub(crate) struct Output<R> {
    pipe: Option<R>,
    /// The beginning of a line.
    line: Vec<u8>,
    tail: VecDeque<u8>,
}

impl<R: Read + AsFd> Output<R> {
    /// Never waits from now on.
    pub(crate) fn new(pipe: R) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: Some(pipe), line: Vec::new(), tail: VecDeque::new() })
    }

    /// Where more may come from; none at its end.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what there is and gives whole lines to `tell`.
    pub(crate) fn read(&mut self, mut tell: impl FnMut(&str)) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.take(&buffer[..count], &mut tell),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.pipe = None,
            }
        }
        self.finish(tell);
    }

    fn take(&mut self, bytes: &[u8], tell: &mut impl FnMut(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
            }
            if byte == b'\n' || self.line.len() >= MAX_LINE {
                self.tell_line(tell);
            }
        }
    }

    fn tell_line(&mut self, tell: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end_matches('\r');
        if !is_of_backtrace(line) {
            self.tail.extend(line.bytes().chain([b'\n']));
            self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        }
        tell(line);
        self.line.clear();
    }

    /// Tells also a last line that has no end.
    fn finish(&mut self, mut tell: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.tell_line(&mut tell);
        }
    }

    /// What came so far was not worth telling.
    pub(crate) fn forget(&mut self) {
        self.line.clear();
        self.tail.clear();
    }

    /// The end of all that came, as text.
    pub(crate) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().chain(&self.line).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.trim_start_matches(char::REPLACEMENT_CHARACTER).trim().to_owned()
    }
}

/// Whether a line is one of those by which a panic tells where it was, which would leave no room for what it says.
fn is_of_backtrace(line: &str) -> bool {
    let text = line.trim_start();
    let is_frame = || text.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    let is_noted = || text.starts_with("note: ") && text.contains("RUST_BACKTRACE");
    text == "stack backtrace:" || is_noted() || text.len() < line.len() && (text.starts_with("at ") || is_frame())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_told_when_they_end_and_the_tail_is_kept() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new(reader).unwrap();
        let mut lines = Vec::new();
        writer.write_all(b"one\ntw").unwrap();
        output.read(|line| lines.push(line.to_owned()));
        writer.write_all(b"o\r\n\xff\x00last").unwrap();
        output.read(|line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two"]);
        drop(writer);
        output.read(|line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two", "\u{fffd}\0last"]);
        assert!(output.tail().ends_with("last") && output.pipe().is_none());
    }

    #[test]
    fn last_words_are_words() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new(reader).unwrap();
        let frames = "stack backtrace:\n   0: core::panicking::panic\n             at ./src/main.rs:3:4\n".repeat(100);
        let all =
            format!("thread 'main' panicked:\nnote: run with `RUST_BACKTRACE=1` environment\n{frames}at last 1: two\n");
        let write = std::thread::spawn(move || writer.write_all(all.as_bytes()));
        let mut told = 0;
        while output.pipe().is_some() {
            output.read(|_| told += 1);
        }
        write.join().unwrap().unwrap();
        assert_eq!((told, &*output.tail()), (303, "thread 'main' panicked:\nat last 1: two"));
    }

    #[test]
    fn endless_lines_and_endless_output_take_bounded_memory() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut output = Output::new(reader).unwrap();
        let mut told = 0;
        for _ in 0..100 {
            writer.write_all(&[b'x'; 4096]).unwrap();
            output.read(|line| told += line.len());
        }
        assert!(told >= 99 * 4096 - MAX_LINE && output.tail().len() <= TAIL && output.line.len() < MAX_LINE);
    }
}
