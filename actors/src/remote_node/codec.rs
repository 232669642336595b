//! Threads that turn items into bytes and bytes into results, where that runs code of the user's: no thread that
//! anybody waits for may do it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use crate::compute::catch::contain;

type Task = Box<dyn FnOnce() + Send>;

/// A few threads, and the queue before them. They end with the last handle.
#[derive(Clone)]
pub(crate) struct Codec(mpsc::Sender<Task>);

/// More threads than this would only compete with those that compute.
const MOST_THREADS: usize = 4;

impl Codec {
    pub(crate) fn start(cpus: usize) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..cpus.clamp(1, MOST_THREADS) {
            let receiver = receiver.clone();
            let next = move || receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            let body = move || std::iter::from_fn(&next).for_each(contain);
            thread::Builder::new().name(format!("distfun-codec-{number}")).spawn(body)?;
        }
        Ok(Self(sender))
    }

    pub(crate) fn run(&self, task: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Box::new(task)); // the threads are there as long as this is
    }
}
