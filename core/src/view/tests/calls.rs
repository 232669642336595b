//! What is told of calls, and why they do not go on.

use super::*;

#[test]
fn it_says_why_nothing_happens() {
    let mut log = Log::default();
    let rejected = json!({
        "machine": "bob", "error.type": "unreachable", "error.message": "bob does not answer", "gives_up": false,
    });
    log.say("node.rejected", rejected);
    log.say("job.submitted", json!({ "job.id": 3, "function.name": "score", "mode": "items", "items.total": 10 }));
    let stalled = json!({ "reason": "no_nodes", "jobs.active": 1, "items.pending": 10, "stalled_s": 2.0 });
    log.say("manager.stalled", stalled);
    let mut view = view_of(&log.lines);
    let now = view.now();
    let (process, job) = view.jobs_of(3).next().expect("the call");
    assert_eq!(
        view.explain(process, job, now),
        "call 3 (score) has waited for 2.0 s: no machine is connected, and there are no workers here (bob: bob does not \
         answer); 0 of 10 items done after 10.0 ms"
    );
    let concerns = view.concerns(now);
    assert!(
        concerns[0].is_grave && concerns[0].text.starts_with("program 7: 1 call waits, with 10 items"),
        "{concerns:?}"
    );
    // A node comes, and the call gets on.
    let next = log.lines.len();
    log.say("node.connected", json!({ "node.id": 1, "machine": "bob", "node.name": "bob", "workers.total": 2 }));
    log.say("manager.resumed", json!({ "stalled_s": 3.0 }));
    log.lines[next..].iter().for_each(|line| apply(&mut view, line));
    assert_eq!(view.concerns(view.now()), []);
    let (_, manager) = view.managers().next().expect("a Manager");
    assert_eq!(manager.nodes.len(), 1, "the machine has its number now: {:?}", manager.nodes);
}

#[test]
fn it_says_who_has_a_gpu_and_for_want_of_whose_none_is_used() {
    let mut log = Log::default();
    let gpu = json!({ "worker.id": 2, "worker.generation": 0, "worker.kind": "gpu", "gpu.name": "H100", "gpu.uuid": "GPU-1" });
    log.say("worker.started", gpu);
    log.say(
        "placement.judged",
        json!({ "gpu.policy": "require_all", "placement": "cpus", "machines.without_gpu": "bob" }),
    );
    let mut view = view_of(&log.lines);
    let (_, manager) = view.managers().next().expect("a Manager");
    assert_eq!((&*manager.workers[&2].kind, manager.workers[&2].gpu.as_deref()), ("gpu", Some("H100")));
    let concern = &view.concerns(view.now())[0];
    assert_eq!(concern.text, "program 7: GPUs are wanted (require_all), and CPUs compute: bob has none");
    assert!(!concern.is_grave);
    let next = log.lines.len();
    log.say(
        "placement.judged",
        json!({ "gpu.policy": "gpu_or_fail", "placement": "refused", "machines.without_gpu": "bob" }),
    );
    log.say("placement.judged", json!({ "gpu.policy": "gpu_or_fail", "placement": "gpus" }));
    apply(&mut view, &log.lines[next]);
    assert!(view.concerns(view.now())[0].is_grave);
    apply(&mut view, &log.lines[next + 1]);
    assert_eq!(view.concerns(view.now()), []);
}

#[test]
fn all_calls_are_explained_as_each_is() {
    let mut log = Log::default();
    for job in 0..3 {
        log.say("job.submitted", json!({ "job.id": job, "function.name": "f", "mode": "items", "items.total": 10 }));
    }
    for (worker, job) in [(0, 1), (1, 2), (2, 1)] {
        let chunk = json!({
            "job.id": job, "function.name": "f", "chunk.index": worker, "chunk.items": 1, "worker.id": worker,
            "worker.generation": 0,
        });
        log.say("chunk.started", chunk);
    }
    let view = view_of(&log.lines);
    let all: Vec<_> = view.explanations(view.now()).collect();
    assert_eq!(all.len(), 3);
    for (process, job, text) in all {
        assert_eq!(text, view.explain(process, job, view.now()));
    }
    let (process, job) = view.jobs_of(1).next().expect("the call");
    let text = view.explain(process, job, view.now());
    assert!(text.contains("computes 2 chunks, the oldest is item 0 on worker 0"), "{text}");
}

/// It said why, and neither which item nor where in the program.
#[test]
fn the_first_item_that_failed_is_named_with_its_place() {
    let mut log = Log::default();
    let call = |more: Value| {
        let mut all = json!({ "job.id": 1, "function.name": "f", "items.total": 9, "mode": "items" });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let fails = |item: u64, text: &str| {
        call(json!({ "item.index": item, "items.failed": 1, "exception.message": text, "chunk.index": item }))
    };
    let said = |log: &Log| {
        let view = view_of(&log.lines);
        let (process, job) = view.jobs_of(1).next().expect("the call");
        let text = view.explain(process, job, view.now());
        text.split_once("failed").map_or_else(String::new, |(_, rest)| rest.to_owned())
    };
    log.say("job.submitted", call(json!({})));
    assert_eq!(said(&log), "");
    log.say("chunk.exception", fails(7, "no root"));
    let place = "\"code.file.path\":\"src/roots.rs\",\"code.line.number\":12,\"distfun.boot_id\"";
    log.lines[1] = log.lines[1].replace("\"distfun.boot_id\"", place);
    assert_eq!(said(&log), ": item 7: no root (src/roots.rs:12)");
    log.say("chunk.failed", fails(8, "no hope"));
    assert_eq!(said(&log), ", the first of them item 7: no root (src/roots.rs:12)");
    let mut elsewhere = fails(3, "no power");
    elsewhere["machine"] = "oak".into();
    log.say("chunk.failed", elsewhere);
    assert_eq!(said(&log), ", the first of them item 3 on oak: no power");
    log.say("job.finished", call(json!({ "outcome": "failure", "items.failed": 3, "duration_s": 1.0 })));
    assert_eq!(said(&log), " after 1.0 s, with 3 of 9 items failed, the first of them item 3 on oak: no power");
    let last = log.lines.len() - 1;
    log.lines[last] =
        log.lines[last].replace("\"distfun.boot_id\"", "\"error.message\":\"no workers\",\"distfun.boot_id\"");
    assert_eq!(said(&log), " after 1.0 s, with 3 of 9 items failed: no workers");
}

/// Dashboards drew nothing where a worker had computed for minutes before it died.
#[test]
fn what_a_death_takes_away_has_ended_there() {
    let mut log = Log::default();
    let chunk = |index: u64, more: Value| {
        let mut all = json!({ "job.id": 1, "function.name": "f", "chunk.index": index, "chunk.items": 5 });
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let worker = |id: u64, generation: u64| json!({ "worker.id": id, "worker.generation": generation });
    let node = || json!({ "node.id": 3, "machine": "m" });
    for id in 0..3 {
        log.say("chunk.started", chunk(10 * id, worker(id, 0)));
    }
    log.say("chunk.dispatched", chunk(50, node()));
    log.say("chunk.dispatched", chunk(60, node()));
    // An item of this one fails for good: no line says that the chunk is over.
    let mut stopped = worker(0, 0);
    stopped["reason"] = "died".into();
    log.say("worker.stopped", stopped);
    // Of this one the line that it stopped is lost.
    let mut restarted = worker(1, 1);
    restarted["cause"] = "crash".into();
    log.say("worker.restarted", restarted);
    // And this one ends with its slot, after its call was cancelled.
    let mut released = worker(2, 0);
    released["reason"] = "released".into();
    log.say("worker.stopped", released);
    let mut died = chunk(60, node());
    died["worker.id"] = 0.into();
    log.say("node.worker_died", died);
    let mut lost = node();
    lost["error.message"] = "gone".into();
    log.say("node.lost", lost.clone());
    log.say("node.lost", lost);
    let view = view_of(&log.lines);
    let at = |seq: u64| Time(BEGIN + seq * 10_000);
    let ended: Vec<_> = view.spans().map(|span| (span.place, span.index, span.start, span.end)).collect();
    let expected = [
        (Place::Worker(0), 0, at(0), at(5)),
        (Place::Worker(1), 10, at(1), at(6)),
        (Place::Node(3), 60, at(4), at(8)),
        (Place::Node(3), 50, at(3), at(9)),
    ];
    assert_eq!(ended, expected);
    assert!(view.spans().all(|span| span.is_lost && !span.is_failed && span.items == 5 && span.process == 0));
}

/// A busy Manager says something every 10 s; that it did not was known after 150.
#[test]
fn a_program_that_is_killed_in_a_call_is_silent_soon() {
    let mut log = Log::default();
    log.say("worker.started", json!({ "worker.id": 0, "worker.generation": 0 }));
    let mut view = view_of(&log.lines);
    let silent_after = |view: &View, seconds| {
        let process = view.processes().next().expect("a process");
        process.is_silent(view.now().after(seconds))
    };
    assert!(!silent_after(&view, 100.0) && silent_after(&view, 151.0));
    log.say("job.submitted", json!({ "job.id": 1, "function.name": "f", "mode": "items", "items.total": 10 }));
    apply(&mut view, &log.lines[1]);
    assert!(!silent_after(&view, 34.0) && silent_after(&view, 36.0));
}
