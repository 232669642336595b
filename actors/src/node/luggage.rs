//! Shared data that a Manager brings: kept in the cache of this machine, or in memory where that can't be.
//!
//! Disks are slow and hashing a gigabyte takes a while, so all of it happens on a thread of its own.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use dashmap::DashMap;
use distfun_core::{
    payload::RawVec,
    shared_data::{BlobFile, SharedData, WeakSharedData},
};
use distfun_net::{
    blob::{BlobCache, Finished, Found, Receiving},
    message::Digest,
};

/// Bytes in one piece of a blob.
pub(crate) const PIECE_BYTES: u64 = 1 << 20;

/// Pieces that are sent for one request, so that the next request is on its way while they come.
pub(crate) const PIECES_AHEAD: u64 = 16;

/// What has come of looking for a blob, or of a piece of it.
pub(crate) enum Arrival {
    /// Nothing to say.
    Nothing,
    /// It is wanted from here on.
    Wanted {
        offset: u64,
    },
    Here(SharedData),
    /// The file of a program.
    #[cfg(target_os = "linux")]
    Program(File),
    Failed(String),
}

/// The thread that does what may wait for a disk.
#[derive(Clone)]
pub(crate) struct Porter(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Porter {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let body = move || receiver.into_iter().for_each(crate::compute::catch::contain);
        thread::Builder::new().name("distfun-blobs".into()).spawn(body)?;
        Ok(Self(sender))
    }

    fn carry(&self, task: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Box::new(task)); // it ends with the last handle
    }
}

/// Where blobs are kept.
#[derive(Clone)]
pub(crate) struct Store {
    /// None where no directory can be used.
    pub(crate) cache: Option<BlobCache>,
    pub(crate) porter: Porter,
    /// Those that are in memory, as long as somebody uses them.
    pub(crate) in_memory: Arc<DashMap<Digest, WeakSharedData>>,
}

/// Pieces that may be here before those that belong before them: a short last one overtakes.
const MAX_EARLY: usize = 4 * PIECES_AHEAD as usize;

/// A blob that is coming, because a call wants it.
struct Coming {
    /// None until its first piece says how large it is.
    place: Option<Place>,
    /// Asked for from here on,
    from: u64,
    /// and everything before this.
    asked: u64,
    early: BTreeMap<u64, Vec<u8>>,
    /// It has come before, and was something else.
    is_again: bool,
    is_program: bool,
}

impl Coming {
    /// Asked for from `offset` on.
    fn from(offset: u64) -> Self {
        Self {
            place: None,
            from: offset,
            asked: offset + PIECES_AHEAD * PIECE_BYTES,
            early: BTreeMap::new(),
            is_again: false,
            is_program: false,
        }
    }
}

enum Place {
    Disk(Receiving),
    Memory(BlobFile),
}

impl Place {
    fn written(&self) -> u64 {
        match self {
            Self::Disk(receiving) => receiving.written(),
            Self::Memory(file) => file.written(),
        }
    }

    fn write_at(&mut self, offset: u64, piece: &[u8]) -> Result<(), String> {
        match self {
            Self::Disk(receiving) => receiving.write_at(offset, piece).map_err(|error| error.to_string()),
            Self::Memory(file) => file.write_at(offset, piece).map_err(|error| error.to_string()),
        }
    }
}

/// The blobs of one Manager.
pub(crate) struct Luggage {
    store: Store,
    coming: Arc<Mutex<HashMap<Digest, Coming>>>,
}

impl Luggage {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, coming: Arc::default() }
    }

    /// Looks whether a blob is here; `news` is told, on another thread.
    pub(crate) fn look(&self, digest: Digest, news: impl FnOnce(Arrival) + Send + 'static) {
        let (store, coming) = (self.store.clone(), self.coming.clone());
        self.store.porter.carry(move || {
            let mut coming = coming.lock().unwrap_or_else(PoisonError::into_inner);
            let arrival = match coming.entry(digest) {
                Entry::Occupied(_) => Arrival::Nothing, // another call has asked for it
                Entry::Vacant(place) => match store.find(&digest) {
                    Some(shared) => Arrival::Here(shared),
                    None => {
                        let offset = store.begun(&digest);
                        place.insert(Coming::from(offset));
                        Arrival::Wanted { offset }
                    }
                },
            };
            drop(coming);
            news(arrival);
        });
    }

    /// Looks whether the file of a program is here; `news` is told, on another thread.
    #[cfg(target_os = "linux")]
    pub(crate) fn look_for_program(&self, digest: Digest, news: impl FnOnce(Arrival) + Send + 'static) {
        let (store, coming) = (self.store.clone(), self.coming.clone());
        self.store.porter.carry(move || {
            let arrival = match store.find_program(&digest) {
                Some(file) => Arrival::Program(file),
                None => {
                    let offset = store.begun(&digest);
                    let one = Coming { is_program: true, ..Coming::from(offset) };
                    coming.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, one);
                    Arrival::Wanted { offset }
                }
            };
            news(arrival);
        });
    }

    /// No call wants a blob any more: what has come of it may be of use later, but nothing more is asked for.
    pub(crate) fn forget(&self, digest: Digest) {
        let coming = self.coming.clone();
        self.store.porter.carry(move || {
            coming.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        });
    }

    /// Keeps a piece; `news` is told, on another thread.
    pub(crate) fn put(
        &self,
        digest: Digest,
        offset: u64,
        total: u64,
        sections: Vec<RawVec>,
        news: impl FnOnce(Arrival) + Send + 'static,
    ) {
        let (store, coming) = (self.store.clone(), self.coming.clone());
        self.store.porter.carry(move || {
            let mut coming = coming.lock().unwrap_or_else(PoisonError::into_inner);
            let arrival = store.keep(&mut coming, digest, offset, total, sections).unwrap_or_else(|reason| {
                coming.remove(&digest);
                Arrival::Failed(reason)
            });
            drop(coming);
            news(arrival);
        });
    }
}

impl Store {
    fn find(&self, digest: &Digest) -> Option<SharedData> {
        self.in_memory.retain(|_, shared| shared.upgrade().is_some());
        if let Some(shared) = self.in_memory.get(digest).and_then(|shared| shared.upgrade()) {
            return Some(shared);
        }
        let cache = self.cache.as_ref()?;
        match cache.lookup(digest) {
            Found::Whole(lease) => cache.shared_data(&lease).ok(),
            _ => None,
        }
    }

    fn there(&self, digest: &Digest, is_program: bool) -> Option<Arrival> {
        #[cfg(target_os = "linux")]
        if is_program {
            return self.find_program(digest).map(Arrival::Program);
        }
        let _ = is_program;
        self.find(digest).map(Arrival::Here)
    }

    #[cfg(target_os = "linux")]
    fn find_program(&self, digest: &Digest) -> Option<File> {
        match self.cache.as_ref()?.lookup(digest) {
            Found::Whole(lease) => lease.file().ok(),
            _ => None,
        }
    }

    fn begun(&self, digest: &Digest) -> u64 {
        match self.cache.as_ref().map(|cache| cache.lookup(digest)) {
            Some(Found::Partial { offset }) => offset,
            _ => 0,
        }
    }

    fn keep(
        &self,
        coming: &mut HashMap<Digest, Coming>,
        digest: Digest,
        offset: u64,
        total: u64,
        sections: Vec<RawVec>,
    ) -> Result<Arrival, String> {
        let Ok([RawVec::U8(piece)]) = <[RawVec; 1]>::try_from(sections) else {
            return Err("a piece of shared data is one section of bytes".into());
        };
        if piece.len() as u64 > PIECE_BYTES {
            return Err(format!("a piece of shared data has {} bytes, more than {PIECE_BYTES}", piece.len()));
        }
        let Some(one) = coming.get(&digest) else {
            return Ok(Arrival::Nothing); // what was asked for before its calls ended
        };
        if one.place.is_none()
            && let Some(arrival) = self.there(&digest, one.is_program)
        {
            coming.remove(&digest); // another Manager was faster
            return Ok(arrival);
        }
        let one = coming.get_mut(&digest).expect("it was just there");
        let mut news = Arrival::Nothing;
        let place = match &mut one.place {
            Some(place) => place,
            None => {
                let place = one.place.insert(self.begin(digest, total)?);
                if place.written() < one.from {
                    // Somebody else is at what was there.
                    (one.from, one.asked) = (place.written(), place.written() + PIECES_AHEAD * PIECE_BYTES);
                    news = Arrival::Wanted { offset: place.written() };
                }
                place
            }
        };
        one.early.insert(offset, piece);
        if one.early.len() > MAX_EARLY {
            return Err("pieces of shared data are missing".into());
        }
        while let Some((offset, piece)) = one.early.first_key_value().filter(|(at, _)| **at <= place.written()) {
            if let Err(error) = place.write_at(*offset, piece) {
                if matches!(place, Place::Memory(_)) {
                    return Err(error);
                }
                // The disk may be full; memory may have room. What was written has to come again.
                tracing::warn!(error, "shared data can't be kept on disk; it is kept in memory");
                let file = BlobFile::create(total, None, None).map_err(|error| error.to_string())?;
                let is_program = one.is_program;
                *one = Coming { place: Some(Place::Memory(file)), is_program, ..Coming::from(0) };
                return Ok(Arrival::Wanted { offset: 0 });
            }
            one.early.pop_first();
        }
        let written = place.written();
        if written < total {
            // Asked for half-way, so that nothing has to wait.
            if one.asked < total && written + PIECES_AHEAD * PIECE_BYTES / 2 >= one.asked {
                let offset = one.asked;
                one.asked += PIECES_AHEAD * PIECE_BYTES;
                return Ok(Arrival::Wanted { offset });
            }
            return Ok(news);
        }
        let (is_again, is_program) = (one.is_again, one.is_program);
        match coming.remove(&digest).and_then(|one| one.place).expect("it was just written to") {
            #[cfg(target_os = "linux")]
            Place::Memory(file) if is_program => match file.finish_bytes(digest) {
                Ok(file) => Ok(Arrival::Program(file)),
                Err(error) if is_again => Err(error.to_string()),
                Err(_) => {
                    coming.insert(digest, Coming { is_again: true, is_program, ..Coming::from(0) });
                    Ok(Arrival::Wanted { offset: 0 })
                }
            },
            Place::Memory(file) => {
                let shared = match file.finish(digest) {
                    Ok(shared) => shared,
                    Err(error) if is_again => return Err(error.to_string()),
                    Err(_) => {
                        // As on disk: damaged on its way, it comes once more.
                        coming.insert(digest, Coming { is_again: true, ..Coming::from(0) });
                        return Ok(Arrival::Wanted { offset: 0 });
                    }
                };
                self.in_memory.insert(digest, shared.downgrade());
                Ok(Arrival::Here(shared))
            }
            Place::Disk(receiving) => match receiving.finish().map_err(|error| error.to_string())? {
                #[cfg(target_os = "linux")]
                Finished::There(lease) if is_program => {
                    lease.file().map(Arrival::Program).map_err(|error| error.to_string())
                }
                Finished::There(lease) => {
                    let cache = self.cache.as_ref().expect("it was received there");
                    cache.shared_data(&lease).map(Arrival::Here).map_err(|error| error.to_string())
                }
                Finished::Again(receiving) => {
                    let place = Some(Place::Disk(receiving));
                    coming.insert(digest, Coming { place, is_program, ..Coming::from(0) });
                    Ok(Arrival::Wanted { offset: 0 })
                }
            },
        }
    }

    fn begin(&self, digest: Digest, total: u64) -> Result<Place, String> {
        if let Some(cache) = &self.cache {
            match cache.receive(digest, total) {
                Ok(receiving) => return Ok(Place::Disk(receiving)),
                Err(error) => tracing::warn!(%error, "shared data can't be kept on disk; it is kept in memory"),
            }
        }
        BlobFile::create(total, None, None).map(Place::Memory).map_err(|error| error.to_string())
    }
}
