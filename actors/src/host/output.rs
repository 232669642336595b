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
        self.tail.extend(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
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
        tell(String::from_utf8_lossy(&self.line).trim_end_matches('\r'));
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
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.trim_start_matches(char::REPLACEMENT_CHARACTER).trim().to_owned()
    }
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
