//! What is told of nodes.

use super::*;

/// What was said of a machine was that nobody listens there, and not what had become of it.
#[test]
fn why_a_node_was_lost_is_kept_until_it_is_back() {
    let mut log = Log::default();
    let node = |more: Value| {
        let mut all = json!({ "node.id": 3, "machine": "m" });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let refused = |gives_up: bool| node(json!({ "error.message": "Connection refused", "gives_up": gives_up }));
    log.say("node.connected", node(json!({ "node.name": "oak" })));
    log.say("node.lost", node(json!({ "error.message": "killed by the kernel" })));
    log.say("node.rejected", refused(false));
    let mut view = view_of(&log.lines);
    let of = |view: &View| {
        let (_, manager) = view.managers().next().expect("a Manager");
        let node = &manager.nodes[&3];
        (node.state, node.since, node.error.clone().unwrap_or_default())
    };
    assert_eq!(of(&view), (NodeState::Lost, Time(BEGIN + 10_000), "killed by the kernel".into()));
    // Back, and then not any more.
    log.say("node.connected", node(json!({ "node.name": "oak" })));
    log.say("node.lost", node(json!({ "error.message": "silent" })));
    log.lines[3..].iter().for_each(|line| apply(&mut view, line));
    assert_eq!(of(&view).2, "silent");
    // That it is not even tried again is news.
    log.say("node.rejected", refused(true));
    apply(&mut view, &log.lines[5]);
    assert_eq!((of(&view).0, of(&view).2), (NodeState::GivenUp, "Connection refused".into()));
}

#[test]
fn what_a_machine_computes_at_once_is_counted_as_the_policy_has_it() {
    let mut log = Log::default();
    let node = json!({ "node.id": 3, "machine": "m", "node.name": "oak", "workers.total": 2, "workers.gpu": 1 });
    log.say("node.connected", node);
    let room = |log: &Log| {
        let view = view_of(&log.lines);
        let (_, manager) = view.managers().next().expect("a Manager");
        let node = &manager.nodes[&3];
        assert_eq!((node.slots, node.gpus), (2, 1));
        manager.room_at(node)
    };
    assert_eq!(room(&log), 2, "nobody wants GPUs");
    for (placement, expected) in [("gpus", 1), ("both", 3), ("cpus", 2)] {
        log.say("placement.judged", json!({ "gpu.policy": "mixed", "placement": placement }));
        assert_eq!(room(&log), expected, "{placement}");
    }
}

/// They were "up" while they computed: what they compute is told by those who gave it.
#[test]
fn workers_of_a_node_are_busy_with_what_managers_elsewhere_gave_it() {
    let mut log = Log::default();
    for worker in 0..2 {
        log.say("worker.started", json!({ "worker.id": worker, "worker.generation": 0 }));
    }
    log.say("node.started", json!({ "node.name": "oak", "address": "127.0.0.1:2718", "workers.total": 2 }));
    let mut view = View::default();
    log.lines.iter().for_each(|line| apply(&mut view, &line.replace("\"one\"", "\"node\"")));
    let mut caller = Log::default();
    caller.say("node.connected", json!({ "node.id": 1, "machine": "m", "node.name": "oak", "workers.total": 2 }));
    let chunk = |index: u64| json!({ "job.id": 1, "function.name": "f", "chunk.index": index, "chunk.items": 1, "node.id": 1, "machine": "m" });
    for index in 0..3 {
        caller.say("chunk.dispatched", chunk(index));
    }
    for index in 0..3 {
        caller.say("chunk.returned", chunk(index));
    }
    let mut told = caller.lines.iter();
    let mut after = |lines: usize| {
        told.by_ref().take(lines).for_each(|line| apply(&mut view, line));
        let node = view.processes().find(|process| process.node.is_some()).expect("the node");
        let manager = &node.managers[&1];
        let state = |id: u64| view.worker_state(node, manager, &manager.workers[&id], view.now());
        assert_eq!(state(0), state(1));
        (state(0), view.busy(node, manager, view.now()))
    };
    assert_eq!(after(1), (WorkerState::Up, (0, 2)));
    assert_eq!(after(1), (WorkerState::Serving, (1, 2)), "nobody knows which");
    assert_eq!(after(2), (WorkerState::Busy, (2, 2)), "one more than it computes at once");
    assert_eq!(after(2), (WorkerState::Serving, (1, 2)));
    assert_eq!(after(1), (WorkerState::Up, (0, 2)));
}

#[test]
fn a_node_counts_processes_that_died_there() {
    let mut log = Log::default();
    log.say("node.started", json!({ "node.name": "oak", "address": "127.0.0.1:2718", "workers.total": 1 }));
    let died = json!({ "node.name": "oak", "manager.name": "m", "function.name": "f", "worker.id": 0, "error.type": "worker_lost" });
    log.say("node.process_died", died.clone());
    log.say("node.process_died", died);
    // They are said to people as what is grave, and are no failures of their own: the Manager tells those.
    log.lines[1..].iter_mut().for_each(|line| *line = line.replace("INFO", "WARN"));
    let view = view_of(&log.lines);
    let node = view.processes().next().and_then(|process| process.node.as_ref()).expect("a node");
    assert_eq!((node.deaths, view.story().len(), view.failures().len()), (2, 3, 0));
}

#[test]
fn a_node_that_was_killed_is_gone_when_another_serves_in_its_place() {
    let line = |boot_id: &str, seq: u64, event: &str, more: Value| {
        let mut log = Log::default();
        log.say(event, more);
        let line = log.lines[0]
            .replace("\"one\"", &format!("\"{boot_id}\""))
            .replace("\"distfun.seq\":0", &format!("\"distfun.seq\":{seq}"));
        line.replace(&Time(BEGIN).to_string(), &Time(BEGIN + 1000 * (seq + 1)).to_string())
    };
    let serves = json!({ "node.name": "a", "address": "127.0.0.1:2718", "workers.total": 1 });
    let worker = json!({ "worker.id": 0, "worker.generation": 0 });
    let mut view = View::default();
    apply(&mut view, &line("old", 0, "worker.started", worker.clone()));
    apply(&mut view, &line("old", 1, "node.started", serves.clone()));
    apply(&mut view, &line("new", 7, "worker.started", worker));
    apply(&mut view, &line("new", 8, "node.started", serves));
    let over: Vec<_> =
        view.processes().map(|process| (process.is_over(), process.is_silent(view.now().after(500.0)))).collect();
    assert_eq!(over, [(true, false), (false, true)]);
    let states: Vec<_> = view.managers().map(|(_, manager)| manager.workers[&0].state).collect();
    assert_eq!(states, [WorkerState::Offline, WorkerState::Up]);
}

/// A snapshot counts those that are tried, and a machine that was removed, or given up, is none of them.
#[test]
fn a_machine_that_is_not_counted_any_more_is_not_taken_to_be_up() {
    let mut log = Log::default();
    for (node, machine) in [(1, "a"), (2, "b"), (3, "c")] {
        log.say(
            "node.connected",
            json!({ "node.id": node, "machine": machine, "node.name": machine, "workers.total": 1 }),
        );
    }
    log.say(
        "node.lost",
        json!({ "node.id": 2, "machine": "b", "error.message": "it was removed", "chunks.requeued": 0 }),
    );
    log.say("node.rejected", json!({ "machine": "c", "error.type": "auth", "error.message": "no", "gives_up": true }));
    log.say("manager.state", json!({ "jobs.active": 0, "nodes.up": 1, "nodes.lost": 0, "chunks.running": 0 }));
    let view = view_of(&log.lines);
    let (_, manager) = view.managers().next().expect("a Manager");
    let states: Vec<_> = manager.nodes.values().map(|node| node.state).collect();
    assert_eq!(states, [NodeState::Up, NodeState::Lost, NodeState::GivenUp]);
}
