//! One side of a handshake, without I/O: bytes go in and come out, time is the caller's.

use std::{io, mem};

use super::{
    Certified, HandshakeError, Hello, MAX_HANDSHAKE_BYTES, MAX_PROGRAM_BYTES, Refusal, Side, Trust,
    hello::{BUILD, Greeting, MAX_REASON_BYTES, Mode, Nonce, Opening, build_of, framed, prefix, printable, refused},
    preamble::{MAGIC, MAX_HELLO_BYTES, PREAMBLE_BYTES, Preamble},
    proof::{Key, Proof},
};
use crate::identity::random_bytes;

/// Comes before a proof, and is the node's consent. Any other byte there is the code of a refusal.
const GO_ON: u8 = 0;

/// As much of something foreign as is shown.
const MAX_SAID_BYTES: usize = 64;

/// What a node says to something that is no distfun.
const TO_FOREIGNERS: &[u8] = b"distfun: this port is for distfun managers only\r\n";

const PROOF_BYTES: usize = size_of::<Proof>();

/// Who we are.
pub(super) struct Me {
    pub(super) version: u16,
    pub(super) build: String,
    pub(super) nonce: Nonce,
    pub(super) mode: Mode,
    pub(super) key: Key,
    /// The other side, for errors.
    pub(super) peer: String,
}

impl Me {
    pub(super) fn new(trust: &Trust, peer: String) -> Result<Self, HandshakeError> {
        match random_bytes() {
            Ok(nonce) => Ok(Self {
                version: crate::VERSION,
                build: BUILD.to_owned(),
                nonce,
                mode: Mode::of(trust),
                key: Key::new(trust),
                peer,
            }),
            Err(cause) => Err(HandshakeError::Io { peer, cause }),
        }
    }
}

/// What the other side has said, once it has proved itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) build: String,
    pub(super) instance: [u8; 16],
    pub(super) program: String,
    /// What TLS says.
    pub(super) machine: Option<Certified>,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expecting {
    Preamble,
    /// As announced.
    Hello(Preamble),
    /// [`GO_ON`], or the code of a refusal.
    Code,
    Proof,
    ReasonLength {
        code: u8,
    },
    Reason {
        code: u8,
        bytes: usize,
    },
    /// The rest of a line from something that is no distfun.
    Line,
    Nothing,
}

/// Why there is no more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    TimedOut,
    /// Its place was given to another.
    Evicted,
}

/// One side of a handshake.
///
/// The caller writes what [`take_output`](Self::take_output) gives, reads at most [`wanted`](Self::wanted) bytes,
/// [`feed`](Self::feed)s them, and does so again until there is an outcome. Its last words come with the outcome.
pub(super) struct Machine {
    side: Side,
    me: Me,
    expecting: Expecting,
    /// The bytes of what is expected, as far as they have come.
    buffer: Vec<u8>,
    read_bytes: usize,
    output: Vec<u8>,
    /// Our hello, as sent. Empty until then.
    own: Vec<u8>,
    /// Its hello, as read.
    theirs: Vec<u8>,
    met: Met,
    outcome: Option<Result<Met, HandshakeError>>,
    /// What we said last did not arrive.
    unsent: Option<io::Error>,
    /// It began without TLS where that is a must: it is heard for what it is, and then sent away.
    needs_tls: bool,
}

impl Machine {
    pub(super) fn manager(me: Me, hello: &Hello) -> Self {
        let program = prefix(&hello.program, MAX_PROGRAM_BYTES);
        let opening = Opening::Manager { mode: me.mode, nonce: me.nonce, instance: hello.instance, program };
        let own = Greeting { build: &me.build, opening }.bytes();
        let output = framed(me.version, &own);
        Self { own, output, ..Self::new(Side::Manager, me) }
    }

    pub(super) fn node(me: Me) -> Self {
        Self::new(Side::Node, me)
    }

    fn new(side: Side, me: Me) -> Self {
        Self {
            side,
            me,
            expecting: Expecting::Preamble,
            buffer: Vec::new(),
            read_bytes: 0,
            output: Vec::new(),
            own: Vec::new(),
            theirs: Vec::new(),
            met: Met::default(),
            outcome: None,
            unsent: None,
            needs_tls: false,
        }
    }

    /// What was read of a peer that should have begun with TLS. Whatever it says, it is sent away; and a Manager says
    /// nothing.
    #[cfg(feature = "tls")]
    pub(super) fn without_tls(&mut self, mut bytes: &[u8]) {
        self.needs_tls = true;
        self.output.clear();
        while !bytes.is_empty() && self.wanted() > 0 {
            let (now, later) = bytes.split_at(self.wanted().min(bytes.len()));
            self.feed(now);
            bytes = later;
        }
    }

    /// What to send now.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.output)
    }

    /// How it ended, once all is sent.
    pub(super) fn take_outcome(&mut self) -> Option<Result<Met, HandshakeError>> {
        if self.output.is_empty() { self.outcome.take() } else { None }
    }

    /// The most that may be read now. Never a byte that does not belong to the handshake; 0 when it is over.
    pub(super) fn wanted(&self) -> usize {
        self.expected_bytes().saturating_sub(self.buffer.len())
    }

    /// The other side is no distfun; all that is wanted is how it calls itself.
    pub(super) fn is_foreign(&self) -> bool {
        self.expecting == Expecting::Line
    }

    /// Takes what was read, at most as much as was wanted.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.read_bytes += bytes.len();
        self.buffer.extend(bytes);
        if self.expecting == Expecting::Preamble && !self.buffer.iter().zip(MAGIC).all(|(got, due)| *got == due) {
            if self.side == Side::Node {
                self.output.extend(TO_FOREIGNERS);
            }
            self.expecting = Expecting::Line;
        }
        let is_line = self.is_foreign() && self.buffer.contains(&b'\n');
        if self.expecting != Expecting::Nothing && (is_line || self.wanted() == 0) {
            let bytes = mem::take(&mut self.buffer);
            self.came(&bytes);
        }
    }

    /// The other side sends no more.
    pub(super) fn ended(&mut self) {
        let closed = match self.unsent.take() {
            Some(cause) if !is_closed(&cause) => HandshakeError::Io { peer: self.me.peer.clone(), cause },
            _ => self.closed(),
        };
        self.cut_off(closed);
    }

    fn closed(&self) -> HandshakeError {
        HandshakeError::Closed { peer: self.me.peer.clone(), has_begun: self.read_bytes > 0 }
    }

    /// Reading failed.
    pub(super) fn failed(&mut self, cause: io::Error) {
        if is_closed(&cause) {
            return self.ended();
        }
        self.cut_off(HandshakeError::Io { peer: self.me.peer.clone(), cause });
    }

    /// Writing failed: whatever comes next decides, as it may say why.
    pub(super) fn not_written(&mut self, cause: io::Error) {
        match &self.outcome {
            None => self.unsent = Some(cause),
            // The other side does not know that we consent.
            Some(Ok(_)) if is_closed(&cause) => self.fail(self.closed()),
            Some(Ok(_)) => self.fail(HandshakeError::Io { peer: self.me.peer.clone(), cause }),
            Some(Err(_)) => {}
        }
    }

    /// Ends it before it is over.
    pub(super) fn cut(&mut self, cut: Cut) {
        self.output.clear();
        if matches!(self.outcome, Some(Err(_))) {
            return;
        }
        let (peer, wanted) = (self.me.peer.clone(), self.side.other());
        let (refusal, error) = match cut {
            Cut::TimedOut => (Refusal::TooSlow, HandshakeError::TimedOut { peer, wanted }),
            Cut::Evicted => (Refusal::Busy, HandshakeError::Evicted { peer }),
        };
        if self.side == Side::Node && !self.is_foreign() && !self.is_other_version() {
            self.say(refusal);
        }
        self.cut_off(error);
    }

    /// It has been told so, and is heard for the name of its build only.
    fn is_other_version(&self) -> bool {
        matches!(self.expecting, Expecting::Hello(preamble) if preamble.version != self.me.version)
    }

    fn expected_bytes(&self) -> usize {
        match self.expecting {
            Expecting::Preamble => PREAMBLE_BYTES,
            Expecting::Hello(preamble) => preamble.size.into(),
            Expecting::Code | Expecting::ReasonLength { .. } => 1,
            Expecting::Proof => PROOF_BYTES,
            Expecting::Reason { bytes, .. } => bytes,
            Expecting::Line => MAX_SAID_BYTES,
            Expecting::Nothing => 0,
        }
    }

    /// Goes on, now that all that was expected is there.
    fn came(&mut self, bytes: &[u8]) {
        match self.expecting {
            Expecting::Preamble => self.preamble_came(bytes),
            Expecting::Hello(preamble) if preamble.version != self.me.version => {
                self.fail(self.other_version(preamble, bytes));
            }
            Expecting::Hello(_) => self.hello_came(bytes),
            Expecting::Code => match (bytes, self.side) {
                ([GO_ON], Side::Manager) => self.succeed(),
                ([GO_ON], Side::Node) => self.expect(Expecting::Proof),
                ([code, ..], _) => self.expect(Expecting::ReasonLength { code: *code }),
                ([], _) => {}
            },
            Expecting::Proof => self.proof_came(bytes),
            Expecting::ReasonLength { code } => {
                match bytes.first().map(|length| usize::from(*length)).filter(|length| *length <= MAX_REASON_BYTES) {
                    Some(0) => self.was_refused(code, ""),
                    Some(bytes) => self.expect(Expecting::Reason { code, bytes }),
                    None => self.malformed("its refusal can't be read"),
                }
            }
            Expecting::Reason { code, .. } => self.was_refused(code, &String::from_utf8_lossy(bytes)),
            Expecting::Line => self.fail(self.foreign(bytes)),
            Expecting::Nothing => {}
        }
    }

    /// The only place where a peer says how much it will send.
    fn expect(&mut self, expecting: Expecting) {
        self.expecting = expecting;
        if self.read_bytes + self.expected_bytes() > MAX_HANDSHAKE_BYTES {
            self.refuse(
                Refusal::Unreadable,
                HandshakeError::TooLong { peer: self.me.peer.clone(), bytes: self.expected_bytes() },
            );
        }
    }

    fn preamble_came(&mut self, bytes: &[u8]) {
        let Some(preamble) = bytes.try_into().ok().and_then(Preamble::read) else {
            return self.fail(self.foreign(bytes));
        };
        let is_other_version = preamble.version != self.me.version;
        // It is told before anything else is read of it.
        if is_other_version && self.side == Side::Node {
            self.say(Refusal::Version);
        }
        if is_other_version && !(1..=MAX_HELLO_BYTES).contains(&preamble.size.into()) {
            return self.fail(self.other_version(preamble, &[]));
        }
        if preamble.size == 0 {
            return self.malformed("its hello is empty");
        }
        self.expect(Expecting::Hello(preamble));
    }

    fn hello_came(&mut self, bytes: &[u8]) {
        let Some(greeting) = Greeting::read(bytes) else {
            return self.malformed("its hello can't be read");
        };
        bytes.clone_into(&mut self.theirs);
        self.met.build = printable(greeting.build, greeting.build.len());
        match (greeting.opening, self.side) {
            (Opening::Refused { code, reason }, Side::Manager) => self.was_refused(code, reason),
            (Opening::Manager { .. } | Opening::Node { .. }, _) if self.needs_tls => {
                let (peer, wanted) = (self.me.peer.clone(), self.side.other());
                self.refuse(Refusal::NeedsTls, HandshakeError::WithoutTls { peer, wanted });
            }
            (Opening::Manager { mode, .. } | Opening::Node { mode, .. }, _) if mode != self.me.mode => {
                self.refuse(Refusal::TrustDiffers, HandshakeError::TrustDiffers { peer: self.me.peer.clone() });
            }
            (Opening::Manager { instance, program, .. }, Side::Node) => {
                self.met.instance = instance;
                self.met.program = printable(program, MAX_PROGRAM_BYTES);
                self.answer();
            }
            (Opening::Node { proof, .. }, Side::Manager) => self.check_node(proof),
            (Opening::Manager { .. }, Side::Manager) => {
                self.malformed("it is a manager too, or sends back what it is sent");
            }
            (Opening::Node { .. }, Side::Node) => self.malformed("it is a node too, or sends back what it is sent"),
            (Opening::Refused { .. }, Side::Node) => self.malformed("it refuses what it has not been offered"),
        }
    }

    /// The node's hello, with its proof.
    fn answer(&mut self) {
        let opening = Opening::Node { mode: self.me.mode, nonce: self.me.nonce, proof: [0; PROOF_BYTES] };
        let mut own = Greeting { build: &self.me.build, opening }.bytes();
        own.truncate(own.len() - PROOF_BYTES);
        let proof = self.me.key.prove(Side::Node, self.me.version, &self.theirs, &own);
        own.extend(proof);
        self.output.extend(framed(self.me.version, &own));
        self.own = own;
        self.expect(Expecting::Code);
    }

    /// The Manager's view of the node's proof, and its own.
    fn check_node(&mut self, proof: Proof) {
        let (Me { key, version, .. }, node) = (&self.me, &self.theirs);
        let unproved = node.len().saturating_sub(PROOF_BYTES);
        if !key.is_proved(&proof, Side::Node, *version, &self.own, &node[..unproved]) {
            return self.unproved();
        }
        let proof = key.prove(Side::Manager, *version, &self.own, node);
        self.output.push(GO_ON);
        self.output.extend(proof);
        self.expect(Expecting::Code);
    }

    fn proof_came(&mut self, proof: &[u8]) {
        let Me { key, version, .. } = &self.me;
        if !key.is_proved(proof, Side::Manager, *version, &self.theirs, &self.own) {
            return self.unproved();
        }
        self.output.push(GO_ON);
        self.succeed();
    }

    fn succeed(&mut self) {
        self.expecting = Expecting::Nothing;
        self.outcome = Some(Ok(mem::take(&mut self.met)));
    }

    fn unproved(&mut self) {
        let peer = self.me.peer.clone();
        let error = match self.me.mode {
            Mode::Cookie => HandshakeError::WrongCookie { peer },
            Mode::PeerChecked | Mode::Certificates => {
                HandshakeError::Malformed { peer, what: "its proof is about something else" }
            }
        };
        self.refuse(Refusal::WrongCookie, error);
    }

    fn was_refused(&mut self, code: u8, reason: &str) {
        let peer = self.me.peer.clone();
        let is = |refusal: Refusal| code == refusal.code();
        self.fail(if is(Refusal::WrongCookie) && self.me.mode == Mode::Cookie {
            HandshakeError::WrongCookie { peer }
        } else if is(Refusal::TrustDiffers) {
            HandshakeError::TrustDiffers { peer }
        } else if reason.is_empty() {
            HandshakeError::Refused { peer, reason: format!("code {code}, without a reason") }
        } else {
            HandshakeError::Refused { peer, reason: printable(reason, MAX_REASON_BYTES) }
        });
    }

    fn malformed(&mut self, what: &'static str) {
        self.refuse(Refusal::Unreadable, HandshakeError::Malformed { peer: self.me.peer.clone(), what });
    }

    fn refuse(&mut self, refusal: Refusal, error: HandshakeError) {
        self.say(refusal);
        self.fail(error);
    }

    /// In the place of what the other side waits for: our hello, or what follows it.
    fn say(&mut self, refusal: Refusal) {
        if self.own.is_empty() {
            self.output.extend(refused(self.me.version, &self.me.build, refusal));
        } else {
            let text = refusal.text();
            self.output.extend([refusal.code(), text.len() as u8]);
            self.output.extend(text.as_bytes());
        }
    }

    fn fail(&mut self, error: HandshakeError) {
        self.expecting = Expecting::Nothing;
        self.buffer.clear();
        self.outcome = Some(Err(error));
    }

    /// No more will come: what came so far may say more than that.
    fn cut_off(&mut self, otherwise: HandshakeError) {
        let error = match self.expecting {
            Expecting::Line => self.foreign(&self.buffer),
            Expecting::Hello(preamble) if preamble.version != self.me.version => {
                self.other_version(preamble, &self.buffer)
            }
            _ => otherwise,
        };
        self.fail(error);
    }

    fn other_version(&self, preamble: Preamble, hello: &[u8]) -> HandshakeError {
        HandshakeError::Version {
            peer: self.me.peer.clone(),
            ours: self.me.version,
            our_build: self.me.build.clone(),
            theirs: preamble.version,
            their_build: build_of(hello),
        }
    }

    fn foreign(&self, bytes: &[u8]) -> HandshakeError {
        if self.needs_tls && bytes.starts_with(b"distfun: ") {
            return HandshakeError::WithoutTls { peer: self.me.peer.clone(), wanted: self.side.other() };
        }
        // Records of TLS begin with their kind, a handshake or an alert, and a version of SSL 3 or later.
        let said = match bytes {
            [0x15 | 0x16, 0x03, ..] => "a TLS record".to_owned(),
            _ => {
                let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
                printable(String::from_utf8_lossy(line).trim_end(), MAX_SAID_BYTES)
            }
        };
        HandshakeError::NotDistfun { peer: self.me.peer.clone(), wanted: self.side.other(), said }
    }
}

/// The kinds by which systems say that the other side is gone.
pub(super) fn is_closed(cause: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(cause.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}
