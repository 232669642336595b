//! What happens in the story, and when: two programs on `alpha` share the nodes `node-a` and `node-b`; a worker crashes,
//! `node-b` is lost for a while and one program waits for it, a worker crashes too often, lines are lost.

use serde_json::{Value, json};

use super::{
    Log, Who,
    program::{Lane, Plan, Program},
};

const NODE_A: &str = "10.0.0.11:2718";
const NODE_B: &str = "10.0.0.12:2718";
const STEP_S: f64 = 0.02;

/// The longest that it takes.
const LAST_S: f64 = 60.0;

const RESAMPLE: Plan =
    Plan { function: "wine::bootstrap::resample", items: 2200, items_of_chunk: 5, cost: (0.4, 1.1), is_stream: false };
const FIT: Plan =
    Plan { function: "wine::model::fit", items: 64, items_of_chunk: 1, cost: (1.5, 3.5), is_stream: false };
const FORECAST: Plan =
    Plan { function: "weather::forecast_day", items: 28, items_of_chunk: 1, cost: (1.5, 3.0), is_stream: false };
const THUMBNAIL: Plan =
    Plan { function: "image::thumbnail", items: 300, items_of_chunk: 4, cost: (0.15, 0.4), is_stream: true };

/// A worker that is given up is not replaced any more.
const NEVER_S: f64 = 1e6;

struct Cast {
    bootstrap: Program,
    forecast: Program,
}

pub(super) fn tell(log: &mut Log) {
    let mut cast = Cast { bootstrap: Program::new(Who::Bootstrap, 4), forecast: Program::new(Who::Forecast, 0) };
    let mut script = script();
    script.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut script = script.into_iter().peekable();
    let mut snapshot = [10.0, 13.0];
    let mut ended = [None; 2];
    let mut at = 0.0;
    while at < LAST_S {
        while let Some((when, happens)) = script.next_if(|(when, _)| *when <= at) {
            happens(log, &mut cast, when);
        }
        for (n, program) in [&mut cast.bootstrap, &mut cast.forecast].into_iter().enumerate() {
            program.step(log, at);
            if ended[n].is_none() && at >= snapshot[n] {
                snapshot[n] += 10.0;
                tell_state(log, program, at);
            }
            if ended[n].is_none() && at > 45.0 && program.is_idle() {
                ended[n] = Some(at + 0.5);
                close(log, program, at + 0.5);
            }
        }
        at += STEP_S;
    }
    let last = ended.into_iter().flatten().fold(LAST_S - 2.0, f64::max);
    for (who, name) in [(Who::NodeA, "node-a"), (Who::NodeB, "node-b")] {
        node(
            log,
            last + 1.5,
            who,
            "stopping",
            format!("{name} stops (signal)"),
            json!({
                "distfun.node.name": name, "distfun.reason": "signal", "distfun.managers": 0,
            }),
        );
        node(
            log,
            last + 2.0,
            who,
            "stopped",
            format!("{name} has stopped"),
            json!({
                "distfun.node.name": name, "distfun.uptime_s": last + 2.0,
            }),
        );
    }
}

type Happens = Box<dyn Fn(&mut Log, &mut Cast, f64)>;

fn script() -> Vec<(f64, Happens)> {
    fn on(at: f64, happens: impl Fn(&mut Log, &mut Cast, f64) + 'static) -> (f64, Happens) {
        (at, Box::new(happens))
    }
    vec![
        on(0.0, |log, _, at| serve(log, at)),
        on(0.3, |log, cast, at| {
            open(log, &cast.bootstrap, at);
            log.remark(at + 0.2, Who::Bootstrap, "INFO", "reading wine.csv: 6497 rows, 12 columns");
        }),
        on(0.6, |log, cast, at| connect(log, &mut cast.bootstrap, at, 1, NODE_A, None)),
        on(0.7, |log, cast, at| connect(log, &mut cast.bootstrap, at, 2, NODE_B, None)),
        on(0.9, |log, _, at| share(log, at)),
        on(1.0, |log, cast, at| cast.bootstrap.call(log, at, RESAMPLE)),
        on(2.5, |log, cast, at| open(log, &cast.forecast, at)),
        on(2.8, |log, cast, at| connect(log, &mut cast.forecast, at, 1, NODE_B, None)),
        on(3.0, |log, cast, at| cast.forecast.call(log, at, FORECAST)),
        on(4.0, |log, cast, at| cast.bootstrap.call(log, at, FIT)),
        on(6.0, |_, cast, _| cast.bootstrap.next_takes = Some((1, 17.0))),
        on(9.0, |log, cast, at| crash(log, &mut cast.bootstrap, at, 2, "panic", 0.5)),
        on(11.0, |log, cast, at| retry(log, &mut cast.bootstrap, at)),
        on(12.5, |_, cast, _| cast.bootstrap.next_fails = Some((1, "the matrix is singular"))),
        on(14.0, |log, cast, at| {
            suspect(log, &cast.bootstrap, at, 2);
            suspect(log, &cast.forecast, at + 0.1, 1);
        }),
        on(15.5, lose),
        on(17.0, |log, cast, at| stall(log, &cast.forecast, at)),
        on(17.5, slow),
        on(19.0, |log, cast, at| cast.bootstrap.call(log, at, THUMBNAIL)),
        on(24.0, |log, cast, at| crash(log, &mut cast.bootstrap, at, 3, "signal", 0.5)),
        on(25.5, |log, cast, at| crash(log, &mut cast.bootstrap, at, 3, "signal", 1.0)),
        on(27.0, |log, cast, at| {
            connect(log, &mut cast.bootstrap, at, 2, NODE_B, Some(11.5));
            connect(log, &mut cast.forecast, at + 0.1, 1, NODE_B, Some(11.6));
            log.say(
                at + 0.2,
                Who::Forecast,
                "INFO",
                "manager.resumed",
                "calls get on again after 11.7 s".into(),
                json!({
                    "distfun.manager.id": 1, "distfun.stalled_s": 11.7,
                }),
            );
        }),
        on(28.0, give_up),
        on(33.0, |log, _, at| {
            log.say(
                at,
                Who::Bootstrap,
                "WARN",
                "log.dropped",
                "12 lines of this log were lost".into(),
                json!({
                    "distfun.since_s": 0.4, "distfun.dropped.debug": 12, "distfun.dropped.info": 0,
                    "distfun.dropped.warn": 0, "distfun.dropped.unwritten": 0, "distfun.dropped.total": 12,
                }),
            );
            log.lose(12);
        }),
    ]
}

fn serve(log: &mut Log, at: f64) {
    for (who, name, address) in [(Who::NodeA, "node-a", NODE_A), (Who::NodeB, "node-b", NODE_B)] {
        node(
            log,
            at,
            who,
            "started",
            format!("{name} serves at {address}, with 4 slots"),
            json!({
                "distfun.node.name": name, "distfun.address": address, "distfun.workers.total": 4,
                "distfun.node.version": "0.1.0",
            }),
        );
    }
}

fn node(log: &mut Log, at: f64, who: Who, verb: &str, message: String, fields: Value) {
    log.say(at, who, "INFO", &format!("node.{verb}"), message, fields);
}

fn open(log: &mut Log, program: &Program, at: f64) {
    let workers = program.lanes.len();
    let fields = json!({
        "distfun.manager.id": 1, "distfun.scope": "remote", "distfun.endaftercall": false, "distfun.workers.cpu": workers,
    });
    log.say(at, program.who, "INFO", "session.opened", format!("manager 1 opens, with {workers} workers"), fields);
    let fields = json!({ "distfun.manager.id": 1, "distfun.workers.cpu": workers });
    log.say(
        at,
        program.who,
        "INFO",
        "manager.started",
        format!("manager 1 runs and starts its {workers} workers"),
        fields,
    );
    (0..workers).for_each(|worker| start(log, program, at + 0.01, worker));
}

fn start(log: &mut Log, program: &Program, at: f64, worker: usize) {
    log.say(
        at,
        program.who,
        "INFO",
        "worker.started",
        format!("worker {worker} has started"),
        json!({
            "distfun.manager.id": 1, "distfun.worker.id": worker, "distfun.worker.kind": "cpu",
            "distfun.worker.generation": program.lanes[worker].generation,
        }),
    );
}

fn connect(log: &mut Log, program: &mut Program, at: f64, id: u64, machine: &'static str, outage_s: Option<f64>) {
    let (who, name) = if machine == NODE_A { (Who::NodeA, "node-a") } else { (Who::NodeB, "node-b") };
    if outage_s.is_none() {
        program.lanes.extend((0..4).map(|_| Lane::new(id, Some(machine), at + 0.3)));
    }
    let mut fields = json!({
        "distfun.manager.id": 1, "distfun.node.id": id, "distfun.machine": machine, "distfun.node.name": name,
        "distfun.workers.total": 4, "distfun.node.version": "0.1.0", "distfun.rtt_s": 0.0004 * (id + 1) as f64,
    });
    if let Some(outage_s) = outage_s {
        fields["distfun.outage_s"] = outage_s.into();
    }
    log.say(at, program.who, "INFO", "node.connected", format!("{machine} is connected, with 4 slots"), fields);
    let by = program.who.about().1;
    let managers = if who == Who::NodeB && program.who == Who::Forecast { 2 } else { 1 };
    node(
        log,
        at,
        who,
        "joined",
        format!("{by} is connected"),
        json!({
            "distfun.node.name": name, "distfun.manager.name": by, "distfun.managers": managers,
        }),
    );
}

fn share(log: &mut Log, at: f64) {
    let bytes = 48 << 20;
    log.say(
        at,
        Who::Bootstrap,
        "INFO",
        "shared.published",
        "weights is shared, 48.0 MiB".into(),
        json!({
            "distfun.key": "weights", "distfun.total_bytes": bytes, "distfun.mapping": "memfd", "distfun.readers": 4,
        }),
    );
    for (id, machine, who) in [(1, NODE_A, Who::NodeA), (2, NODE_B, Who::NodeB)] {
        let after = at + 0.6 + 0.2 * id as f64;
        log.say(
            after,
            Who::Bootstrap,
            "INFO",
            "shared.transfer",
            format!("{machine} has the shared data, 48.0 MiB"),
            json!({
                "distfun.manager.id": 1, "distfun.node.id": id, "distfun.machine": machine,
                "distfun.total_bytes": bytes, "distfun.wire_bytes": bytes, "distfun.cached": false,
                "distfun.outcome": "success", "distfun.duration_s": 0.6,
            }),
        );
        log.say(
            after,
            who,
            "INFO",
            "shared.published",
            "weights is shared, 48.0 MiB".into(),
            json!({
                "distfun.key": "weights", "distfun.total_bytes": bytes,
            }),
        );
    }
}

fn crash(log: &mut Log, program: &mut Program, at: f64, worker: usize, cause: &str, backoff_s: f64) {
    let generation = program.lanes[worker].generation;
    let lane = (program.lanes[worker].chunks, program.lanes[worker].busy_s);
    if let Some(work) = program.kill(worker, at + backoff_s) {
        let mut fields = program.chunk(worker, work);
        let item = work.index + work.items / 2;
        fields["distfun.item.index"] = item.into();
        fields["distfun.max_attempts"] = 3.into();
        fields["error.type"] = "worker_lost".into();
        let message = format!("worker {worker} died at item {item}, which is tried again");
        log.say(at, program.who, "WARN", "chunk.retry", message, fields);
    }
    log.say(
        at,
        program.who,
        "INFO",
        "worker.stopped",
        format!("worker {worker} has stopped (died)"),
        json!({
            "distfun.manager.id": 1, "distfun.worker.id": worker, "distfun.worker.generation": generation,
            "distfun.reason": "died", "distfun.chunks.done": lane.0, "distfun.busy_s": lane.1,
        }),
    );
    let lane = &mut program.lanes[worker];
    (lane.generation, lane.chunks, lane.busy_s) = (generation + 1, 0, 0.0);
    log.say(
        at,
        program.who,
        "WARN",
        "worker.restarted",
        format!("worker {worker} is replaced after {cause}"),
        json!({
            "distfun.manager.id": 1, "distfun.worker.id": worker, "distfun.worker.generation": generation + 1,
            "distfun.cause": cause, "distfun.restarts_in_window": 1, "distfun.window_s": 10.0, "distfun.limit": 2,
            "distfun.backoff_s": backoff_s,
        }),
    );
    if backoff_s < NEVER_S {
        start(log, program, at + backoff_s, worker);
    }
}

fn retry(log: &mut Log, program: &mut Program, at: f64) {
    program.note_retry(0);
    let (id, function) = program.name(0);
    log.say(at, program.who, "WARN", "item.retried", "item 411 has failed (timeout) and is tried again".into(), json!({
        "distfun.job.id": id, "distfun.function.name": function, "distfun.item.index": 411, "distfun.item.attempt": 1,
        "error.type": "timeout", "distfun.wait_s": 0.1, "distfun.manager.id": 1, "distfun.worker.id": 0,
    }));
}

fn suspect(log: &mut Log, program: &Program, at: f64, id: u64) {
    log.say(
        at,
        program.who,
        "WARN",
        "node.suspect",
        format!("nothing came from {NODE_B} for 1.5 s"),
        json!({
            "distfun.manager.id": 1, "distfun.node.id": id, "distfun.machine": NODE_B, "distfun.chunks.running": 4,
        }),
    );
}

fn lose(log: &mut Log, cast: &mut Cast, at: f64) {
    for (program, id, managers) in [(&mut cast.bootstrap, 2, 1), (&mut cast.forecast, 1, 0)] {
        let requeued = program.lose_machine(NODE_B, 27.4);
        let message = format!("{NODE_B} is lost, its {requeued} chunks are done elsewhere");
        log.say(
            at,
            program.who,
            "ERROR",
            "node.lost",
            message,
            json!({
                "distfun.manager.id": 1, "distfun.node.id": id, "distfun.machine": NODE_B,
                "error.message": "the connection was silent for 3.0 s", "distfun.chunks.requeued": requeued,
            }),
        );
        let by = program.who.about().1;
        node(
            log,
            at + 0.2,
            Who::NodeB,
            "left",
            format!("{by} is gone: the connection was silent"),
            json!({
                "distfun.node.name": "node-b", "distfun.manager.name": by, "distfun.managers": managers,
            }),
        );
    }
}

fn stall(log: &mut Log, program: &Program, at: f64) {
    let items = program.pending();
    log.say(
        at,
        program.who,
        "WARN",
        "manager.stalled",
        "1 call waits: no machine is connected".into(),
        json!({
            "distfun.manager.id": 1, "distfun.reason": "no_nodes", "distfun.jobs.active": 1,
            "distfun.items.pending": items, "distfun.stalled_s": 1.5,
        }),
    );
}

/// The chunk that takes long is much longer than others.
fn slow(log: &mut Log, cast: &mut Cast, at: f64) {
    let program = &cast.bootstrap;
    let lanes = (0..program.lanes.len()).filter_map(|lane| Some((lane, program.lanes[lane].work?)));
    let Some((lane, work)) = lanes.max_by(|(_, a), (_, b)| (a.end - a.start).total_cmp(&(b.end - b.start))) else {
        return;
    };
    let mut fields = program.chunk(lane, work);
    let running_s = at - work.start;
    fields["distfun.running_s"] = running_s.into();
    fields["distfun.median_s"] = 2.4.into();
    let message = format!("item {} has run for {running_s:.1} s, others took 2.4 s", work.index);
    log.say(at, program.who, "WARN", "chunk.slow", message, fields);
}

fn give_up(log: &mut Log, cast: &mut Cast, at: f64) {
    let program = &mut cast.bootstrap;
    crash(log, program, at, 3, "signal", NEVER_S);
    log.say(
        at + 0.01,
        program.who,
        "ERROR",
        "worker.gave_up",
        "worker 3 is given up after 3 restarts in 10 s".into(),
        json!({
            "distfun.manager.id": 1, "distfun.worker.id": 3, "distfun.worker.generation": program.lanes[3].generation,
            "distfun.cause": "signal", "distfun.restarts_in_window": 3, "distfun.window_s": 10.0, "distfun.limit": 2,
        }),
    );
}

fn tell_state(log: &mut Log, program: &Program, at: f64) {
    let workers: Vec<_> = program.lanes.iter().filter(|lane| lane.machine.is_none()).collect();
    let busy = workers.iter().filter(|lane| lane.work.is_some()).count();
    let offline = workers.iter().filter(|lane| lane.up_from > at + 100.0).count();
    let restarting = workers.iter().filter(|lane| lane.up_from > at && lane.up_from <= at + 100.0).count();
    let mut machines: Vec<_> = program.lanes.iter().filter(|lane| lane.machine.is_some()).collect();
    machines.dedup_by_key(|lane| lane.machine);
    let up = machines.iter().filter(|lane| lane.up_from <= at + 0.5).count();
    log.say(at, program.who, "INFO", "manager.state", "how it stands".into(), json!({
        "distfun.manager.id": 1, "distfun.uptime_s": at,
        "distfun.jobs.active": program.calls.len() as u64 - program.ended_jobs, "distfun.jobs.finished": program.ended_jobs,
        "distfun.items.pending": program.pending(),
        "distfun.chunks.running": program.lanes.iter().filter(|lane| lane.work.is_some()).count(),
        "distfun.chunks.done": program.lanes.iter().map(|lane| lane.chunks).sum::<u64>(),
        "distfun.chunks.failed": 0, "distfun.chunks.retried": 0,
        "distfun.workers.available": workers.len() - busy - offline - restarting, "distfun.workers.busy": busy,
        "distfun.workers.restarting": restarting, "distfun.workers.offline": offline,
        "distfun.nodes.up": up, "distfun.nodes.lost": machines.len() - up,
    }));
}

fn close(log: &mut Log, program: &Program, at: f64) {
    log.say(
        at,
        program.who,
        "INFO",
        "session.finished",
        "manager 1 ends by finished".into(),
        json!({
            "distfun.manager.id": 1, "distfun.scope": "remote", "distfun.ending": "finished", "distfun.open_s": at,
        }),
    );
    for lane in program.lanes.iter().filter(|lane| lane.machine.is_none() && lane.up_from <= at) {
        log.say(
            at + 0.01,
            program.who,
            "INFO",
            "worker.stopped",
            format!("worker {} has stopped (released)", lane.id),
            json!({
                "distfun.manager.id": 1, "distfun.worker.id": lane.id, "distfun.worker.generation": lane.generation,
                "distfun.reason": "released", "distfun.chunks.done": lane.chunks, "distfun.busy_s": lane.busy_s,
            }),
        );
    }
    if program.who == Who::Bootstrap {
        for who in [Who::Bootstrap, Who::NodeA, Who::NodeB] {
            log.say(
                at + 0.02,
                who,
                "INFO",
                "shared.released",
                "weights is released".into(),
                json!({
                    "distfun.key": "weights", "distfun.total_bytes": 48 << 20,
                }),
            );
        }
    }
    log.say(
        at + 0.05,
        program.who,
        "INFO",
        "manager.stopped",
        "manager 1 stopped (finished)".into(),
        json!({
            "distfun.manager.id": 1, "distfun.reason": "finished", "distfun.uptime_s": at,
        }),
    );
}
