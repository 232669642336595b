//! What a process and its host process say to each other: small messages over a pair of sockets, and beside them items and
//! results in shared memory.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use distfun_core::{
    gpu::GpuInfo,
    payload::{Parcel, RawVec, Received, Spares},
    shared_data::{ElementType, HandedFile},
};
use distfun_net::message::{Failure, Source};
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::area::Area;

/// Raised whenever the messages below change.
pub(crate) const PROTOCOL: u32 = 2;

/// Longest message. A longer one can't be sent, and none is needed.
const MAX_BYTES: usize = 64 << 10;

/// Most files that go along with one message.
const MAX_FILES: usize = 2;

/// From the process to its host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHost {
    /// First of all, with two files: the areas to the host and from it.
    Begin {
        protocol: u32,
        /// The slot it computes for.
        worker: u32,
        /// Events of `tracing` up to this level are wanted: from 0 for none to 5 for traces.
        log_level: u8,
        /// The GPU that it computes with.
        gpu: Option<GpuInfo>,
    },
    /// A file of shared data, which goes along.
    File(HandedFile),
    /// The files that came since the last of these are the shared data of this number.
    Shared { id: u64 },
    /// No call reads this shared data any more.
    Forget { id: u64 },
    /// A chunk is in the area to the host.
    Task(Placed),
    /// Nothing more will come; the host ends.
    End,
}

/// From a host to its process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHost {
    /// It is there. The answer to `Begin`.
    Ready {
        protocol: u32,
        /// Of distfun.
        version: String,
    },
    /// A chunk is over; its results are in the area from the host.
    Done(Placed),
    /// Its function has emitted an event of `tracing` while it ran these items.
    Log { source: Source, items: Range<usize>, text: String },
    /// Something that is no fault of an item's; the host ends.
    Failed { reason: String },
}

/// Where something lies in an area.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Placed {
    /// Length of the note at its start.
    note: u32,
    /// All that was handed over, in bytes.
    bytes: u64,
}

impl Placed {
    /// All that was handed over, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A chunk for a host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) function: String,
    /// Where in its source it was distributed; the host finds that one of several functions of one name.
    pub(crate) site: String,
    pub(crate) seed: u64,
    /// Position of its first item in the call's input.
    pub(crate) start: usize,
    pub(crate) count: usize,
    /// All items are one list.
    pub(crate) is_lists: bool,
    pub(crate) attempt: u32,
    pub(crate) budget_us: u64,
    /// The number of its shared data.
    pub(crate) shared: Option<u64>,
}

/// What became of a chunk. Items are counted from its first one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Items before this one have their outcome.
    pub(crate) reached: usize,
    pub(crate) failures: Vec<Failure>,
    pub(crate) elapsed_us: u64,
    /// The function is not there, and why.
    pub(crate) refused: Option<String>,
}

/// The note of what is handed over.
#[derive(Debug, Serialize, Deserialize)]
struct Note<T> {
    about: T,
    #[serde(with = "serde_bytes")]
    head: Vec<u8>,
    /// Each with its length in bytes.
    sections: Vec<(ElementType, u64)>,
}

/// Sections begin at multiples of this: a cache line, so that copies are whole ones.
const ALIGNMENT: usize = 64;

/// Puts `parcel` into `area`, with what there is to say about it.
///
/// # Errors
/// There is no memory.
pub(crate) fn hand_over(area: &mut Area, about: impl Serialize, parcel: Parcel) -> io::Result<Placed> {
    let sections = parcel.sections.iter().map(|section| (section.element, section.bytes.len() as u64)).collect();
    let note = postcard::to_stdvec(&Note { about, head: parcel.head, sections }).map_err(io::Error::other)?;
    let mut end = note.len();
    for section in &parcel.sections {
        end = end.next_multiple_of(ALIGNMENT) + section.bytes.len();
    }
    area.grow(end)?;
    area.write(0, &note);
    let mut at = note.len();
    for section in parcel.sections {
        at = at.next_multiple_of(ALIGNMENT);
        area.write(at, &section.bytes);
        at += section.bytes.len();
    }
    Ok(Placed { note: note.len() as u32, bytes: end as u64 })
}

/// Takes out of `area` what the other side has put there, into memory of `spares` where there is some. Nothing that it says is believed beyond what there is.
///
/// # Errors
/// It is not what this side expects.
pub(crate) fn take_over<T: DeserializeOwned>(
    area: &mut Area,
    placed: Placed,
    spares: Option<&Mutex<Spares>>,
) -> io::Result<(T, Received)> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let all = usize::try_from(placed.bytes).map_err(|_| wrong("more was handed over than memory has"))?;
    if placed.note as usize > all {
        return Err(wrong("a note is longer than what was handed over"));
    }
    area.follow(all)?;
    let mut note = vec![0; placed.note as usize];
    area.read(0, &mut note);
    let Note { about, head, sections } =
        postcard::from_bytes::<Note<T>>(&note).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let mut at = note.len();
    let mut received = Received { head, sections: Vec::with_capacity(sections.len()) };
    for (element, bytes) in sections {
        at = at.next_multiple_of(ALIGNMENT);
        let bytes = usize::try_from(bytes).ok().filter(|&bytes| at.checked_add(bytes).is_some_and(|end| end <= all));
        let bytes = bytes.filter(|bytes| bytes.is_multiple_of(element.size()));
        let bytes = bytes.ok_or_else(|| wrong("a section reaches beyond what was handed over"))?;
        let spare = spares.and_then(|spares| {
            spares.lock().unwrap_or_else(PoisonError::into_inner).take(element, bytes / element.size())
        });
        let mut section = spare.unwrap_or_else(|| RawVec::empty(element));
        section.resize(bytes / element.size()).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        area.read(at, section.bytes_mut());
        received.sections.push(section);
        at += bytes;
    }
    Ok((about, received))
}

/// Sends a message, with files.
///
/// # Errors
/// The other side is gone.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    debug_assert!(bytes.len() <= MAX_BYTES, "a message of {} bytes", bytes.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(files)), "{} files in one message", files.len());
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// A message, and the files that came along.
pub(crate) type Heard<T> = (T, Vec<File>);

/// The next message; none if there is none yet and `waits` is not set.
///
/// # Errors
/// The other side is gone (`UnexpectedEof`), or says what can't be understood.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd, waits: bool) -> io::Result<Option<Heard<T>>> {
    let mut buffer = [0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let count = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Ok(message) if message.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
            other => break other?.bytes,
        }
    };
    let mut files: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    let message = postcard::from_bytes(&buffer[..count]);
    let message = message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, files.into_iter().map(File::from).collect())))
}

#[cfg(test)]
mod tests {
    use distfun_core::payload::Section;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_parcel_comes_out_of_an_area_as_it_went_in() {
        let mut area = Area::create().unwrap();
        let floats: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|x| x.to_ne_bytes()).collect();
        let section = |element, bytes: Vec<u8>| Section { element, bytes: bytes.into() };
        let sections = vec![section(ElementType::U8, vec![7; 3]), section(ElementType::F64, floats)];
        let placed = hand_over(&mut area, "about", Parcel { head: vec![9], sections }).unwrap();
        let (about, received): (String, Received) = take_over(&mut area, placed, None).unwrap();
        assert_eq!((about.as_str(), received.head), ("about", vec![9]));
        assert_eq!(received.sections, [RawVec::U8(vec![7; 3]), RawVec::F64(vec![1.5, -2.0])]);
    }

    /// A host whose function writes to memory that is not its own may say anything.
    #[test]
    fn what_is_not_there_is_not_taken() {
        let mut area = Area::create().unwrap();
        for (note, bytes) in [(u32::MAX, 0), (0, u64::MAX), (0, 1 << 40), (5, 3)] {
            assert!(take_over::<u8>(&mut area, Placed { note, bytes }, None).is_err(), "{note} {bytes}");
        }
        let sections = vec![(ElementType::F64, 1 << 40)];
        let note = postcard::to_stdvec(&Note { about: 1u8, head: vec![], sections }).unwrap();
        area.write(0, &note);
        let placed = Placed { note: note.len() as u32, bytes: 1000 };
        let error = take_over::<u8>(&mut area, placed, None).unwrap_err();
        assert!(error.to_string().contains("beyond"), "{error}");
    }

    #[test]
    fn messages_carry_files_and_an_end_is_seen() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert!(receive::<u32>(&theirs, false).unwrap().is_none());
        let file = File::open("/dev/null").unwrap();
        send(&ours, &7u32, &[file.as_fd()]).unwrap();
        let (message, files) = receive::<u32>(&theirs, true).unwrap().unwrap();
        assert_eq!((message, files.len()), (7, 1));
        drop(ours);
        assert_eq!(receive::<u32>(&theirs, true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
