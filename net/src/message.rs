//! What managers and nodes say to each other, once each knows who the other is.
//!
//! Every message is one control frame: postcard, at most [`MAX_CONTROL_BYTES`](crate::frame::MAX_CONTROL_BYTES), without
//! trailing bytes. Large values follow it as bulk sections. No type here is recursive, and none has elements without
//! size. New variants come last; a change of those that are there raises [`VERSION`](crate::VERSION).

use distfun_core::{gpu::GpuInfo, shared_data::ElementType};
use serde::{Deserialize, Serialize};

/// BLAKE3 of a blob's bytes: its name.
pub type Digest = [u8; 32];

/// Identifies a function's kind, argument and result types.
pub type Fingerprint = [u8; 16];

/// A call, by the number that its Manager gave it.
pub type CallNumber = u64;

/// A place for one chunk at a node, by the number that the Manager gave it.
pub type Lane = u32;

/// Counts the chunks of a lane, so that a late answer can be told from the one that is waited for.
pub type Turn = u32;

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Either side, every half second, and whenever it wants to know the round trip. Answered by `Pong` at once. Lost
    /// with the connection only.
    Ping {
        /// By the sender's clock, from an origin of its own.
        sent_us: u64,
    },
    /// The answer to `Ping`.
    Pong {
        /// As in the `Ping`.
        sent_us: u64,
    },
    /// From who has let go of bulk sections: the other side may send that many bytes more.
    Credit {
        /// Of sections.
        bytes: u64,
    },
    /// The last message of a session, from either side; it says why.
    Goodbye {
        /// For people.
        reason: String,
    },
    /// From a node, first of all.
    Welcome(Welcome),
    /// From a Manager, before the first chunk of a call.
    Call(Call),
    /// From a Manager: the call has ended; what still runs of it is not wanted, each chunk is answered as returned.
    CallEnded {
        /// The call.
        call: CallNumber,
        /// It ran out of time: a thread that does not come back from one of its items is replaced.
        overdue: bool,
    },
    /// From a Manager: items to compute, in sections and head.
    Chunk(Chunk),
    /// From a Manager: the chunk is wanted back, unless it has begun. Answered by `Done` in any case, once.
    Recall {
        /// Where the chunk is.
        lane: Lane,
        /// Which one.
        turn: Turn,
    },
    /// From a node: a chunk is over; its results, in sections and head. Exactly one for each `Chunk`.
    Done(Done),
    /// From a node: it can't run this call; chunks of it are answered as returned.
    Refused {
        /// The call.
        call: CallNumber,
        /// Why.
        refusal: Refusal,
    },
    /// From a node, to a call whose shared data it does not have: send it, from this byte on.
    BlobWanted {
        /// Which.
        digest: Digest,
        /// Bytes that it has from an earlier try.
        offset: u64,
    },
    /// From a Manager: some bytes of a blob, as one section.
    BlobPiece {
        /// Which.
        digest: Digest,
        /// Where they belong.
        offset: u64,
        /// Size of the whole blob.
        total: u64,
    },
    /// From a node: the blob is there and is what its name says.
    BlobThere {
        /// Which.
        digest: Digest,
    },
    /// From a node that is about to stop: chunks it has are computed, new ones are answered as returned.
    Draining {
        /// Why.
        reason: String,
    },
    /// From a Manager: stop serving, unless you are needed otherwise.
    Shutdown,
    /// The answer to `Shutdown`; if it stops, the node says goodbye next.
    ShutdownAnswer {
        /// None if it stops; else why it stays.
        stays: Option<String>,
    },
    /// From a Manager, before its first call, to a node that runs programs: the one that has the functions. What the node
    /// does not have of it, it asks for as for a blob.
    Program(Program),
    /// From a node: the program is there and runs; calls that came behind it are computed.
    ProgramReady {
        /// Which.
        digest: Digest,
    },
    /// From a node: it can't run the program, and so no call.
    ProgramRefused {
        /// Both sides' facts, and what to do.
        reason: String,
    },
    /// From a node: a function has said something.
    Output(Output),
    /// From either side, within TLS: the list of certificates that are not to be believed, signed by the authority that both
    /// know. From a Manager once it is connected; from a node whose own is newer then. Nothing comes back.
    Revoked {
        /// A list of RFC 5280, section 5, in DER.
        #[serde(with = "serde_bytes")]
        list: Vec<u8>,
    },
    /// From a node: it can't run the program now, and may later: its disk is full, for example. The Manager parts from it,
    /// and comes again.
    ProgramHindered {
        /// By what.
        reason: String,
    },
    /// From a node: the program can't use the GPUs there. The Manager parts from it, and comes again for its CPUs.
    GpusRefused {
        /// Why.
        reason: String,
    },
}

/// The executable that a Manager is, for a node to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// BLAKE3 of the file.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// How it is started to run functions.
    pub args: Vec<String>,
    /// Version of distfun that it is built with.
    pub version: String,
    /// What it was built for: architecture and system.
    pub target: String,
    /// What of a CPU its code may use beyond the least one of its architecture, as the compiler names it.
    pub cpu_features: Vec<String>,
    /// Events of `tracing` up to this level are wanted: from 0 for none to 5 for traces.
    pub log_level: u8,
}

/// What a function has said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// While it ran for this call.
    pub call: CallNumber,
    /// The item, or the first one of those that come into question.
    pub first: u64,
    /// How many do.
    pub count: u64,
    /// The node's worker.
    pub worker: u32,
    /// How.
    pub source: Source,
    /// The line, without its end.
    pub text: String,
}

/// How a function has said something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// To its standard output.
    Stdout,
    /// To its standard error.
    Stderr,
    /// As an event of `tracing`.
    Log {
        /// From 1 for errors to 5 for traces.
        level: u8,
        /// Where in its program.
        target: String,
    },
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// As it calls itself.
    pub name: String,
    /// Tells this run of the process from all others.
    pub instance: [u8; 16],
    /// Version of distfun.
    pub version: String,
    /// What it was built for: architecture and system.
    pub target: String,
    /// Chunks that it computes at once.
    pub slots: u32,
    /// How many functions it offers.
    pub functions: u32,
    /// It computes what it has and takes no more.
    pub is_draining: bool,
    /// It runs programs that Managers bring; else it has functions of its own.
    pub runs_programs: bool,
    /// Its GPUs: each computes one chunk at once too, besides.
    pub gpus: Vec<GpuInfo>,
}

/// A call that is about to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its number.
    pub call: CallNumber,
    /// Name of the function.
    pub function: String,
    /// Of its types, as the Manager has them.
    pub fingerprint: Fingerprint,
    /// The same for people.
    pub schema: String,
    /// Seed of the random numbers.
    pub seed: u64,
    /// The shared data that its function reads.
    pub shared: Option<Digest>,
    /// The function is given a whole chunk at once.
    pub is_lists: bool,
    /// Where in the program's source the function was distributed.
    pub site: String,
    /// Longest that one item may run, in microseconds.
    pub item_timeout_us: Option<u64>,
    /// What runs on GPUs in place of the function, if that is another.
    pub gpu: Option<GpuForm>,
}

/// A function that runs on GPUs in place of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuForm {
    /// Its name.
    pub function: String,
    /// Of its types, as the Manager has them.
    pub fingerprint: Fingerprint,
    /// Where in the program's source it was given.
    pub site: String,
}

/// Items for a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it is put; the lane is free.
    pub lane: Lane,
    /// Numbers the lane's chunks.
    pub turn: Turn,
    /// Of which call.
    pub call: CallNumber,
    /// Index of the first item.
    pub start: u64,
    /// How many there are.
    pub count: u64,
    /// How often they were tried, this time included.
    pub attempt: u32,
    /// After this long the node returns what it has not started, in microseconds.
    pub budget_us: u64,
    /// It is for a GPU.
    pub is_for_gpu: bool,
    /// Head of the parcel.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// As in the chunk.
    pub lane: Lane,
    /// As in the chunk.
    pub turn: Turn,
    /// Items before this one have their outcome; the others come back.
    pub reached: u64,
    /// Those among them that failed.
    pub failures: Vec<Failure>,
    /// Time spent computing, in microseconds.
    pub elapsed_us: u64,
    /// The node's worker that had it, if one did.
    pub worker: Option<u32>,
    /// A worker died inside the chunk.
    pub died: Option<Died>,
    /// Head of the parcel: the results of the items that did not fail.
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
}

/// What a worker was at when it died, or was stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Died {
    /// The item that ran; or the first of those of which it was one, and nobody knows which.
    pub first: u64,
    /// How many come into question; none did if it is 0.
    pub count: u64,
    /// How its process ended, or its GPU was lost; none if it was a thread that died otherwise.
    pub exit: Option<Exit>,
    /// It was stopped because the item ran too long.
    pub is_overdue: bool,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// In words.
    pub story: String,
    /// The last that it wrote to its stderr.
    pub stderr: String,
}

/// An item that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Its index in the call.
    pub index: u64,
    /// Why.
    pub cause: Cause,
}

/// Why an item failed, as far as that travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// The function panicked.
    Panicked {
        /// Its text.
        message: String,
        /// Source file, line and column.
        place: Option<String>,
    },
    /// The function returned another number of results than it was given items.
    WrongLength {
        /// First item it was given.
        start: u64,
        /// One behind the last.
        end: u64,
        /// How many results it returned.
        got: u64,
    },
    /// Items could not be read, or results not written.
    Payload {
        /// What is wrong.
        message: String,
    },
}

/// Why a node can't run a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    /// It offers no function of this name.
    NoSuchFunction {
        /// The closest name that it has.
        closest: Option<String>,
    },
    /// It has the function with other types.
    Differs {
        /// As the node has it.
        schema: String,
        /// Version of distfun that the node is built with.
        version: String,
    },
    /// The shared data can't be kept there.
    SharedData {
        /// Why.
        reason: String,
    },
    /// It can't stop an item that runs too long, as the call wants.
    NoTimeouts,
}

/// What kind of elements a bulk section has, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionHeader {
    /// What they are.
    pub element: ElementType,
    /// How many.
    pub count: u64,
}
