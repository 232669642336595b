//! One connection to one node: the chunks that are out there, and how each comes to its end.
//!
//! A chunk's way is a small state machine, behind one lock that is never held while code of the user's runs:
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | queued | the engine assigns it | a thread packs it; it is recalled, or its call ends: over |
//! | at work | a thread packs it | it is sent; it can't be packed, or its call has ended: over |
//! | sent | it is packed | its answer comes; it is taken back before it was all sent, or the link ends: over |
//!
//! When it is over the engine is told, once, and only after the items that come back are in their place.

mod heard;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    time::{Duration, Instant},
};

use distfun_core::{
    engine::{Chunk, ChunkDone, Event, NodeEvent},
    failure::{FailureCause, ItemFailure},
    ids::{CallId, Generation, NodeId, WorkerId},
    payload::Parcel,
    placement::SlotKind,
};
use distfun_net::{
    link::Link,
    message::{self, Digest, Message},
    session::{SessionError, StreamId},
};
use tokio::sync::{Notify, oneshot};

use super::codec::Codec;
use crate::{
    events,
    job::{Load, SharedJob},
    pool::Pool,
};

/// Chunks at nodes may take longer than here, since handing back costs a round trip.
const REMOTE_BUDGET: Duration = Duration::from_millis(20);

enum State {
    Queued,
    AtWork,
    Sent(StreamId, Instant),
}

struct Out {
    generation: Generation,
    /// None if its call has ended.
    job: Option<SharedJob>,
    range: Range<usize>,
    kind: SlotKind,
    attempt: u32,
    retries: u32,
    state: State,
}

#[derive(Default)]
struct Table {
    out: HashMap<WorkerId, Out>,
    announced: HashSet<CallId>,
    /// Calls that read shared data, as long as they run, and which. Several may read the same.
    shared: HashMap<CallId, (Digest, SharedJob)>,
    /// Threads that pack or unpack.
    at_work: usize,
    /// The link has ended.
    is_over: bool,
    last_words: Option<oneshot::Sender<()>>,
    /// Chunks that were out when it ended.
    lost: usize,
}

/// One connection to one node.
pub(crate) struct Conversation {
    pub(crate) node: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) link: Arc<Link>,
    /// Whose engine is told what comes of each chunk.
    pool: Weak<Pool>,
    codec: Codec,
    table: Mutex<Table>,
    /// The node has no functions of its own, and was told of this program.
    ships: bool,
    /// Why the node can't run this program, and whether it may later.
    pub(crate) refusal: Mutex<Option<(String, bool)>>,
    /// The node takes no more chunks.
    pub(crate) is_draining: AtomicBool,
    /// What the node answered to `Shutdown`.
    pub(crate) shutdown_answer: Mutex<Option<Option<String>>>,
    pub(crate) answered: Notify,
    pub(crate) events: events::OfConversation,
}

impl Conversation {
    pub(crate) fn new(
        node: NodeId,
        name: Arc<str>,
        link: Arc<Link>,
        pool: &Arc<Pool>,
        codec: Codec,
        ships: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            name,
            link,
            pool: Arc::downgrade(pool),
            codec,
            table: Mutex::default(),
            ships,
            refusal: Mutex::default(),
            is_draining: AtomicBool::new(false),
            shutdown_answer: Mutex::default(),
            answered: Notify::new(),
            events: events::OfConversation::new(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, event: Event<SharedJob>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.step(event);
        }
    }

    fn node(&self, event: NodeEvent) {
        if let Some(pool) = self.pool.upgrade() {
            pool.node(self.node, event);
        }
    }

    // ---- from the engine

    /// A chunk for a lane.
    pub(crate) fn assign(self: &Arc<Self>, lane: WorkerId, generation: Generation, chunk: Chunk<SharedJob>) {
        let Chunk { handle, range, kind, attempt, retries, .. } = chunk;
        let mut table = self.table();
        if table.is_over {
            return; // the engine takes it back with all others
        }
        let Some(travel) = handle.travel() else {
            drop(table);
            let (this, call) = (self.clone(), handle.core().id);
            // In a thread of its own: the chunk goes to the next node, and each would be some frames deeper.
            return self.codec.run(move || {
                this.node(NodeEvent::Refuses(call));
                this.returned(lane, generation, range.start);
            });
        };
        // The hash of shared data takes a while the first time.
        let is_quick = travel.is_raw && handle.core().shared().is_hashed();
        let job = Some(handle.clone());
        let out = Out { generation, job, range, kind, attempt, retries, state: State::Queued };
        table.out.insert(lane, out);
        drop(table);
        if is_quick {
            return self.send(lane, generation);
        }
        let this = self.clone();
        self.codec.run(move || this.send(lane, generation));
    }

    /// The chunk of a lane is wanted back.
    pub(crate) fn recall(&self, lane: WorkerId, generation: Generation) {
        if !self.take_back(lane, generation) {
            let _ = self.link.send(&Message::Recall { lane: lane.0, turn: generation.0 }, Vec::new());
        }
    }

    /// The chunk of a lane is not wanted any more.
    pub(crate) fn revoke(&self, lane: WorkerId, generation: Generation) {
        if !self.take_back(lane, generation)
            && let Some(out) = self.table().out.get_mut(&lane).filter(|out| out.generation == generation)
        {
            // The answer, when it comes, frees the lane; nothing else is kept.
            let job = out.job.take();
            let is_sent = matches!(out.state, State::Sent(..));
            let start = out.range.start;
            if let Some(job) = job.filter(|_| is_sent) {
                self.codec.run(move || job.put_back(start, start));
            }
        }
    }

    /// Takes a chunk back that has not wholly left.
    fn take_back(&self, lane: WorkerId, generation: Generation) -> bool {
        let mut table = self.table();
        let Some(out) = table.out.get(&lane).filter(|out| out.generation == generation) else { return true };
        let was_sent = match out.state {
            State::AtWork => return false,
            State::Queued => false,
            State::Sent(stream, _) if self.link.abandon(stream) => true,
            State::Sent(..) => return false,
        };
        let Out { job, range, .. } = table.out.remove(&lane).expect("it was just there");
        drop(table);
        if was_sent && let Some(job) = job {
            job.put_back(range.start, range.start);
        }
        self.returned(lane, generation, range.start);
        true
    }

    fn returned(&self, lane: WorkerId, generation: Generation, reached: usize) {
        self.step(Event::ChunkDone(lane, generation, ChunkDone::nothing(reached)));
    }

    /// A call has ended.
    pub(crate) fn call_ended(&self, call: CallId, overdue: bool) {
        let mut table = self.table();
        let is_idle = !overdue && table.out.is_empty();
        let shared = table.shared.remove(&call);
        if table.announced.remove(&call) {
            // Under the lock, as calls are announced: a request for shared data that comes when no call reads it is not
            // answered, so the node must hear of the end of the last such call before the next one.
            let message = Message::CallEnded { call: call.0, overdue };
            // Nobody waits for it, unless something of the call may run there: then it is stopped at once.
            let _ =
                if is_idle { self.link.send_idly(&message) } else { self.link.send(&message, Vec::new()).map(|_| ()) };
        }
        drop(table);
        drop(shared); // perhaps the last handle of the call
    }

    // ---- on its way

    /// Packs the chunk of a lane and sends it.
    fn send(self: &Arc<Self>, lane: WorkerId, generation: Generation) {
        let mut table = self.table();
        let Some(out) = table.out.get_mut(&lane).filter(|out| out.generation == generation) else { return };
        if !matches!(out.state, State::Queued) {
            return;
        }
        let Some(job) = out.job.clone() else { return };
        out.state = State::AtWork;
        let (range, attempt) = (out.range.clone(), out.attempt);
        table.at_work += 1;
        let is_new = !table.announced.contains(&job.core().id);
        drop(table);
        if is_new {
            self.announce(&job);
        }
        match job.pack(&range) {
            Ok(load) => self.sent(lane, generation, &job, attempt, range.start, load),
            Err(cause) => {
                self.table().out.remove(&lane);
                // Columns go together.
                let count = if job.is_columns() { range.len() } else { 1 };
                job.core().note_counts(count, count);
                self.failed(lane, generation, &job, range.start..range.start + count, attempt, &cause);
            }
        }
        self.work_done();
    }

    fn item_timeout_us(&self) -> Option<u64> {
        let limit = self.pool.upgrade()?.settings.item_timeout?;
        Some(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX))
    }

    /// Tells a node that has no functions of its own what this program is.
    #[cfg(target_os = "linux")]
    pub(crate) fn introduce_program(&self) -> Result<(), String> {
        if !self.ships {
            return Ok(());
        }
        let program = crate::host::executable().ok_or("this program's own file can't be read")?;
        let message = program.message().ok_or("distfun::init() is not called")?;
        let _ = self.link.send_idly(&Message::Program(message)); // the end of the link tells
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn introduce_program(&self) -> Result<(), String> {
        if self.ships { Err("programs can be sent from Linux only".into()) } else { Ok(()) }
    }

    fn announce(self: &Arc<Self>, job: &SharedJob) {
        let core = job.core();
        let travel = job.travel().expect("it was asked before");
        let shared = core.shared().digest();
        core.known_at.add(Arc::downgrade(self));
        let call = message::Call {
            call: core.id.0,
            function: core.function.to_owned(),
            fingerprint: travel.fingerprint,
            schema: travel.schema.text().to_owned(),
            seed: core.seed,
            shared,
            is_lists: travel.is_lists,
            site: travel.site.to_owned(),
            item_timeout_us: self.item_timeout_us(),
            gpu: core.gpu_form.map(|form| message::GpuForm {
                function: form.name.to_owned(),
                fingerprint: form.fingerprint,
                site: form.site.to_owned(),
            }),
        };
        let mut table = self.table();
        if table.is_over {
            return;
        }
        // A chunk follows, and one write is enough for both.
        let _ = self.link.send_idly(&Message::Call(call));
        // Only now: who finds it announced sends chunks. That two announce it does no harm.
        table.announced.insert(core.id);
        let before = shared.and_then(|digest| table.shared.insert(core.id, (digest, job.clone())));
        drop(table);
        drop(before);
        if core.is_stopped() {
            // It has ended in between, and `call_ended` may have been here already.
            self.call_ended(core.id, false);
        }
    }

    fn sent(&self, lane: WorkerId, generation: Generation, job: &SharedJob, attempt: u32, start: usize, load: Load) {
        let Load { parcel: Parcel { head, sections }, end } = load;
        let mut table = self.table();
        let is_over = table.is_over;
        let Some(out) = table.out.get_mut(&lane).filter(|out| out.generation == generation) else { return };
        if is_over || out.job.is_none() {
            let revoked = table.out.remove(&lane).is_some_and(|_| !is_over);
            drop((table, sections));
            job.put_back(start, start);
            if revoked {
                self.returned(lane, generation, start);
            }
            return;
        }
        let message = Message::Chunk(message::Chunk {
            lane: lane.0,
            turn: generation.0,
            call: job.core().id.0,
            start: start as u64,
            count: (end - start) as u64,
            attempt,
            budget_us: REMOTE_BUDGET.as_micros() as u64,
            is_for_gpu: out.kind == SlotKind::Gpu,
            head,
        });
        match self.link.send(&message, sections) {
            Ok(stream) => {
                out.range.end = end;
                out.state = State::Sent(stream, Instant::now());
                let chunk = (out.range.clone(), attempt);
                drop(table);
                events::chunk_dispatched(self, &self.pool, job, chunk.0, chunk.1);
            }
            Err(SessionError::Ended | SessionError::PeerDoesNotRead { .. }) => {
                // Not the items' fault: the connection is about to end, and gives this chunk back with all others.
                out.state = State::Queued;
                drop(table);
                job.put_back(start, start);
            }
            Err(error) => {
                let range = start..end;
                table.out.remove(&lane);
                drop(table);
                job.put_back(start, end);
                let message = format!("its arguments could not be sent to {}: {error}", self.name);
                let cause = FailureCause::Payload { message: message.into() };
                self.failed(lane, generation, job, range, attempt, &cause);
            }
        }
    }

    /// Items that never left have failed.
    fn failed(
        &self,
        lane: WorkerId,
        generation: Generation,
        job: &SharedJob,
        range: Range<usize>,
        attempt: u32,
        cause: &FailureCause,
    ) {
        let one = |index| ItemFailure::new(index, None, attempt, cause.clone()).on(self.name.clone());
        let done = ChunkDone {
            first_failure: job.core().stops_at_failure().then_some(range.start),
            failures: range.clone().map(one).collect(),
            ..ChunkDone::nothing(range.end)
        };
        self.step(Event::ChunkDone(lane, generation, done));
    }

    // ---- the end

    /// The link has ended. Resolves when everything that was out has come back; then the engine may be told.
    pub(crate) fn end(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        table.is_over = true;
        table.last_words = Some(sender);
        table.announced.clear();
        table.lost = table.out.len();
        let shared = std::mem::take(&mut table.shared);
        // Those at work are looked after by who works at them.
        let (back, stay) =
            std::mem::take(&mut table.out).into_iter().partition(|(_, out)| !matches!(out.state, State::AtWork));
        table.out = stay;
        table.at_work += 1;
        drop(table);
        drop(shared);
        let back: HashMap<WorkerId, Out> = back;
        for out in back.into_values() {
            if let (Some(job), State::Sent(..)) = (out.job, out.state) {
                job.put_back(out.range.start, out.range.start);
            }
        }
        self.work_done();
        receiver
    }

    fn work_done(&self) {
        let mut table = self.table();
        table.at_work -= 1;
        if table.at_work == 0
            && let Some(sender) = table.last_words.take()
        {
            let _ = sender.send(());
        }
    }

    /// Chunks that are out.
    pub(crate) fn chunks(&self) -> usize {
        self.table().out.len()
    }

    /// Chunks that were out when the connection ended.
    pub(crate) fn chunks_lost(&self) -> usize {
        self.table().lost
    }
}
