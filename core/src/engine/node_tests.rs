//! Stories of nodes.

use proptest::prelude::*;

use super::*;
use crate::{failure::FailureCause, ids::NodeId, placement::SlotKind};

const MS: Duration = Duration::from_millis(1);

fn up(slots: u32) -> NodeEvent {
    NodeEvent::Up { slots, kind: SlotKind::Cpu, round_trip: MS / 10 }
}

fn call(id: u64, items: usize) -> CallSpec<u64> {
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

fn done(reached: usize) -> ChunkDone {
    ChunkDone { elapsed: MS, ..ChunkDone::nothing(reached) }
}

/// An engine of `slots` idle slots and nodes that are expected.
fn engine(slots: usize, nodes: u32) -> Engine<u64> {
    let mut engine = Engine::new(Limits { slots, gpus: 0, max_calls: 100 });
    for slot in 0..slots as u32 {
        engine.step(Time::ZERO, Event::SlotReady(WorkerId(slot), Generation(0)));
    }
    for node in 0..nodes {
        engine.step(Time::ZERO, Event::Node(NodeId(node), NodeEvent::Expected));
    }
    engine
}

/// Chunks that are out, by worker.
#[derive(Default)]
struct Out(Vec<(WorkerId, Generation, Range<usize>)>);

impl Out {
    fn note(&mut self, commands: &Commands<u64>) {
        for command in commands {
            if let Command::Assign(worker, generation, chunk) = command {
                self.0.push((*worker, *generation, chunk.range.clone()));
            }
        }
    }
}

fn endings(commands: &Commands<u64>) -> Vec<(u64, Ending)> {
    let one = |command: &Command<u64>| match command {
        Command::Finish { handle, ending, .. } => Some((*handle, *ending)),
        _ => None,
    };
    commands.iter().filter_map(one).collect()
}

#[test]
fn a_call_waits_for_a_node_that_is_expected_and_runs_there() {
    let mut engine = engine(0, 1);
    assert!(engine.step(Time::ZERO, Event::Submit(call(1, 10))).is_empty());
    let commands = engine.step(Time::ZERO, Event::Node(NodeId(0), up(2)));
    assert!(matches!(commands[0], Command::Lanes(NodeId(0), Range { start: 0, end: 4 })), "{commands:?}");
    let mut out = Out::default();
    out.note(&commands);
    let mut ended = vec![];
    while let Some((lane, generation, range)) = out.0.pop() {
        let commands = engine.step(MS, Event::ChunkDone(lane, generation, done(range.end)));
        out.note(&commands);
        ended.extend(endings(&commands));
    }
    assert_eq!(ended, [(1, Ending::Complete)]);
}

#[test]
fn without_slots_and_hope_a_call_ends_at_once() {
    let mut engine = engine(0, 2);
    engine.step(Time::ZERO, Event::Submit(call(1, 10)));
    assert!(engine.step(MS, Event::Node(NodeId(0), NodeEvent::Hopeless)).is_empty());
    let commands = engine.step(MS, Event::Node(NodeId(1), NodeEvent::Hopeless));
    assert_eq!(endings(&commands), [(1, Ending::NoWorkers)]);
    assert_eq!(endings(&engine.step(MS, Event::Submit(call(2, 1)))), [(2, Ending::NoWorkers)]);
    // Hope comes back with the node.
    engine.step(MS, Event::Node(NodeId(1), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(MS, Event::Submit(call(3, 1))));
    assert_eq!(out.0.len(), 1);
}

#[test]
fn what_a_lost_node_had_is_done_elsewhere_and_its_late_answers_are_not_heard() {
    let mut engine = engine(1, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(1, 40))));
    let there: Vec<_> = out.0.iter().filter(|(worker, ..)| worker.0 > 0).cloned().collect();
    assert_eq!(there.len(), 2, "one computed, one waiting");
    engine.step(MS, Event::Node(NodeId(0), NodeEvent::Down));
    for (lane, generation, range) in &there {
        assert!(engine.step(MS, Event::ChunkDone(*lane, *generation, done(range.end))).is_empty());
    }
    let mut seen = vec![0; 40];
    let mut ended = vec![];
    out.0.retain(|(worker, ..)| worker.0 == 0);
    while let Some((slot, generation, range)) = out.0.pop() {
        range.clone().for_each(|item| seen[item] += 1);
        let commands = engine.step(MS, Event::ChunkDone(slot, generation, done(range.end)));
        out.note(&commands);
        ended.extend(endings(&commands));
    }
    assert_eq!(ended, [(1, Ending::Complete)]);
    assert!(seen.iter().all(|times| *times == 1), "{seen:?}");
}

#[test]
fn a_call_that_a_node_refuses_runs_on_the_others() {
    let mut engine = engine(0, 2);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    engine.step(Time::ZERO, Event::Submit(call(1, 4)));
    assert!(engine.step(MS, Event::Node(NodeId(0), NodeEvent::Refuses(CallId(1)))).is_empty());
    let mut out = Out::default();
    out.note(&engine.step(MS, Event::Node(NodeId(1), up(4))));
    assert!(!out.0.is_empty() && out.0.iter().all(|(lane, ..)| lane.0 >= 2), "{:?}", out.0);
    let commands = engine.step(MS, Event::Node(NodeId(1), NodeEvent::Refuses(CallId(1))));
    assert_eq!(endings(&commands), [(1, Ending::NoWorkers)]);
    assert!(commands.iter().any(|command| matches!(command, Command::Revoke(..))));
}

#[test]
fn a_call_barred_from_the_idle_node_does_not_hold_up_the_next() {
    let mut engine = engine(0, 2);
    engine.step(Time::ZERO, Event::Submit(call(1, 4)));
    engine.step(Time::ZERO, Event::Node(NodeId(0), NodeEvent::Refuses(CallId(1))));
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(2, 1))));
    assert_eq!(out.0.len(), 1);
}

#[test]
fn a_chunk_that_waits_at_a_node_is_asked_back_by_an_idle_slot() {
    let mut engine = engine(1, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(1, 3))));
    assert_eq!(out.0.len(), 3, "slot, node, and one waiting there");
    let (slot, generation, range) = out.0[0].clone();
    let commands = engine.step(MS, Event::ChunkDone(slot, generation, done(range.end)));
    assert!(matches!(commands.as_slice(), [Command::WakeAt(_)]), "{commands:?}");
    let commands = engine.step(6 * MS, Event::Tick);
    let [Command::Recall(lane, generation)] = commands.as_slice() else { panic!("{commands:?}") };
    let waiting = out.0.iter().find(|(worker, ..)| worker == lane).expect("it is out").clone();
    let commands = engine.step(7 * MS, Event::Tick);
    assert!(!commands.iter().any(|command| matches!(command, Command::Recall(..))), "it is asked for once");
    let commands = engine.step(7 * MS, Event::ChunkDone(*lane, *generation, done(waiting.2.start)));
    let mut again = Out::default();
    again.note(&commands);
    assert_eq!(again.0[0].0, WorkerId(0), "it runs here");
}

/// Chunks of a call that had ended were asked back: each took the place of one that an idle slot could have computed.
#[test]
fn what_a_call_that_has_ended_left_at_a_node_is_not_asked_back() {
    let mut engine = engine(1, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(1, 3))));
    let (slot, generation, range) = out.0[0].clone();
    engine.step(MS, Event::Cancel(CallId(1), Ending::Cancelled));
    assert!(engine.step(6 * MS, Event::ChunkDone(slot, generation, done(range.end))).is_empty());
    assert!(engine.step(20 * MS, Event::Tick).is_empty());
}

/// What a lane's chunk was expected to take replaced what was charged for it, which is at most [`BUDGET`]: a call of slow
/// items at nodes was charged next to nothing, and kept a quick one from its share.
#[test]
fn a_call_of_slow_items_at_nodes_leaves_others_their_share() {
    let mut engine = engine(0, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(1, 10_000))));
    out.note(&engine.step(Time::ZERO, Event::Submit(CallSpec { function: "g", ..call(2, 1_000_000) })));
    let (mut had, mut now, mut owner) = ([Duration::ZERO; 2], Time::ZERO, HashMap::new());
    out.0.iter().for_each(|(worker, ..)| _ = owner.insert(*worker, 1));
    while now < Duration::from_secs(20) {
        let (lane, generation, range) = out.0.remove(0);
        let call = owner[&lane];
        // An item of the first takes 50 ms, of the second 1 ms, and chunks go back at 20 ms.
        let (cost, most) = if call == 1 { (50 * MS, 1) } else { (MS, 20) };
        let reached = range.end.min(range.start + most);
        let elapsed = cost * (reached - range.start) as u32;
        now += elapsed;
        had[call as usize - 1] += elapsed;
        let commands = engine.step(now, Event::ChunkDone(lane, generation, ChunkDone { elapsed, ..done(reached) }));
        for command in &commands {
            if let Command::Assign(lane, _, chunk) = command {
                owner.insert(*lane, chunk.handle);
            }
        }
        out.note(&commands);
    }
    let share = had[0].as_secs_f64() / (had[0] + had[1]).as_secs_f64();
    assert!((0.4..0.6).contains(&share), "{share}: {had:?}");
}

#[test]
fn a_paused_node_keeps_what_it_has_and_gets_nothing_new() {
    let mut engine = engine(0, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(1, 100))));
    engine.step(MS, Event::Node(NodeId(0), NodeEvent::Pause(true)));
    let (lane, generation, range) = out.0.remove(0);
    let commands = engine.step(MS, Event::ChunkDone(lane, generation, done(range.end)));
    assert!(commands.is_empty(), "{commands:?}");
    out.note(&engine.step(MS, Event::Node(NodeId(0), NodeEvent::Pause(false))));
    assert_eq!(out.0.len(), 2);
}

#[test]
fn an_item_that_kills_threads_at_nodes_fails_at_the_third_death() {
    let mut engine = engine(0, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut commands = engine.step(Time::ZERO, Event::Submit(call(1, 1)));
    for _ in 0..3 {
        let [Command::Assign(lane, generation, _)] = commands.as_slice() else { panic!("{commands:?}") };
        let death = Death {
            reached: 0,
            stage: Stage::Running,
            failures: vec![],
            again: vec![],
            first_failure: None,
            blame: Some(Blame::of_thread(0, true)),
        };
        commands = engine.step(MS, Event::ChunkLost(*lane, *generation, death));
    }
    let [Command::Finish { failures, .. }] = commands.as_slice() else { panic!("{commands:?}") };
    assert!(matches!(failures[0].cause, FailureCause::Poisoned { deaths: 3, .. }));
}

proptest! {
    #[test]
    fn every_item_ends_once_whatever_nodes_do(
        slots in 0usize..3, nodes in 1u32..5, items in 1usize..3000,
        story in proptest::collection::vec((0u8..12, 0u32..8, 0usize..2000), 1..200)
    ) {
        let mut engine = engine(slots, nodes);
        let (mut out, mut seen, mut ended, mut now) = (Out::default(), vec![0u32; items], vec![], Time::ZERO);
        let mut is_up = vec![false; nodes as usize];
        let mut lanes: HashMap<NodeId, Range<u32>> = HashMap::new();
        let heal = (0..nodes).flat_map(|node| [(1, node, 0), (2, node, 1)]);
        let drain = std::iter::repeat_n((7, 0, usize::MAX), 20_000);
        let mut started = false;
        for (what, which, size) in story.into_iter().chain(heal).chain(drain) {
            now += MS;
            let node = NodeId(which % nodes);
            let event = match what {
                0 => Event::Node(node, NodeEvent::Down),
                1 if !is_up[node.0 as usize] => Event::Node(node, up(1 + which % 3)),
                2 => Event::Node(node, NodeEvent::Pause(size % 2 == 0)),
                3 => Event::Tick,
                4 if !started => { started = true; Event::Submit(call(1, items)) }
                _ if out.0.is_empty() => {
                    if !started { started = true; Event::Submit(call(1, items)) } else { Event::Tick }
                }
                _ => {
                    let (worker, generation, range) = out.0.swap_remove(which as usize % out.0.len());
                    let reached = range.start.saturating_add(size).min(range.end);
                    (range.start..reached).for_each(|item| seen[item] += 1);
                    Event::ChunkDone(worker, generation, done(reached))
                }
            };
            let down = matches!(event, Event::Node(_, NodeEvent::Down));
            let went_up = matches!(event, Event::Node(_, NodeEvent::Up { .. }));
            let commands = engine.step(now, event);
            if down {
                is_up[node.0 as usize] = false;
                let gone = lanes.get(&node).cloned().unwrap_or(0..0);
                out.0.retain(|(worker, ..)| !gone.contains(&worker.0));
            }
            is_up[node.0 as usize] |= went_up;
            for command in &commands {
                match command {
                    Command::Lanes(node, range) => { lanes.insert(*node, range.clone()); }
                    Command::Recall(lane, generation) => {
                        if let Some(at) = out.0.iter().position(|(worker, life, _)| (worker, life) == (lane, generation)) {
                            let one = out.0.remove(at);
                            out.0.insert(0, one); // sooner or later
                        }
                    }
                    _ => {}
                }
            }
            out.note(&commands);
            ended.extend(endings(&commands));
            let mut workers: Vec<_> = out.0.iter().map(|(worker, ..)| *worker).collect();
            workers.sort_unstable();
            workers.dedup();
            prop_assert_eq!(workers.len(), out.0.len(), "one chunk per lane");
            if !ended.is_empty() { break; }
        }
        prop_assert_eq!(ended, vec![(1, Ending::Complete)]);
        prop_assert!(seen.iter().all(|times| *times == 1), "{:?}", seen);
        prop_assert_eq!(engine.nodes.footprint(), 0);
    }
}

/// Over a way that is sometimes long, chunks went down to a single item and stayed there.
#[test]
fn a_long_way_does_not_make_chunks_of_nearly_no_work() {
    let mut engine = engine(0, 1);
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    let mut out = Out::default();
    out.note(&engine.step(Time::ZERO, Event::Submit(call(1, 1_000_000))));
    let (mut now, mut last) = (Time::ZERO, 0);
    for _ in 0..60 {
        let (lane, generation, range) = out.0.remove(0);
        now += 50 * MS;
        let elapsed = Duration::from_micros(40) * range.len() as u32;
        let done = ChunkDone { elapsed, ..ChunkDone::nothing(range.end) };
        last = range.len();
        out.note(&engine.step(now, Event::ChunkDone(lane, generation, done)));
    }
    assert!((20..=25).contains(&last), "{last} items of 40 us");
}
