//! The door of a compute thread: one chunk at a time is put in, without a lock being waited for on the way out.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
};

use distfun_core::{
    engine::Chunk,
    ids::{Generation, WorkerId},
};

use super::awake::{from_afar, spin_until};
use crate::job::SharedJob;

#[derive(Debug)]
enum Door {
    Empty,
    Chunk(Chunk<SharedJob>),
    /// Nobody comes here any more.
    Closed,
}

/// Where one life of a slot is handed its chunks.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) worker: WorkerId,
    pub(crate) generation: Generation,
    door: Mutex<Door>,
    /// A chunk or a release has come.
    news: AtomicBool,
    released: AtomicBool,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Port {
    pub(crate) fn new(worker: WorkerId, generation: Generation) -> Self {
        Self {
            worker,
            generation,
            door: Mutex::new(Door::Empty),
            news: AtomicBool::new(false),
            released: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// The calling thread is the one that takes chunks from here.
    pub(crate) fn attach(&self) {
        self.thread.set(thread::current()).expect("one thread per port");
    }

    pub(crate) fn put(&self, chunk: Chunk<SharedJob>) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*door, Door::Closed) {
            drop(door);
            return; // its call has ended with the slot; kept here, the chunk would hold on to the call's input
        }
        *door = Door::Chunk(chunk);
        drop(door);
        self.tell();
    }

    /// Whether the thread would take a chunk at once; only a hint.
    pub(crate) fn is_awake(&self) -> bool {
        !self.asleep.load(Ordering::Relaxed)
    }

    /// Asks the thread to end.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Release);
        self.tell();
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    fn tell(&self) {
        self.news.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The thread takes no more.
    pub(crate) fn close(&self) {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let late = std::mem::replace(&mut *door, Door::Closed);
        drop(door);
        drop(late);
    }

    /// Waits for the next chunk, from another machine if it `is_far`: awake for a moment, then asleep. None when released.
    pub(crate) fn take(&self, is_far: bool) -> Option<Chunk<SharedJob>> {
        loop {
            let told = || self.news.load(Ordering::Acquire) || self.is_released();
            let sleep = || {
                if !spin_until(told) {
                    self.asleep.store(true, Ordering::Relaxed);
                    while !told() {
                        thread::park();
                    }
                    self.asleep.store(false, Ordering::Relaxed);
                }
            };
            if is_far {
                from_afar(told, sleep)
            } else {
                sleep()
            }
            // Before the look into the door: what is put in after it sets the flag again.
            self.news.store(false, Ordering::Release);
            let released = self.is_released();
            let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(&mut *door, if released { Door::Closed } else { Door::Empty }) {
                Door::Chunk(chunk) => {
                    *door = Door::Empty;
                    return Some(chunk);
                }
                _ if released => return None,
                _ => {}
            }
        }
    }
}
