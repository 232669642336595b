//! What time alone brings to light: snapshots, progress, chunks that take too long, calls that wait for nothing.
//!
//! Whoever owns an engine looks once a second while it is busy, and then only when [`Watch::next`] says. How much is
//! said depends on time and on the number of workers and calls, never on the number of chunks.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ChunkSlow, JobProgress, ManagerResumed, ManagerStalled, ManagerState, SupervisionEvent, WorkerState, seconds,
};
use crate::{
    engine::{Activity, CallStatus, EngineStatus, NodeState, SlotStatus, Time},
    ids::CallId,
    placement::Placement,
};

/// Between two looks while anything runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const STATE_EVERY_BUSY: Duration = Duration::from_secs(10);
const STATE_EVERY_IDLE: Duration = Duration::from_secs(60);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Shorter calls say nothing between their start and their end.
const PROGRESS_FROM: Duration = Duration::from_secs(1);
/// A worker that has run a chunk for this long says so, and again as often.
const WORKER_EVERY: Duration = Duration::from_secs(10);
/// Lines of one kind in one look: 50 in 10 s.
const AT_ONCE: usize = 5;
const STALLED_FROM: Duration = Duration::from_secs(1);

/// One thing that a look has brought to light.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "named as the events they are")]
pub enum Noted {
    State(ManagerState<'static>),
    Stalled(ManagerStalled<'static>),
    Resumed(ManagerResumed<'static>),
    Worker(WorkerState<'static>),
    Slow(ChunkSlow<'static>),
    Progress(JobProgress<'static>),
}

impl Noted {
    /// Hands it to the subscriber.
    pub fn emit(&self) {
        match self {
            Self::State(event) => event.emit(),
            Self::Stalled(event) => event.emit(),
            Self::Resumed(event) => event.emit(),
            Self::Worker(event) => event.emit(),
            Self::Slow(event) => event.emit(),
            Self::Progress(event) => event.emit(),
        }
    }
}

/// What has been counted since somebody listens.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "named as the fields of `ManagerState`")]
pub struct Totals {
    pub jobs_finished: u64,
    pub chunks_done: u64,
    pub chunks_failed: u64,
    pub chunks_retried: u64,
}

/// Looks at one engine from time to time.
#[derive(Debug)]
pub struct Watch {
    manager_id: u64,
    state_at: Time,
    is_busy: bool,
    calls: BTreeMap<CallId, SeenCall>,
    slots: Vec<SeenChunk>,
    stalled_since: Option<Time>,
    is_stall_told: bool,
}

/// What was said about a call.
#[derive(Debug)]
struct SeenCall {
    at: Time,
    quarter: usize,
}

/// What was said about the chunk in a slot.
#[derive(Debug, Clone, Default)]
struct SeenChunk {
    /// Which chunk: it began then.
    since: Time,
    told_at: Option<Time>,
    is_slow_told: bool,
}

impl Watch {
    /// Begins to watch the engine of this Manager.
    pub fn new(manager_id: u64, now: Time) -> Self {
        Self {
            manager_id,
            state_at: now,
            is_busy: false,
            calls: BTreeMap::new(),
            slots: Vec::new(),
            stalled_since: None,
            is_stall_told: false,
        }
    }

    /// Whether anything runs or waits, as of the last look.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// The time until the next look.
    pub fn next(&self, now: Time) -> Duration {
        match self.is_busy {
            true => LOOK_EVERY,
            false => (self.state_at + STATE_EVERY_IDLE).saturating_sub(now).max(LOOK_EVERY),
        }
    }

    /// Looks, and says what is to be said.
    pub fn look(&mut self, status: &EngineStatus, totals: Totals) -> Vec<Noted> {
        let now = status.at;
        let mut noted = Vec::new();
        let runs = |slot: &SlotStatus| matches!(slot.activity, Activity::Busy { .. });
        self.is_busy = !status.calls.is_empty() || status.slots.iter().any(runs);
        self.stall(status, &mut noted);
        self.chunks(status, &mut noted);
        self.progress(status, &mut noted);
        let every = if self.is_busy { STATE_EVERY_BUSY } else { STATE_EVERY_IDLE };
        if now.saturating_sub(self.state_at) >= every {
            self.state_at = now;
            noted.push(Noted::State(self.state(status, totals)));
        }
        noted
    }

    fn stall(&mut self, status: &EngineStatus, noted: &mut Vec<Noted>) {
        let now = status.at;
        let gets_on =
            |slot: &SlotStatus| matches!(slot.activity, Activity::Busy { call, .. } if find(status, call).is_some());
        // A stream whose consumer takes its time has nothing to do, and neither have calls whose items wait to be tried
        // again.
        let has_chunks = status.nodes.iter().any(|node| node.state == NodeState::Up && node.chunks > 0);
        let deferred = status.calls.iter().map(|call| call.deferred as u64).sum();
        if pending(status) <= deferred || has_chunks || status.slots.iter().any(gets_on) {
            let since = self.stalled_since.take();
            if std::mem::take(&mut self.is_stall_told)
                && let Some(since) = since
            {
                let stalled_s = seconds(now.saturating_sub(since));
                noted.push(Noted::Resumed(ManagerResumed { manager_id: self.manager_id, stalled_s }));
            }
            return;
        }
        let stalled = now.saturating_sub(*self.stalled_since.get_or_insert(now));
        if stalled >= STALLED_FROM && !self.is_stall_told {
            self.is_stall_told = true;
            let is_stuck = |slot: &SlotStatus| matches!(slot.activity, Activity::Busy { .. });
            let is_any_stuck = status.slots.iter().any(is_stuck);
            noted.push(Noted::Stalled(ManagerStalled {
                manager_id: self.manager_id,
                stall_reason: match is_any_stuck {
                    _ if status.placement == Placement::Undecided => "undecided",
                    true => "workers_stuck",
                    false if status.slots.is_empty() => "no_nodes",
                    false => "no_workers",
                },
                jobs_active: status.calls.len() as u64,
                items_pending: pending(status),
                stalled_s: seconds(stalled),
            }));
        }
    }

    fn chunks(&mut self, status: &EngineStatus, noted: &mut Vec<Noted>) {
        let now = status.at;
        self.slots.resize(status.slots.len(), SeenChunk::default());
        let mut long = Vec::new();
        for (at, (slot, seen)) in status.slots.iter().zip(&mut self.slots).enumerate() {
            let Activity::Busy { call, items, running_for } = &slot.activity else { continue };
            let since = now.saturating_sub(*running_for);
            if seen.since != since {
                *seen = SeenChunk { since, ..SeenChunk::default() };
            }
            let call = find(status, *call);
            if let Some(call) = call
                && *running_for > call.slow_after
                && !std::mem::replace(&mut seen.is_slow_told, true)
            {
                noted.push(Noted::Slow(ChunkSlow {
                    manager_id: self.manager_id,
                    job_id: call.id.0,
                    function: call.function,
                    chunk_index: items.start as u64,
                    chunk_items: items.len() as u64,
                    worker_id: slot.worker.0.into(),
                    worker_generation: slot.generation.0.into(),
                    running_s: seconds(*running_for),
                    median_s: call.median.map(seconds),
                }));
            }
            let last = seen.told_at.unwrap_or(since);
            if now.saturating_sub(last) >= WORKER_EVERY {
                long.push((last, at));
            }
        }
        long.sort_unstable();
        for &(_, at) in long.iter().take(AT_ONCE) {
            self.slots[at].told_at = Some(now);
            let slot = &status.slots[at];
            let Activity::Busy { call, items, running_for } = &slot.activity else { continue };
            noted.push(Noted::Worker(WorkerState {
                manager_id: self.manager_id,
                worker_id: slot.worker.0.into(),
                worker_generation: slot.generation.0.into(),
                worker_state: "busy",
                running_s: Some(seconds(*running_for)),
                job_id: Some(call.0),
                function: find(status, *call).map(|call| call.function),
                chunk_index: Some(items.start as u64),
                chunk_items: Some(items.len() as u64),
            }));
        }
    }

    fn progress(&mut self, status: &EngineStatus, noted: &mut Vec<Noted>) {
        let now = status.at;
        self.calls.retain(|&id, _| find(status, id).is_some());
        let mut due = Vec::new();
        for call in status.calls.iter().filter(|call| call.running_for >= PROGRESS_FROM) {
            let submitted = now.saturating_sub(call.running_for);
            let seen = self.calls.entry(call.id).or_insert(SeenCall { at: submitted, quarter: 0 });
            if quarter(call) > seen.quarter || now.saturating_sub(seen.at) >= PROGRESS_EVERY {
                due.push((seen.at, call));
            }
        }
        due.sort_by_key(|&(last, call)| (last, call.id));
        for (_, call) in due.into_iter().take(AT_ONCE) {
            self.calls.insert(call.id, SeenCall { at: now, quarter: quarter(call) });
            let running_s = seconds(call.running_for);
            let left = call.items.saturating_sub(call.done) as f64;
            noted.push(Noted::Progress(JobProgress {
                manager_id: self.manager_id,
                job_id: call.id.0,
                function: call.function,
                items_total: call.items as u64,
                items_done: call.done as u64,
                items_failed: call.failed as u64,
                chunks_done: call.chunks,
                running_s,
                rate_per_s: rounded(call.done as f64 / running_s),
                eta_s: (call.done > 0 && !call.is_open).then(|| rounded(running_s * left / call.done as f64)),
            }));
        }
    }

    fn state(&self, status: &EngineStatus, totals: Totals) -> ManagerState<'static> {
        let mut state = ManagerState {
            manager_id: self.manager_id,
            uptime_s: seconds(status.at),
            jobs_active: status.calls.len() as u64,
            jobs_finished: totals.jobs_finished,
            items_pending: pending(status),
            chunks_done: totals.chunks_done,
            chunks_failed: totals.chunks_failed,
            chunks_retried: totals.chunks_retried,
            ..ManagerState::default()
        };
        for slot in &status.slots {
            *match slot.activity {
                Activity::Starting => &mut state.workers_restarting,
                Activity::Idle => &mut state.workers_available,
                Activity::Busy { .. } => &mut state.workers_busy,
                Activity::GaveUp | Activity::Released => &mut state.workers_offline,
            } += 1;
        }
        state.chunks_running = state.workers_busy + status.nodes.iter().map(|node| node.chunks as u64).sum::<u64>();
        if !status.nodes.is_empty() {
            let up = status.nodes.iter().filter(|node| node.state == NodeState::Up).count() as u64;
            (state.nodes_up, state.nodes_lost) = (Some(up), Some(status.nodes.len() as u64 - up));
        }
        state
    }
}

/// How many quarters of the items are done, but for the last.
fn quarter(call: &CallStatus) -> usize {
    if call.is_open {
        return 0; // of a number that nobody knows yet
    }
    (1..=3).filter(|quarter| call.done / quarter >= call.items.div_ceil(4)).count()
}

fn pending(status: &EngineStatus) -> u64 {
    status.calls.iter().map(|call| call.items.saturating_sub(call.done) as u64).sum()
}

fn find(status: &EngineStatus, id: CallId) -> Option<&CallStatus> {
    let at = status.calls.binary_search_by_key(&id, |call| call.id).ok()?;
    Some(&status.calls[at])
}

/// Three digits after the point are enough for people, and for plots.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{CallSpec, Chunk, ChunkDone, Command, Engine, Event, Limits, Priority, Retries, Shape},
        failure::Ending,
        ids::{Generation, WorkerId},
    };

    fn at(s: f64) -> Time {
        Duration::from_secs_f64(s)
    }

    /// An engine whose slots are idle, and who watches it.
    fn watched(slots: usize) -> (Engine<u64>, Watch) {
        let mut engine = Engine::new(Limits { slots, gpus: 0, max_calls: 1000 });
        for slot in 0..slots as u32 {
            engine.step(Time::ZERO, Event::SlotReady(WorkerId(slot), Generation(0)));
        }
        (engine, Watch::new(1, Time::ZERO))
    }

    fn spec(id: u64, items: usize) -> CallSpec<u64> {
        CallSpec {
            id: CallId(id),
            handle: id,
            function: "f",
            items,
            is_open: false,
            shape: Shape::Items,
            only: None,
            priority: Priority::Normal,
            stops_at_failure: false,
            retries: Retries::NONE,
            ends_engine: false,
        }
    }

    fn submit(engine: &mut Engine<u64>, now: Time, id: u64, items: usize) -> Vec<(WorkerId, Chunk<u64>)> {
        chunks(engine.step(now, Event::Submit(spec(id, items))))
    }

    fn chunks(commands: impl IntoIterator<Item = Command<u64>>) -> Vec<(WorkerId, Chunk<u64>)> {
        let one = |command| match command {
            Command::Assign(slot, _, chunk) => Some((slot, chunk)),
            _ => None,
        };
        commands.into_iter().filter_map(one).collect()
    }

    fn done(engine: &mut Engine<u64>, now: Time, slot: WorkerId, reached: usize, took: f64) {
        let done = ChunkDone { elapsed: at(took), ..ChunkDone::nothing(reached) };
        engine.step(now, Event::ChunkDone(slot, Generation(0), done));
    }

    /// Looks once a second from `from` to `to`.
    fn look(engine: &Engine<u64>, watch: &mut Watch, from: u32, to: u32) -> Vec<(u32, Noted)> {
        let one = |second: u32| {
            let now = at(second.into());
            watch.look(&engine.status(now), Totals::default()).into_iter().map(move |noted| (second, noted))
        };
        (from..=to).flat_map(one).collect()
    }

    fn when(noted: &[(u32, Noted)], which: impl Fn(&Noted) -> bool) -> Vec<u32> {
        noted.iter().filter(|(_, noted)| which(noted)).map(|&(second, _)| second).collect()
    }

    #[test]
    fn snapshots_come_every_ten_seconds_while_busy_and_every_minute_else() {
        let (mut engine, mut watch) = watched(2);
        let is_state = |noted: &Noted| matches!(noted, Noted::State(_));
        let idle = look(&engine, &mut watch, 0, 130);
        assert_eq!(when(&idle, is_state), [60, 120]);
        assert_eq!(watch.next(at(130.0)), at(50.0));
        submit(&mut engine, at(130.0), 1, 100);
        let busy = look(&engine, &mut watch, 131, 155);
        assert_eq!(when(&busy, is_state), [131, 141, 151]);
        assert_eq!(watch.next(at(155.0)), at(1.0));
        let Some((_, Noted::State(state))) = busy.iter().find(|(_, noted)| is_state(noted)) else { panic!() };
        assert_eq!((state.jobs_active, state.workers_busy, state.items_pending), (1, 2, 100));
    }

    #[test]
    fn a_chunk_is_slow_once_after_ten_seconds_and_its_worker_says_every_ten_that_it_runs() {
        let (mut engine, mut watch) = watched(1);
        submit(&mut engine, at(1.0), 1, 1);
        let noted = look(&engine, &mut watch, 1, 45);
        assert_eq!(when(&noted, |noted| matches!(noted, Noted::Slow(_))), [12], "longer than ten");
        assert_eq!(when(&noted, |noted| matches!(noted, Noted::Worker(_))), [11, 21, 31, 41]);
    }

    #[test]
    fn slow_is_measured_by_the_call_s_own_median() {
        let (mut engine, mut watch) = watched(1);
        submit(&mut engine, Time::ZERO, 1, 100);
        done(&mut engine, at(4.0), WorkerId(0), 1, 4.0);
        let noted = look(&engine, &mut watch, 5, 40);
        let slow: Vec<_> = noted.iter().filter(|(_, noted)| matches!(noted, Noted::Slow(_))).collect();
        let [(25, Noted::Slow(slow))] = slow[..] else { panic!("{slow:?}") };
        assert_eq!((slow.running_s, slow.median_s), (21.0, Some(4.0)));
    }

    #[test]
    fn hundreds_of_long_chunks_say_fifty_lines_in_ten_seconds_and_every_one_its_turn() {
        let (mut engine, mut watch) = watched(200);
        submit(&mut engine, Time::ZERO, 1, 10_000);
        let noted = look(&engine, &mut watch, 1, 60);
        let is_worker = |noted: &Noted| matches!(noted, Noted::Worker(_));
        for from in 10..50 {
            let lines = when(&noted, is_worker).into_iter().filter(|second| (from..from + 10).contains(second)).count();
            assert_eq!(lines, 50);
        }
        let mut workers: Vec<u64> = Vec::new();
        for (_, noted) in &noted {
            if let Noted::Worker(state) = noted {
                workers.push(state.worker_id);
            }
        }
        workers.truncate(200);
        workers.sort_unstable();
        assert_eq!(workers, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn progress_comes_every_five_seconds_and_at_each_quarter() {
        let (mut engine, mut watch) = watched(1);
        submit(&mut engine, Time::ZERO, 1, 100);
        let is_progress = |noted: &Noted| matches!(noted, Noted::Progress(_));
        assert_eq!(when(&look(&engine, &mut watch, 0, 11), is_progress), [5, 10]);
        done(&mut engine, at(11.0), WorkerId(0), 50, 0.1);
        let noted = look(&engine, &mut watch, 12, 16);
        assert_eq!(when(&noted, is_progress), [12], "two quarters at once");
        let Some((_, Noted::Progress(progress))) = noted.iter().find(|(_, noted)| is_progress(noted)) else { panic!() };
        assert!(progress.items_done == 50 && progress.eta_s.is_some(), "{progress:?}");
    }

    #[test]
    fn quarters_are_told_once_each() {
        let call = |done, items| CallStatus { done, items, ..engine_status().calls[0].clone() };
        for (done, items, quarters) in
            [(0, 100, 0), (24, 100, 0), (25, 100, 1), (50, 100, 2), (75, 100, 3), (99, 100, 3), (1, 3, 1), (0, 1, 0)]
        {
            assert_eq!(quarter(&call(done, items)), quarters, "{done} of {items}");
        }
    }

    fn engine_status() -> EngineStatus {
        let (mut engine, _) = watched(1);
        submit(&mut engine, Time::ZERO, 1, 1);
        engine.status(Time::ZERO)
    }

    #[test]
    fn calls_that_wait_for_workers_inside_ended_calls_are_a_stall_until_one_gets_on() {
        let (mut engine, mut watch) = watched(1);
        submit(&mut engine, Time::ZERO, 1, 1);
        engine.step(at(1.0), Event::Cancel(CallId(1), Ending::Cancelled));
        assert!(submit(&mut engine, at(1.0), 2, 7).is_empty());
        let noted = look(&engine, &mut watch, 2, 6);
        let [(3, Noted::Stalled(stalled)), ..] = noted[..] else { panic!("{noted:?}") };
        assert_eq!((stalled.stall_reason, stalled.items_pending, stalled.stalled_s), ("workers_stuck", 7, 1.0));
        assert_eq!(when(&noted, |noted| matches!(noted, Noted::Stalled(_))).len(), 1);
        done(&mut engine, at(6.5), WorkerId(0), 1, 6.5);
        let noted = look(&engine, &mut watch, 7, 9);
        let [(7, Noted::Resumed(resumed)), ..] = noted[..] else { panic!("{noted:?}") };
        assert_eq!(resumed.stalled_s, 5.0);
    }

    #[test]
    fn a_stream_that_waits_for_its_consumer_is_no_stall() {
        let mut engine: Engine<u64> = Engine::new(Limits { slots: 1, gpus: 0, max_calls: 9 });
        engine.step(Time::ZERO, Event::SlotReady(WorkerId(0), Generation(0)));
        engine.step(Time::ZERO, Event::Submit(CallSpec { is_open: true, ..spec(1, 0) }));
        let noted = look(&engine, &mut Watch::new(1, Time::ZERO), 1, 60);
        assert!(!noted.iter().any(|(_, noted)| matches!(noted, Noted::Stalled(_))), "{noted:?}");
    }

    #[test]
    fn calls_without_any_thread_are_a_stall_too() {
        let mut engine: Engine<u64> = Engine::new(Limits { slots: 1, gpus: 0, max_calls: 9 });
        submit(&mut engine, Time::ZERO, 1, 1);
        let noted = look(&engine, &mut Watch::new(1, Time::ZERO), 1, 2);
        assert!(
            matches!(noted[..], [(2, Noted::Stalled(ManagerStalled { stall_reason: "no_workers", .. }))]),
            "{noted:?}"
        );
    }
}
