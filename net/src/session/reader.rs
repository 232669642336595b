//! From bytes to messages.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use distfun_core::payload::Spares;

use super::{Incoming, SessionError, SessionLimits, assembly::Assembly, may_begin, weight};
use crate::{
    frame::{self, HEADER_BYTES, Header, Kind},
    message::{Message, SectionHeader},
};

/// Read at once when messages come: some thousand small ones.
const BUFFER_BYTES: usize = 64 << 10;

/// Read at once when the next bytes are probably those of a large section: all that comes behind its header is copied.
const SIP_BYTES: usize = 4 << 10;

/// The side of a session that reads.
#[derive(Debug)]
pub struct Reader {
    limits: SessionLimits,
    /// What the peer sent and this side has not let go of; shared with the writer, which gives credit.
    held: Arc<AtomicU64>,
    /// Headers, messages and small sections; what is not taken yet lies in `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    state: State,
    unfinished: HashMap<u64, Box<Assembly>>,
    last_stream: u64,
    /// The next bytes are probably those of a large section.
    sips: bool,
    finished: VecDeque<Incoming>,
    heard: Heard,
    spares: Weak<Mutex<Spares>>,
}

/// What the next bytes are.
#[derive(Debug)]
enum State {
    Header,
    Control(Header),
    Piece { stream: u64, left: usize, assembly: Box<Assembly> },
}

/// What the reading side learnt that the writing side has to know. Of several questions only the last is answered, so a
/// peer that asks all the time fills nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use = "the writer answers pings and spends credit"]
pub struct Heard {
    /// Something came: the peer is alive.
    pub(super) anything: bool,
    pub(super) ping: Option<u64>,
    pub(super) pong: Option<u64>,
    pub(super) credit: u64,
    /// Weight of messages that the peer abandoned.
    pub(super) abandoned: u64,
}

impl Reader {
    pub(super) fn new(limits: SessionLimits, held: Arc<AtomicU64>) -> Self {
        Self {
            limits,
            held,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            state: State::Header,
            unfinished: HashMap::new(),
            last_stream: 0,
            sips: false,
            finished: VecDeque::new(),
            heard: Heard::default(),
            spares: Weak::new(),
        }
    }

    /// Reads large sections of the messages that come into memory of these, as long as somebody has them.
    pub fn read_into(&mut self, spares: Weak<Mutex<Spares>>) {
        self.spares = spares;
    }

    /// The place for the next bytes: never empty. A large section's bytes go to where they stay.
    pub fn incoming(&mut self) -> &mut [u8] {
        if self.direct().is_some()
            && let State::Piece { left, assembly, .. } = &mut self.state
        {
            return assembly.room(*left);
        }
        let until = if self.sips { (self.end + SIP_BYTES).min(self.buffer.len()) } else { self.buffer.len() };
        &mut self.buffer[self.end..until]
    }

    /// Takes note of `bytes` that were put where [`incoming`](Self::incoming) said. What they complete is
    /// [`next`](Self::next).
    ///
    /// # Errors
    /// The bytes are none that a peer of this version sends, or there is no memory for them. The session is over.
    pub fn received(&mut self, bytes: usize) -> Result<(), SessionError> {
        let bytes = bytes.min(self.incoming().len());
        self.heard.anything |= bytes > 0;
        if let Some((left, assembly)) = self.direct() {
            assembly.filled(bytes);
            *left -= bytes;
            self.end_piece();
        } else {
            self.end += bytes;
        }
        while self.take_next()? {}
        self.prepare()
    }

    /// The next message that is complete. To be asked until there is none: what is not taken fills memory.
    // Not an iterator: it goes on after `None`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Incoming> {
        self.finished.pop_front()
    }

    /// What the writer has to know of all that was received since the last time.
    pub fn take_heard(&mut self) -> Heard {
        std::mem::take(&mut self.heard)
    }

    /// What the next bytes go to, if that is a section: how much is left of the piece, and its message.
    fn direct(&mut self) -> Option<(&mut usize, &mut Assembly)> {
        match &mut self.state {
            State::Piece { left, assembly, .. } if self.start == self.end && assembly.is_direct() => {
                Some((left, assembly))
            }
            _ => None,
        }
    }

    /// Takes what is complete, or all that belongs to a piece, off the buffer; false if more has to come first.
    fn take_next(&mut self) -> Result<bool, SessionError> {
        let there = &self.buffer[self.start..self.end];
        match &mut self.state {
            State::Header => {
                let Some(header) = there.first_chunk::<HEADER_BYTES>() else { return Ok(false) };
                let header = Header::parse(*header)?;
                self.start += HEADER_BYTES;
                match header.kind {
                    Kind::Control => {
                        self.sips = false;
                        self.state = State::Control(header);
                    }
                    Kind::Piece => self.begin_piece(header)?,
                }
            }
            State::Control(header) => {
                let Some(bytes) = there.get(..header.bytes as usize) else { return Ok(false) };
                let stream = header.stream;
                let (message, sections) = frame::decode(stream, bytes)?;
                let frame_bytes = HEADER_BYTES + bytes.len();
                self.start += bytes.len();
                self.state = State::Header;
                self.take_message(message, sections, stream, frame_bytes)?;
            }
            State::Piece { left, assembly, .. } => {
                let bytes = &there[..there.len().min(*left)];
                if bytes.is_empty() {
                    return Ok(false);
                }
                assembly.push(bytes)?;
                self.start += bytes.len();
                *left -= bytes.len();
                self.end_piece();
            }
        }
        Ok(true)
    }

    fn take_message(
        &mut self,
        message: Message,
        headers: Vec<SectionHeader>,
        stream: u64,
        frame_bytes: usize,
    ) -> Result<(), SessionError> {
        if stream == 0 {
            match message {
                Message::Ping { sent_us } => self.heard.ping = Some(sent_us),
                Message::Pong { sent_us } => self.heard.pong = Some(sent_us),
                Message::Credit { bytes } => self.heard.credit = self.heard.credit.saturating_add(bytes),
                message => self.finished.push_back(Incoming { message, sections: Vec::new(), bytes: 0 }),
            }
            return Ok(());
        }
        if stream <= self.last_stream {
            return Err(SessionError::StreamNotNew { stream, last: self.last_stream });
        }
        self.last_stream = stream;
        let bytes = headers
            .iter()
            .try_fold(0u64, |sum, header| header.count.checked_mul(header.element.size() as u64)?.checked_add(sum))
            .unwrap_or(u64::MAX);
        let max_item_bytes = self.limits.max_item_bytes.min(isize::MAX as u64);
        if bytes > max_item_bytes {
            return Err(SessionError::ItemTooLarge { bytes, max_item_bytes });
        }
        let weight = weight(frame_bytes, headers.len(), bytes).unwrap_or(u64::MAX);
        let held = self.held.load(Relaxed);
        if !may_begin(held, weight, self.limits.window_bytes) {
            return Err(SessionError::CreditExceeded { weight, held, window_bytes: self.limits.window_bytes });
        }
        // Only this side adds, so what was seen can only have become less.
        self.held.fetch_add(weight, Relaxed);
        self.sips = bytes >= BUFFER_BYTES as u64;
        let assembly = Box::new(Assembly::new(message, headers, bytes, weight, self.spares.clone()));
        self.put_back(stream, assembly);
        Ok(())
    }

    fn begin_piece(&mut self, header: Header) -> Result<(), SessionError> {
        let Header { stream, bytes, .. } = header;
        let assembly = self.unfinished.remove(&stream).ok_or(SessionError::StreamNotOpen { stream, bytes })?;
        if bytes == 0 {
            self.heard.abandoned += assembly.weight();
            return Ok(());
        }
        let left = assembly.left();
        if u64::from(bytes) > left {
            return Err(SessionError::PieceTooLong { stream, bytes, left });
        }
        self.sips = bytes as usize >= BUFFER_BYTES;
        self.state = State::Piece { stream, left: bytes as usize, assembly };
        Ok(())
    }

    /// Leaves a piece that is all there.
    fn end_piece(&mut self) {
        if matches!(self.state, State::Piece { left: 0, .. })
            && let State::Piece { stream, assembly, .. } = std::mem::replace(&mut self.state, State::Header)
        {
            self.put_back(stream, assembly);
        }
    }

    fn put_back(&mut self, stream: u64, assembly: Box<Assembly>) {
        if assembly.left() == 0 {
            self.finished.push_back(assembly.finish());
        } else {
            self.unfinished.insert(stream, assembly);
        }
    }

    /// Makes a place for the next bytes.
    fn prepare(&mut self) -> Result<(), SessionError> {
        // What is left is the beginning of something: short, unless it is a long message, which is moved once.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match &mut self.state {
            State::Piece { assembly, .. } => assembly.make_room(),
            State::Control(header) if self.end == self.buffer.len() => {
                // Twice what has arrived, so that a length alone takes no memory.
                let wants = (2 * self.end).min(header.bytes as usize);
                self.buffer
                    .try_reserve(wants - self.end)
                    .map_err(|_| SessionError::OutOfMemory { bytes: wants as u64 })?;
                self.buffer.resize(wants, 0);
                Ok(())
            }
            _ => {
                if self.end == 0 && self.buffer.len() > BUFFER_BYTES {
                    self.buffer.truncate(BUFFER_BYTES);
                    self.buffer.shrink_to_fit();
                }
                Ok(())
            }
        }
    }
}

impl Heard {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
