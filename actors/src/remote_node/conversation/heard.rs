//! What the node says: results, refusals, wishes for shared data.

use std::{
    ops::Range,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use distfun_core::{
    engine::{Blame, ChunkDone, Death, Event, NodeEvent, Sentence, Stage},
    event::capped,
    failure::{FailureCause, ItemFailure, WorkerExit},
    ids::{CallId, Generation, WorkerId},
    payload::{RawVec, Received, Section},
    shared_data::ElementType,
};
use distfun_net::{
    message::{self, Died, Digest, Done, Message, Refusal},
    session::{Incoming, StreamId},
};

use super::{Conversation, Out, State};
#[cfg(target_os = "linux")]
use crate::host;
use crate::{
    events::{self, Answered},
    failures::unpacked,
    job::{Arrived, SharedJob},
    node::{PIECE_BYTES, PIECES_AHEAD},
    remote_node::own_credentials,
};

impl Conversation {
    /// Takes in what the node says.
    pub(crate) fn hear(self: &Arc<Self>, incoming: Incoming) {
        let Incoming { message, sections, bytes, .. } = incoming;
        match message {
            Message::Done(done) => return self.done(done, sections, bytes),
            Message::Refused { call, refusal } => self.refused(CallId(call), &refusal),
            Message::BlobWanted { digest, offset } => self.blob_wanted(digest, offset),
            Message::BlobThere { digest } => self.blob_there(&digest),
            Message::Draining { .. } => {
                self.is_draining.store(true, Ordering::Relaxed);
                events::node_draining(self, &self.pool);
                self.node(NodeEvent::Pause(true));
            }
            Message::Output(output) => self.output(&output),
            Message::ProgramReady { .. } => {}
            Message::ProgramRefused { reason } => self.program_refused(reason, false),
            Message::ProgramHindered { reason } => self.program_refused(reason, true),
            Message::GpusRefused { reason } => self.gpus_refused(&reason),
            Message::ShutdownAnswer { stays } => {
                *self.shutdown_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(stays);
                self.answered.notify_waiters();
            }
            Message::Revoked { list } => drop(own_credentials().learn(&list)),
            // What only Managers say, or the session has dealt with.
            _ => {}
        }
        self.link.consumed(bytes);
    }

    fn done(self: &Arc<Self>, mut done: Done, sections: Vec<RawVec>, bytes: u64) {
        let (lane, generation) = (WorkerId(done.lane), Generation(done.turn));
        let mut table = self.table();
        let is_it = |out: &Out| out.generation == generation && matches!(out.state, State::Sent(..));
        if !table.out.get(&lane).is_some_and(is_it) {
            drop((table, sections));
            return self.link.consumed(bytes); // late: it was taken back, or is not ours
        }
        let Out { job, range, attempt, retries, state, .. } = table.out.remove(&lane).expect("it was just there");
        table.at_work += 1;
        drop(table);
        if let State::Sent(stream, since) = state {
            // Nothing can have taken longer than since it was sent.
            done.elapsed_us = done.elapsed_us.min(since.elapsed().as_micros() as u64);
            // A node that answers before it has all of the chunk gets no more of it: its items could not come back
            // before they have left.
            if stream != StreamId::NONE {
                self.link.abandon(stream);
            }
        }
        let Some(job) = job else {
            drop(sections);
            self.link.consumed(bytes);
            self.returned(lane, generation, range.start);
            return self.work_done();
        };
        let is_raw = job.travel().is_some_and(|travel| travel.is_raw);
        if let Some(spares) = job.spares() {
            self.link.read_into(spares);
        }
        let results = Received { head: Vec::new(), sections };
        if is_raw {
            self.arrived(lane, generation, &job, range, (attempt, retries), done, results, bytes);
        } else {
            let this = self.clone();
            let tries = (attempt, retries);
            self.codec.run(move || this.arrived(lane, generation, &job, range, tries, done, results, bytes));
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what is known about one chunk, used once")]
    fn arrived(
        &self,
        lane: WorkerId,
        generation: Generation,
        job: &SharedJob,
        range: Range<usize>,
        (attempt, retries): (u32, u32),
        done: Done,
        mut results: Received,
        bytes: u64,
    ) {
        let Done { reached, failures, elapsed_us, worker, mut died, head, .. } = done;
        results.head = head;
        let mut reached = (reached as usize).clamp(range.start, range.end);
        let worker = worker.map(WorkerId);
        let one =
            |index: usize, cause: FailureCause| ItemFailure::new(index, worker, attempt, cause).on(self.name.clone());
        let mut failures: Vec<ItemFailure> = failures
            .into_iter()
            .filter(|failure| (range.start..reached).contains(&(failure.index as usize)))
            .map(|failure| one(failure.index as usize, unpacked(failure.cause, 0)))
            .collect();
        failures.sort_by_key(|failure| failure.index);
        failures.dedup_by_key(|failure| failure.index);
        let failed: Vec<usize> = failures.iter().map(|failure| failure.index).collect();
        let (mut again, mut failures) = job.core().sort(retries, failures);
        let arrived = Arrived {
            start: range.start,
            reached,
            failed: &failed,
            again: &again,
            results,
            worker,
            machine: Some(&self.name),
            attempt,
            retries,
        };
        let mut first_failure = None;
        match job.unpack(arrived) {
            Ok(unpacked) if unpacked.are_back => {
                (reached, died) = (range.start, None);
                (failures, again) = (Vec::new(), Vec::new());
            }
            Ok(unpacked) => {
                first_failure = unpacked.first_error;
                failures.extend(unpacked.failed.into_iter().map(|(index, cause)| one(index, cause)));
                failures.extend(unpacked.erred);
                again.extend(unpacked.again);
            }
            Err(cause) => {
                failures = (range.start..reached).map(|index| one(index, cause.clone())).collect();
                again = Vec::new();
            }
        }
        self.link.consumed(bytes);
        if job.core().stops_at_failure() {
            let failed = failures.iter().map(|failure| failure.index).min();
            first_failure = first_failure.into_iter().chain(failed).min();
        }
        let elapsed = Duration::from_micros(elapsed_us);
        let (start, end, told) = (range.start, range.end, &failures);
        let answered = Answered { job, range, reached, attempt, failures: told, first_failure, elapsed };
        events::chunk_answered(self, &self.pool, answered);
        job.core().note_counts(reached - start - again.len(), failures.len());
        if let Some(died) = died {
            events::node_worker_died(self, &self.pool, job, &(start..end), worker, &died);
            let takes_blocks = job.is_columns() || job.travel().is_some_and(|travel| travel.is_lists);
            let away = Some((worker, self.name.clone()));
            let overdue = |index| {
                let cause = FailureCause::TimedOut { limit: self.item_timeout() };
                job.core().overdue(retries, one(index, cause))
            };
            let blame = blame(died, start..end, takes_blocks, overdue);
            let blame = blame.map(|blame| Blame { away, ..blame });
            let stage = Stage::after(start, reached);
            let death = Death { reached, stage, failures, again, first_failure, blame };
            self.step(Event::ChunkLost(lane, generation, death));
        } else {
            let done = ChunkDone { reached, failures, again, first_failure, elapsed, is_unopened: false };
            self.step(Event::ChunkDone(lane, generation, done));
        }
        self.work_done();
    }

    /// Sends some pieces of this very program.
    #[cfg(target_os = "linux")]
    fn send_program(&self, program: &host::Executable, offset: u64) {
        let (digest, total) = (program.digest, program.bytes);
        let mut at = offset;
        for _ in 0..PIECES_AHEAD {
            if at >= total {
                return;
            }
            let end = total.min(at + PIECE_BYTES);
            let piece = match program.piece(at..end) {
                Ok(piece) => piece,
                Err(error) => return self.link.close(&format!("the program can't be read: {error}")),
            };
            let section = Section { element: ElementType::U8, bytes: piece.into() };
            if self.link.send(&Message::BlobPiece { digest, offset: at, total }, vec![section]).is_err() {
                return; // the end of the link tells
            }
            self.events.sent(end - at);
            at = end;
        }
    }

    /// A function has written a line there.
    fn output(&self, output: &message::Output) {
        let Some(pool) = self.pool.upgrade() else { return };
        let call = CallId(output.call);
        let function = self.table().out.values().find_map(|out| {
            let core = out.job.as_ref()?.core();
            (core.id == call).then_some(core.function)
        });
        events::node_output(self, &pool, function, output);
    }

    fn program_refused(&self, reason: String, is_passing: bool) {
        if let Some(pool) = self.pool.upgrade() {
            pool.nodes.note(self.node, &reason);
            events::node_rejected(&pool, &self.name, &reason, "program", !is_passing);
        }
        // That it is lost is told when the connection has ended, and what it had has come back.
        self.node(NodeEvent::Pause(true));
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some((reason, is_passing));
        self.link.close("the node can't run this program");
    }

    fn gpus_refused(&self, reason: &str) {
        let Some(pool) = self.pool.upgrade() else { return };
        tracing::warn!(machine = &*self.name, reason = capped(reason), "the GPUs of a node are not used");
        pool.note_unstarted(reason);
        pool.nodes.refuse_gpus(self.node);
        // What it has comes back, and it is connected anew without them.
        self.link.close("the node's GPUs can't be used");
    }

    fn item_timeout(&self) -> Duration {
        self.pool.upgrade().and_then(|pool| pool.settings.item_timeout).unwrap_or_default()
    }

    fn refused(&self, call: CallId, refusal: &Refusal) {
        let Some(pool) = self.pool.upgrade() else { return };
        let job = self.table().out.values().find_map(|out| out.job.clone().filter(|job| job.core().id == call));
        let text = why_refused(refusal, job.as_ref());
        pool.nodes.note(self.node, &text);
        if let Some(job) = &job {
            events::node_refuses(self, &pool, job, &text);
        }
        self.node(NodeEvent::Refuses(call));
    }

    /// A call that reads this shared data.
    fn reader_of(&self, digest: &Digest) -> Option<SharedJob> {
        let table = self.table();
        table.shared.values().find(|(of, _)| of == digest).map(|(_, job)| job.clone())
    }

    fn blob_there(&self, digest: &Digest) {
        if let Some(job) = self.reader_of(digest) {
            let core = job.core();
            events::blob_there(self, &self.pool, digest, core.shared().image().len(), core.started);
        }
    }

    fn blob_wanted(self: &Arc<Self>, digest: Digest, offset: u64) {
        #[cfg(target_os = "linux")]
        if let Some(program) = host::executable().filter(|program| program.digest == digest) {
            let this = self.clone();
            return self.codec.run(move || this.send_program(program, offset));
        }
        let Some(job) = self.reader_of(&digest) else { return }; // its calls have ended
        let image = job.core().shared().image();
        let (total, mut at) = (image.len(), offset);
        for _ in 0..PIECES_AHEAD {
            if at >= total {
                return;
            }
            let end = total.min(at + PIECE_BYTES);
            let section = Section { element: ElementType::U8, bytes: image.bytes(at..end) };
            if self.link.send(&Message::BlobPiece { digest, offset: at, total }, vec![section]).is_err() {
                return; // the end of the link tells
            }
            self.events.sent(end - at);
            at = end;
        }
    }
}

/// Whose fault it is that a worker died there, or was stopped. Nothing that the node says goes beyond the chunk.
fn blame(
    died: Died,
    chunk: Range<usize>,
    takes_blocks: bool,
    overdue: impl FnOnce(usize) -> Sentence,
) -> Option<Blame> {
    let first = usize::try_from(died.first).unwrap_or(usize::MAX);
    let last = first.saturating_add(usize::try_from(died.count).unwrap_or(usize::MAX));
    let mut items = first.max(chunk.start)..last.min(chunk.end);
    if died.count == 0 {
        return None;
    }
    if items.is_empty() {
        items = chunk; // of items that it does not have: it may be any that it has
    }
    let exit = died.exit.map(|exit| WorkerExit::new(exit.signal, exit.story, exit.stderr));
    let sentence = match died.is_overdue && (takes_blocks || items.len() == 1) {
        true => overdue(items.start),
        false => Sentence::Again(exit),
    };
    Some(Blame { items, sentence, away: None })
}

/// What to tell people of a call that a node refused; none of its chunks may be out any more.
fn why_refused(refusal: &Refusal, job: Option<&SharedJob>) -> String {
    let function = job.map_or("this function", |job| job.core().function);
    match refusal {
        Refusal::NoSuchFunction { closest } => {
            let hint = closest.as_ref().map_or(String::new(), |name| format!("; it offers {name}"));
            format!("it offers no function {function}{hint}; add .offer(function!(…)) there")
        }
        Refusal::Differs { schema, version } => {
            let Some(travel) = job.and_then(|job| job.travel()) else {
                return format!("its function has other types: {schema}");
            };
            let ours = travel.schema.text();
            let difference = distfun_core::function::difference(ours, schema);
            if difference.is_empty() {
                return format!(
                    "its closure {function} is of another build, where this place may be another closure; give it a name \
                     (fn), or run one build on both"
                );
            }
            let here = env!("CARGO_PKG_VERSION");
            format!(
                "its {function} has other types ({difference}): {ours} here, {schema} there (distfun {here} and {version}); \
                 build both from the same source"
            )
        }
        Refusal::NoTimeouts => {
            "it can't stop an item that runs too long, as item_timeout wants: its functions run on threads \
             of a program that offers them; leave item_timeout out, or let `distfun node` serve there"
                .into()
        }
        Refusal::SharedData { reason } => format!("it can't keep the shared data: {reason}"),
    }
}
