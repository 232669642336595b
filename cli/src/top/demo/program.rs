//! A program of the story: lanes that compute chunks of calls, and what it says of that.

use serde_json::json;

use super::{Log, Who};

/// A slot of this machine or of a node.
pub(super) struct Lane {
    /// Worker, or node.
    pub(super) id: u64,
    /// The machine of the node.
    pub(super) machine: Option<&'static str>,
    /// It computes nothing before.
    pub(super) up_from: f64,
    /// How often the worker was replaced.
    pub(super) generation: u64,
    pub(super) work: Option<Work>,
    pub(super) chunks: u64,
    pub(super) busy_s: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) call: usize,
    pub(super) index: u64,
    pub(super) items: u64,
    pub(super) attempt: u64,
    pub(super) start: f64,
    pub(super) end: f64,
    /// How it fails, if it does.
    fails: Option<&'static str>,
}

/// A call that is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) function: &'static str,
    pub(super) items: u64,
    pub(super) items_of_chunk: u64,
    /// Seconds for a chunk, at least and at most.
    pub(super) cost: (f64, f64),
    /// Nobody knows how many items come.
    pub(super) is_stream: bool,
}

/// A call of the story.
pub(super) struct Call {
    id: u64,
    function: &'static str,
    is_stream: bool,
    items: u64,
    items_of_chunk: u64,
    cost: (f64, f64),
    pub(super) submitted: f64,
    next: u64,
    again: Vec<(u64, u64, u64)>,
    done: u64,
    failed: u64,
    retries: u64,
    chunks: u64,
    compute_s: f64,
    told: f64,
    pub(super) has_ended: bool,
}

pub(super) struct Program {
    pub(super) who: Who,
    pub(super) lanes: Vec<Lane>,
    pub(super) calls: Vec<Call>,
    turn: usize,
    /// The next chunk of this call takes so long.
    pub(super) next_takes: Option<(usize, f64)>,
    /// An item of the next chunk of this call fails.
    pub(super) next_fails: Option<(usize, &'static str)>,
    pub(super) ended_jobs: u64,
}

impl Program {
    pub(super) fn new(who: Who, workers: u64) -> Self {
        let lanes = (0..workers).map(|id| Lane::new(id, None, 0.1)).collect();
        Self { who, lanes, calls: Vec::new(), turn: 0, next_takes: None, next_fails: None, ended_jobs: 0 }
    }

    pub(super) fn call(&mut self, log: &mut Log, at: f64, plan: Plan) {
        let Plan { function, items, items_of_chunk, cost, is_stream } = plan;
        let id = self.calls.len() as u64 + 1;
        log.say(
            at,
            self.who,
            "INFO",
            "job.submitted",
            format!("call {id}: {function} on {items} items"),
            json!({
                "distfun.job.id": id, "distfun.function.name": function, "distfun.manager.id": 1,
                "distfun.mode": if is_stream { "stream" } else { "items" }, "distfun.items.total": items,
                "distfun.workers.eligible": 4, "distfun.inline": false, "distfun.endaftercall": false,
            }),
        );
        self.calls.push(Call {
            id,
            function,
            is_stream,
            items,
            items_of_chunk,
            cost,
            submitted: at,
            next: 0,
            again: Vec::new(),
            done: 0,
            failed: 0,
            retries: 0,
            chunks: 0,
            compute_s: 0.0,
            told: at,
            has_ended: false,
        });
    }

    /// What has ended by `at` is told, and lanes that are free get something.
    pub(super) fn step(&mut self, log: &mut Log, at: f64) {
        for lane in 0..self.lanes.len() {
            if let Some(work) = self.lanes[lane].work.filter(|work| work.end <= at) {
                self.lanes[lane].work = None;
                self.end(log, lane, work);
            }
        }
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].work.is_none() && self.lanes[lane].up_from <= at {
                self.begin(log, lane, at);
            }
        }
        self.report(log, at);
    }

    fn begin(&mut self, log: &mut Log, lane: usize, at: f64) {
        for _ in 0..self.calls.len() {
            self.turn = (self.turn + 1) % self.calls.len();
            let call = &mut self.calls[self.turn];
            if call.has_ended || call.submitted > at {
                continue;
            }
            let part = call.again.pop().or_else(|| {
                let items = call.items_of_chunk.min(call.items - call.next);
                let index = call.next;
                call.next += items;
                (items > 0).then_some((index, items, 1))
            });
            let Some((index, items, attempt)) = part else { continue };
            let mut takes = log.random(call.cost.0, call.cost.1);
            let this = self.turn;
            let mut fails = None;
            if self.lanes[lane].machine.is_none() {
                takes = self.next_takes.take_if(|(call, _)| *call == this).map_or(takes, |(_, takes)| takes);
                fails = self.next_fails.take_if(|(call, _)| *call == this).map(|(_, text)| text);
            }
            let work = Work { call: this, index, items, attempt, start: at, end: at + takes, fails };
            self.lanes[lane].work = Some(work);
            let event = if self.lanes[lane].machine.is_some() { "chunk.dispatched" } else { "chunk.started" };
            log.say(at, self.who, "DEBUG", event, "a chunk begins".into(), self.chunk(lane, work));
            return;
        }
    }

    /// The fields of a chunk.
    pub(super) fn chunk(&self, lane: usize, work: Work) -> serde_json::Value {
        let (lane, call) = (&self.lanes[lane], &self.calls[work.call]);
        let mut fields = json!({
            "distfun.manager.id": 1, "distfun.job.id": call.id, "distfun.function.name": call.function,
            "distfun.chunk.index": work.index, "distfun.chunk.items": work.items,
            "distfun.chunk.attempt": work.attempt, "distfun.sampling_ratio": 1.0,
        });
        match lane.machine {
            Some(machine) => {
                fields["distfun.node.id"] = lane.id.into();
                fields["distfun.machine"] = machine.into();
            }
            None => {
                fields["distfun.worker.id"] = lane.id.into();
                fields["distfun.worker.generation"] = lane.generation.into();
            }
        }
        fields
    }

    fn end(&mut self, log: &mut Log, lane: usize, work: Work) {
        let took = work.end - work.start;
        let mut fields = self.chunk(lane, work);
        let call = &mut self.calls[work.call];
        let failed = u64::from(work.fails.is_some());
        if let Some(text) = work.fails {
            let mut fields = fields.clone();
            let item = work.index + work.items / 2;
            fields["distfun.item.index"] = item.into();
            fields["distfun.items.failed"] = 1.into();
            fields["error.type"] = "panic".into();
            fields["exception.type"] = "panic".into();
            fields["exception.message"] = text.into();
            fields["code.file.path"] = "src/model.rs".into();
            fields["code.line.number"] = 88.into();
            let message = format!("item {item} of call {} panicked: {text}", call.id);
            log.say(work.end - 0.001, self.who, "ERROR", "chunk.exception", message, fields);
        }
        call.done += work.items;
        call.failed += failed;
        call.chunks += 1;
        call.compute_s += took;
        fields["distfun.outcome"] = if failed > 0 { "failure" } else { "success" }.into();
        fields["distfun.items.done"] = work.items.into();
        fields["distfun.items.failed"] = failed.into();
        fields["distfun.compute_s"] = took.into();
        self.lanes[lane].chunks += 1;
        self.lanes[lane].busy_s += took;
        let event = if self.lanes[lane].machine.is_some() { "chunk.returned" } else { "chunk.finished" };
        log.say(work.end, self.who, "DEBUG", event, "a chunk has ended".into(), fields);
    }

    /// Every 5 s how far calls are, and when they are done.
    fn report(&mut self, log: &mut Log, at: f64) {
        for call in self.calls.iter_mut().filter(|call| !call.has_ended) {
            let running_s = at - call.submitted;
            let mut fields = json!({
                "distfun.manager.id": 1, "distfun.job.id": call.id, "distfun.function.name": call.function,
                "distfun.items.total": if call.is_stream { call.next } else { call.items },
                "distfun.items.done": call.done, "distfun.items.failed": call.failed,
                "distfun.chunks.done": call.chunks,
            });
            if call.done == call.items {
                call.has_ended = true;
                self.ended_jobs += 1;
                fields["distfun.outcome"] = if call.failed > 0 { "failure" } else { "success" }.into();
                fields["distfun.duration_s"] = running_s.into();
                fields["distfun.queue_s"] = 0.02.into();
                fields["distfun.compute_s"] = call.compute_s.into();
                fields["distfun.efficiency_ratio"] = (call.compute_s / running_s / 12.0).min(1.0).into();
                fields["distfun.retries"] = call.retries.into();
                let took = crate::top::words::duration(running_s);
                let (level, message) = match call.failed {
                    0 => ("INFO", format!("call {} is complete after {took}", call.id)),
                    many => {
                        fields["error.type"] = "panic".into();
                        fields["error.message"] = format!("{many} of {} items have no result", call.items).into();
                        ("ERROR", format!("call {} has failed after {took}: {many} items have no result", call.id))
                    }
                };
                log.say(at, self.who, level, "job.finished", message, fields);
            } else if at - call.told >= 5.0 {
                call.told = at;
                let rate = call.done as f64 / running_s;
                fields["distfun.running_s"] = running_s.into();
                fields["distfun.rate_per_s"] = rate.into();
                if rate > 0.0 && !call.is_stream {
                    fields["distfun.eta_s"] = ((call.items - call.done) as f64 / rate).into();
                }
                log.say(at, self.who, "INFO", "job.progress", format!("call {} gets on", call.id), fields);
            }
        }
    }

    /// What the lanes of a machine had is done by others. Says how many chunks.
    pub(super) fn lose_machine(&mut self, machine: &str, until: f64) -> u64 {
        let mut requeued = 0;
        for lane in self.lanes.iter_mut().filter(|lane| lane.machine == Some(machine)) {
            lane.up_from = until;
            if let Some(work) = lane.work.take() {
                self.calls[work.call].again.push((work.index, work.items, work.attempt + 1));
                requeued += 1;
            }
        }
        requeued
    }

    /// The worker dies inside its chunk, which is tried again; says which that was.
    pub(super) fn kill(&mut self, worker: usize, until: f64) -> Option<Work> {
        let lane = &mut self.lanes[worker];
        lane.up_from = until;
        let work = lane.work.take()?;
        let call = &mut self.calls[work.call];
        call.again.push((work.index, work.items, work.attempt + 1));
        call.retries += 1;
        Some(work)
    }

    pub(super) fn note_retry(&mut self, call: usize) {
        self.calls[call].retries += 1;
    }

    /// The number and the function of a call.
    pub(super) fn name(&self, call: usize) -> (u64, &'static str) {
        (self.calls[call].id, self.calls[call].function)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.iter().all(|call| call.has_ended)
    }

    /// Items without an outcome.
    pub(super) fn pending(&self) -> u64 {
        self.calls.iter().filter(|call| !call.has_ended).map(|call| call.items - call.done).sum()
    }
}

impl Lane {
    pub(super) fn new(id: u64, machine: Option<&'static str>, up_from: f64) -> Self {
        Self { id, machine, up_from, generation: 0, work: None, chunks: 0, busy_s: 0.0 }
    }
}
