//! One Manager that is connected: its calls, its chunks, and the shared data it has brought.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use distfun_core::{
    engine::BUDGET,
    failure::ItemFailure,
    payload::{Parcel, RawVec, Received},
    placement::SlotKind,
    shared_data::SharedData,
};
use distfun_net::{
    frame::MAX_CONTROL_BYTES,
    link::Link,
    message::{Call, CallNumber, Cause, Chunk, Died, Digest, Done, Failure, Lane, Message, Refusal, Turn},
    session::Incoming,
};

#[cfg(target_os = "linux")]
use super::brought::{Brought, Refused};
use super::{
    Serving, Why,
    luggage::{Arrival, Luggage},
    visit::{MOST_FAILURES, Over, Visitor, Work, ending},
};
use crate::{
    failures::packed,
    job::{JobCore, next_call_id},
};

/// Calls that a Manager may have open: many more than it has unless it forgets to end them.
const MAX_CALLS: usize = 1 << 16;

/// Chunks that a Manager may have here for each slot: many more than it has lanes.
const MAX_CHUNKS_PER_SLOT: usize = 64;

/// What the texts of all failures in one message may take: half of what a message may.
const TEXT_BYTES: usize = MAX_CONTROL_BYTES / 2;

/// A call that a Manager has announced.
pub(super) struct Known {
    pub(super) call: Call,
    /// None until the program that has it is here.
    pub(super) work: Option<Work>,
    /// What runs on GPUs instead, where that is another function.
    gpu_work: Option<Work>,
    /// None until its shared data is here.
    shared: Option<SharedData>,
}

/// A chunk that waits for its call's shared data.
pub(super) struct Waiting {
    chunk: Chunk,
    sections: Vec<RawVec>,
    bytes: u64,
}

#[derive(Default)]
pub(super) struct Table {
    /// None where the call was refused.
    pub(super) calls: HashMap<CallNumber, Option<Known>>,
    pub(super) waiting: Vec<Waiting>,
    /// Shared data that is looked for, or on its way.
    coming: HashSet<Digest>,
    visitors: HashMap<(Lane, Turn), (CallNumber, Weak<Visitor>)>,
    #[cfg(target_os = "linux")]
    pub(super) program: Brought,
    has_left: bool,
}

impl Table {
    #[cfg(target_os = "linux")]
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    fn wants(&self, digest: &Digest) -> bool {
        self.calls.values().flatten().any(|known| known.call.shared == Some(*digest))
    }
}

/// A connected Manager.
pub(crate) struct Guest {
    pub(crate) name: String,
    /// Of its certificate.
    serial: Option<String>,
    pub(super) link: Arc<Link>,
    pub(super) serving: Arc<Serving>,
    pub(super) luggage: Luggage,
    /// The shared data that was here last: the next call probably reads the same, and need not wait until it is found.
    latest: Mutex<Option<(Digest, SharedData)>>,
    table: Mutex<Table>,
}

impl Guest {
    pub(crate) fn new(name: String, serial: Option<String>, link: Arc<Link>, serving: Arc<Serving>) -> Arc<Self> {
        let luggage = Luggage::new(serving.cache.clone());
        Arc::new(Self { name, serial, link, serving, luggage, latest: Mutex::default(), table: Mutex::default() })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, message: &Message) {
        // What can't be sent has lost its reader; the end of the link tells.
        let _ = self.link.send(message, Vec::new());
    }

    pub(crate) fn say_draining(&self, reason: &str) {
        self.send(&Message::Draining { reason: reason.to_owned() });
    }

    /// Chunks that are not over.
    pub(crate) fn chunks(&self) -> usize {
        let table = self.table();
        table.waiting.len() + table.visitors.len()
    }

    pub(super) fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Takes in what the Manager says.
    pub(crate) fn hear(self: &Arc<Self>, incoming: Incoming) {
        let Incoming { message, sections, bytes, .. } = incoming;
        match message {
            Message::Call(call) => self.call(call),
            Message::CallEnded { call, overdue } => self.call_ended(call, overdue),
            Message::Chunk(chunk) => return self.chunk(Waiting { chunk, sections, bytes }),
            Message::Recall { lane, turn } => self.recall(lane, turn),
            Message::BlobPiece { digest, offset, total } => {
                return self.blob_piece(digest, offset, total, sections, bytes);
            }
            #[cfg(target_os = "linux")]
            Message::Program(program) => self.program(program),
            Message::Shutdown => {
                let stays = self.serving.stays_for(self);
                self.send(&Message::ShutdownAnswer { stays: stays.clone() });
                if stays.is_none() {
                    self.serving.stop(Why::Manager(&self.name));
                }
            }
            Message::Revoked { list } if self.serial.is_some() => {
                if let Some(list) = self.serving.credentials.learn(&list) {
                    self.send(&Message::Revoked { list });
                }
                self.serving.send_revoked_away();
            }
            // What only nodes say, or the session has dealt with.
            _ => {}
        }
        self.link.consumed(bytes);
    }

    fn call(self: &Arc<Self>, call: Call) {
        let number = call.call;
        let table = self.table();
        if table.calls.contains_key(&number) {
            return; // two threads of the Manager may have announced it
        }
        if table.calls.len() >= MAX_CALLS {
            drop(table);
            return self.link.close(&format!("more than {MAX_CALLS} calls are open"));
        }
        drop(table);
        let work = self.work(&call);
        let refusal = match work {
            Err(refusal) => refusal,
            Ok(work) => {
                let digest = call.shared;
                let shared = digest.map_or_else(|| Some(SharedData::default()), |digest| self.latest(&digest));
                let is_here = shared.is_some();
                let gpu_work = self.gpu_work(&call);
                self.table().calls.insert(number, Some(Known { call, work, gpu_work, shared }));
                match digest {
                    Some(digest) if is_here => drop(self.link.send_idly(&Message::BlobThere { digest })),
                    Some(digest) => self.luggage_wanted(digest),
                    None => {}
                }
                return;
            }
        };
        self.table().calls.insert(number, None);
        self.refuse(number, refusal);
    }

    /// What computes a call; none until the program is there that has its function.
    fn work(&self, call: &Call) -> Result<Option<Work>, Refusal> {
        #[cfg(target_os = "linux")]
        if self.serving.runs_programs {
            return Ok(self.shipped(call));
        }
        match self.serving.table.get(&*call.function).cloned() {
            _ if call.item_timeout_us.is_some() => Err(Refusal::NoTimeouts),
            None => Err(Refusal::NoSuchFunction { closest: self.serving.closest(&call.function) }),
            Some(served) if served.fingerprint() != call.fingerprint => Err(Refusal::Differs {
                schema: served.schema().text().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            Some(served) => Ok(Some(Work::Served(served))),
        }
    }

    /// What computes a call on GPUs, if that is something else. A form that is not offered, or with other types, is not used:
    /// the function runs there itself.
    fn gpu_work(&self, call: &Call) -> Option<Work> {
        let form = call.gpu.as_ref()?;
        let served = self.serving.table.get(&*form.function)?;
        (served.fingerprint() == form.fingerprint).then(|| Work::Served(served.clone()))
    }

    fn refuse(&self, call: CallNumber, refusal: Refusal) {
        self.send(&Message::Refused { call, refusal });
        let mut table = self.table();
        if let Some(known) = table.calls.get_mut(&call) {
            *known = None; // unless it has ended meanwhile
        }
        let (back, stay) = table.waiting.drain(..).partition(|waiting| waiting.chunk.call == call);
        table.waiting = stay;
        drop(table);
        back.into_iter().for_each(|waiting: Waiting| self.give_back(&waiting));
    }

    fn call_ended(&self, call: CallNumber, overdue: bool) {
        let mut table = self.table();
        let known = table.calls.remove(&call).flatten();
        let digest = known.as_ref().and_then(|known| known.call.shared);
        let unwanted = digest.filter(|digest| !table.wants(digest) && table.coming.remove(digest));
        let (back, stay) = table.waiting.drain(..).partition(|waiting| waiting.chunk.call == call);
        table.waiting = stay;
        let of_call = table.visitors.values().filter(|(number, _)| *number == call);
        let visitors: Vec<_> = of_call.filter_map(|(_, visitor)| visitor.upgrade()).collect();
        drop(table);
        if let Some(digest) = unwanted {
            self.luggage.forget(digest);
        }
        back.into_iter().for_each(|waiting: Waiting| self.give_back(&waiting));
        for visitor in visitors {
            // Whatever its thread is at, the Manager gets its lane back: nobody waits for an item that never ends.
            visitor.give_up();
            self.serving.pool.cancel(visitor.core().id, ending(overdue));
        }
    }

    /// Answers that nothing of a chunk was done.
    fn give_back(&self, waiting: &Waiting) {
        let Chunk { lane, turn, start, .. } = waiting.chunk;
        self.link.consumed(waiting.bytes);
        self.send(&Message::Done(Done {
            lane,
            turn,
            reached: start,
            failures: Vec::new(),
            elapsed_us: 0,
            worker: None,
            died: None,
            head: Vec::new(),
        }));
    }

    pub(super) fn chunk(self: &Arc<Self>, waiting: Waiting) {
        // It would wait for ever. The Manager comes again, and hears what there is.
        let is_in_vain = match waiting.chunk.is_for_gpu {
            true => self.serving.pool.gpus_left().next().is_none(),
            false => self.serving.pool.settings.slots == 0,
        };
        if is_in_vain {
            let what = if waiting.chunk.is_for_gpu { "GPU" } else { "CPU" };
            return self.link.close(&format!("no {what} is left here that chunks could have"));
        }
        let mut table = self.table();
        let most = MAX_CHUNKS_PER_SLOT * (self.serving.pool.slots() + 4);
        if table.waiting.len() + table.visitors.len() >= most {
            drop(table);
            return self.link.close(&format!("more than {most} chunks are here at once"));
        }
        match table.calls.get(&waiting.chunk.call) {
            Some(Some(Known { call, work: Some(work), gpu_work, shared: Some(shared) }))
                if !self.serving.is_draining() =>
            {
                let work = gpu_work.as_ref().filter(|_| waiting.chunk.is_for_gpu).unwrap_or(work);
                let (work, call, shared) = (work.clone(), call.clone(), shared.clone());
                drop(table);
                self.enter(waiting, work, &call, shared);
            }
            Some(Some(known)) if known.shared.is_none() || known.work.is_none() => table.waiting.push(waiting),
            // The call has ended, or was refused.
            _ => {
                drop(table);
                self.give_back(&waiting);
            }
        }
    }

    fn enter(self: &Arc<Self>, waiting: Waiting, work: Work, call: &Call, shared: SharedData) {
        let Waiting { chunk, sections, bytes } = waiting;
        let end = chunk.start.checked_add(chunk.count).filter(|_| chunk.count <= work.max_items());
        let (Ok(start), Ok(count), Some(_)) = (usize::try_from(chunk.start), usize::try_from(chunk.count), end) else {
            let (count, most) = (chunk.count, work.max_items());
            return self.link.close(&format!("a chunk of {count} items is more than the {most} that go together"));
        };
        let mut settings = self.serving.pool.settings.clone();
        settings.seed = call.seed;
        let items = if call.is_lists { 1 } else { count };
        let core = JobCore::new(next_call_id(), work.name(), items, &settings, false, false)
            .sharing(shared)
            .visiting(bytes, start, call.is_lists.then_some(count))
            .only(if chunk.is_for_gpu { SlotKind::Gpu } else { SlotKind::Cpu })
            .after_attempts(chunk.attempt.saturating_sub(1));
        let (guest, lane, turn) = (self.clone(), chunk.lane, chunk.turn);
        let answer = move |over: Over| guest.answer(lane, turn, start, count, bytes, over);
        let mut budget = Duration::from_micros(chunk.budget_us);
        if self.serving.others_wait(self) {
            // In turns of the same length each Manager has the same share, however large its chunks are.
            budget = budget.min(BUDGET);
        }
        let items = Received { head: chunk.head, sections };
        self.table().visitors.insert((lane, turn), (chunk.call, Weak::new()));
        let visitor = Visitor::enter(&self.serving.pool, core, work, items, count, budget, answer);
        let mut table = self.table();
        if let Some((_, place)) = table.visitors.get_mut(&(lane, turn)) {
            *place = Arc::downgrade(&visitor);
        }
        let is_wanted = !table.has_left && table.calls.contains_key(&chunk.call);
        drop(table);
        if !is_wanted {
            // Its call has ended, or the Manager has left, before it could be found here.
            visitor.give_up();
            self.serving.pool.cancel(visitor.core().id, ending(false));
        }
    }

    /// A chunk is over; called by whoever ended it, mostly the thread that has computed it.
    fn answer(&self, lane: Lane, turn: Turn, start: usize, count: usize, bytes: u64, over: Over) {
        let Over { reached, failures, elapsed, worker, died, results } = over;
        let Parcel { head, sections } = results;
        let text_bytes = TEXT_BYTES / failures.len().max(1);
        let failure = |failure: &ItemFailure| Failure {
            index: (start + failure.index) as u64,
            cause: packed(&failure.cause, start, text_bytes),
        };
        let done = Done {
            lane,
            turn,
            reached: (start + reached) as u64,
            failures: failures.iter().map(failure).collect(),
            elapsed_us: elapsed.as_micros() as u64,
            worker: worker.map(|worker| worker.0),
            died: died.map(|died| Died { first: died.first.saturating_add(start as u64), ..died }),
            head,
        };
        self.link.consumed(bytes);
        if let Err(error) = self.link.send(&Message::Done(done.clone()), sections) {
            let message = format!("its result could not be sent: {error}");
            let cause = Cause::Payload { message };
            let failure = |index: usize| Failure { index: index as u64, cause: cause.clone() };
            // Too many items can't each be told why; those behind go back and are tried alone.
            let told = (start..start + count).take(MOST_FAILURES);
            let reached = (start + told.len()) as u64;
            let failures = told.map(failure).collect();
            self.send(&Message::Done(Done { failures, reached, died: None, head: Vec::new(), ..done }));
        }
        // Only now: a node that drains goes when nothing is left here.
        self.table().visitors.remove(&(lane, turn));
    }

    fn recall(&self, lane: Lane, turn: Turn) {
        let mut table = self.table();
        let is_it = |waiting: &Waiting| (waiting.chunk.lane, waiting.chunk.turn) == (lane, turn);
        if let Some(at) = table.waiting.iter().position(is_it) {
            let waiting = table.waiting.swap_remove(at);
            drop(table);
            return self.give_back(&waiting);
        }
        let visitor = table.visitors.get(&(lane, turn)).and_then(|(_, visitor)| visitor.upgrade());
        drop(table);
        if let Some(visitor) = visitor.filter(|visitor| visitor.withdraw()) {
            self.serving.pool.cancel(visitor.core().id, ending(false));
        }
    }

    fn latest(&self, digest: &Digest) -> Option<SharedData> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that was changed is looked for anew.
        let is_it = |(name, shared): &&(Digest, SharedData)| name == digest && shared.check_unchanged().is_ok();
        latest.as_ref().filter(is_it).map(|(_, shared)| shared.clone())
    }

    /// Looks for shared data here, and asks for it if it isn't.
    fn luggage_wanted(self: &Arc<Self>, digest: Digest) {
        self.table().coming.insert(digest);
        let guest = self.clone();
        self.luggage.look(digest, move |arrival| guest.luggage_news(digest, arrival));
    }

    fn blob_piece(self: &Arc<Self>, digest: Digest, offset: u64, total: u64, sections: Vec<RawVec>, bytes: u64) {
        let guest = self.clone();
        self.luggage.put(digest, offset, total, sections, move |arrival| {
            guest.link.consumed(bytes);
            guest.luggage_news(digest, arrival);
        });
    }

    pub(super) fn luggage_news(self: &Arc<Self>, digest: Digest, arrival: Arrival) {
        match arrival {
            Arrival::Nothing => {}
            Arrival::Wanted { offset } => self.send(&Message::BlobWanted { digest, offset }),
            #[cfg(target_os = "linux")]
            Arrival::Program(file) => self.program_came(digest, file),
            Arrival::Here(shared) => {
                let before =
                    self.latest.lock().unwrap_or_else(PoisonError::into_inner).replace((digest, shared.clone()));
                drop(before); // not under the lock: unmapping takes a while
                self.send(&Message::BlobThere { digest });
                let mut table = self.table();
                table.coming.remove(&digest);
                if !table.wants(&digest) {
                    return;
                }
                for known in table.calls.values_mut().flatten().filter(|known| known.call.shared == Some(digest)) {
                    known.shared = Some(shared.clone());
                }
                let waiting = std::mem::take(&mut table.waiting);
                drop(table);
                waiting.into_iter().for_each(|waiting| self.chunk(waiting));
            }
            #[cfg(target_os = "linux")]
            Arrival::Failed(reason) if self.is_program(&digest) => {
                // A disk may have room again.
                self.program_refused(Refused::for_now(format!("the program can't be kept there: {reason}")));
            }
            Arrival::Failed(reason) => {
                let of_it = |known: &Option<Known>| known.as_ref().is_some_and(|it| it.call.shared == Some(digest));
                let calls: Vec<_> =
                    self.table().calls.iter().filter(|(_, known)| of_it(known)).map(|(call, _)| *call).collect();
                for call in calls {
                    self.refuse(call, Refusal::SharedData { reason: reason.clone() });
                }
            }
        }
    }

    /// The connection is gone: nothing of what it left is wanted.
    pub(crate) fn leave(&self) {
        let table = std::mem::replace(&mut *self.table(), Table { has_left: true, ..Table::default() });
        #[cfg(target_os = "linux")]
        table.program.leave();
        for (_, visitor) in table.visitors.into_values() {
            if let Some(visitor) = visitor.upgrade() {
                visitor.give_up();
                self.serving.pool.cancel(visitor.core().id, ending(true));
            }
        }
    }
}
