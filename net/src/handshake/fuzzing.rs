//! A door to the machine, for `fuzz/` only.
//!
//! With a nonce of the caller's choice a conversation is the same every time, so that a fuzzer can learn from it.

use std::io;

use super::{
    HandshakeError, Hello, ManagerHello, Trust,
    hello::{BUILD, Mode},
    machine::{Cut, Machine, Me},
    proof::Key,
};

/// One side of a handshake, without I/O.
pub struct Party(Machine);

/// What takes the place of bytes.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// The other side closes.
    Closed,
    /// Reading fails.
    Failed,
    /// The time is over.
    TimedOut,
    /// The place is given to another.
    Evicted,
}

impl Party {
    /// A Manager.
    #[must_use]
    pub fn manager(trust: &Trust, nonce: [u8; 32], hello: &Hello) -> Self {
        Self(Machine::manager(me(trust, nonce), hello))
    }

    /// A node.
    #[must_use]
    pub fn node(trust: &Trust, nonce: [u8; 32]) -> Self {
        Self(Machine::node(me(trust, nonce)))
    }

    /// What to send now.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.0.take_output()
    }

    /// How it ended, once all is sent.
    pub fn take_outcome(&mut self) -> Option<Result<ManagerHello, HandshakeError>> {
        let met = self.0.take_outcome()?;
        Some(met.map(|met| ManagerHello {
            build: met.build,
            instance: met.instance,
            program: met.program,
            machine: None,
        }))
    }

    /// The most that may be read now.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.0.wanted()
    }

    /// Takes what was read, at most as much as was wanted.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// No more will come.
    pub fn end(&mut self, end: End) {
        match end {
            End::Closed => self.0.ended(),
            End::Failed => self.0.failed(io::ErrorKind::TimedOut.into()),
            End::TimedOut => self.0.cut(Cut::TimedOut),
            End::Evicted => self.0.cut(Cut::Evicted),
        }
    }
}

fn me(trust: &Trust, nonce: [u8; 32]) -> Me {
    Me {
        version: crate::VERSION,
        build: BUILD.to_owned(),
        nonce,
        mode: Mode::of(trust),
        key: Key::new(trust),
        peer: "bob".to_owned(),
    }
}
