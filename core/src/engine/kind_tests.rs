//! Stories of slots on CPUs and GPUs.

use super::*;
use crate::{ids::NodeId, placement::SlotKind};

const MS: Duration = Duration::from_millis(1);

fn call(id: u64, items: usize) -> CallSpec<u64> {
    tests::call(id, items)
}

/// Slots `0..cpus` on CPUs, and those behind on GPUs, all idle.
fn engine(cpus: usize, gpus: usize, placement: Placement) -> Engine<u64> {
    let mut engine = Engine::new(Limits { slots: cpus, gpus, max_calls: 9 });
    for slot in 0..(cpus + gpus) as u32 {
        engine.step(Time::ZERO, Event::SlotReady(WorkerId(slot), Generation(0)));
    }
    engine.step(Time::ZERO, Event::Place(placement));
    engine
}

/// Where chunks go, and how long they are.
fn given(commands: &[Command<u64>]) -> Vec<(u32, SlotKind, usize)> {
    let one = |command: &Command<u64>| match command {
        Command::Assign(slot, _, chunk) => Some((slot.0, chunk.kind, chunk.range.len())),
        _ => None,
    };
    commands.iter().filter_map(one).collect()
}

fn kinds(commands: &[Command<u64>]) -> Vec<SlotKind> {
    given(commands).into_iter().map(|(_, kind, _)| kind).collect()
}

fn endings(commands: &[Command<u64>]) -> Vec<Ending> {
    let one = |command: &Command<u64>| match command {
        Command::Finish { ending, .. } => Some(*ending),
        _ => None,
    };
    commands.iter().filter_map(one).collect()
}

fn done(slot: u32, reached: usize, elapsed: Duration) -> Event<u64> {
    let done = ChunkDone { elapsed, ..ChunkDone::nothing(reached) };
    Event::ChunkDone(WorkerId(slot), Generation(0), done)
}

#[test]
fn only_slots_of_the_kinds_that_are_placed_get_work() {
    for (placement, expected) in [
        (Placement::Cpus, vec![SlotKind::Cpu; 2]),
        (Placement::Gpus, vec![SlotKind::Gpu]),
        (Placement::Both, vec![SlotKind::Gpu, SlotKind::Cpu, SlotKind::Cpu]),
        (Placement::Undecided, vec![]),
    ] {
        let mut engine = engine(2, 1, placement);
        assert_eq!(kinds(&engine.step(Time::ZERO, Event::Submit(call(1, 1000)))), expected, "{placement:?}");
    }
}

#[test]
fn what_waits_for_a_decision_runs_when_that_comes() {
    let mut engine = engine(1, 1, Placement::Undecided);
    assert!(engine.step(Time::ZERO, Event::Submit(call(1, 10))).is_empty());
    assert_eq!(kinds(&engine.step(Time::ZERO, Event::Place(Placement::Gpus))), [SlotKind::Gpu]);
    // The slot that is at work for it ends its chunk, whatever is decided then.
    assert_eq!(kinds(&engine.step(Time::ZERO, Event::Place(Placement::Cpus))), [SlotKind::Cpu]);
    engine.step(MS, done(1, 5, MS));
    assert_eq!(engine.calls.len(), 1);
}

#[test]
fn a_refusal_ends_what_waits_and_what_comes_but_not_what_has_gpus() {
    let mut idle = engine(1, 0, Placement::Undecided);
    idle.step(Time::ZERO, Event::Submit(call(1, 10)));
    assert_eq!(endings(&idle.step(Time::ZERO, Event::Place(Placement::Refused))), [Ending::NoGpu]);
    assert_eq!(endings(&idle.step(Time::ZERO, Event::Submit(call(2, 10)))), [Ending::NoGpu]);

    let mut engine = engine(1, 1, Placement::Gpus);
    engine.step(Time::ZERO, Event::Submit(call(1, 10)));
    assert!(
        endings(&engine.step(Time::ZERO, Event::Place(Placement::Refused))).is_empty(),
        "a machine without has come"
    );
    assert_eq!(endings(&engine.step(Time::ZERO, Event::Submit(call(2, 10)))), [Ending::NoGpu]);
    assert_eq!(kinds(&engine.step(MS, done(1, 5, MS))), [SlotKind::Gpu], "the one that has begun goes on");
    assert_eq!(engine.placement(), Placement::Refused);
    for generation in 0..MAX_RESTARTS as u32 {
        assert!(engine.calls.len() == 1);
        engine.step(MS, Event::SlotLost(WorkerId(1), Generation(generation), None));
    }
    assert_eq!(endings(&engine.step(MS, Event::Place(Placement::Refused))), [Ending::NoGpu], "no GPU is left");
}

#[test]
fn a_call_for_one_kind_of_slot_waits_for_it_and_lets_others_pass() {
    let mut engine = engine(1, 1, Placement::Both);
    let of = |id, kind| CallSpec { only: Some(kind), ..call(id, 1) };
    assert_eq!(kinds(&engine.step(Time::ZERO, Event::Submit(of(1, SlotKind::Gpu)))), [SlotKind::Gpu]);
    assert!(given(&engine.step(Time::ZERO, Event::Submit(of(2, SlotKind::Gpu)))).is_empty(), "the CPU is not for it");
    assert_eq!(kinds(&engine.step(Time::ZERO, Event::Submit(of(3, SlotKind::Cpu)))), [SlotKind::Cpu]);
    assert_eq!(given(&engine.step(MS, done(1, 1, MS))), [(1, SlotKind::Gpu, 1)]);
}

#[test]
fn costs_are_known_by_kind_and_the_slower_one_leaves_the_end_to_the_faster_one() {
    let mut engine = engine(1, 1, Placement::Both);
    let first = engine.step(Time::ZERO, Event::Submit(call(1, 1000)));
    let [(1, SlotKind::Gpu, on_gpu), (0, SlotKind::Cpu, on_cpu)] = given(&first)[..] else { panic!("{first:?}") };
    // The GPU takes 10 us for an item, the CPU 100 ms.
    let next = engine.step(MS, done(1, on_gpu, MS / 100 * on_gpu as u32));
    assert_eq!(given(&next), [(1, SlotKind::Gpu, 100)], "a millisecond of work");
    let next = engine.step(MS, done(0, on_gpu + 1, 100 * MS));
    assert!(on_cpu > 1 && given(&next).is_empty(), "the GPU does the rest before the CPU would do one: {next:?}");
    let mut at = on_gpu + on_cpu;
    while engine.calls.len() == 1 {
        at += 100;
        engine.step(MS, done(1, at, MS));
    }
    // The next call knows, and so many are worth both.
    let next = engine.step(MS, Event::Submit(call(2, 1_000_000)));
    assert!(matches!(given(&next)[..], [(1, SlotKind::Gpu, 100..), (0, SlotKind::Cpu, 1)]), "{next:?}");
}

#[test]
fn nodes_of_each_kind_get_chunks_of_their_kind() {
    let mut engine = engine(0, 0, Placement::Gpus);
    let up = |kind| NodeEvent::Up { slots: 1, kind, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(SlotKind::Cpu)));
    engine.step(Time::ZERO, Event::Node(NodeId(1), up(SlotKind::Gpu)));
    let commands = engine.step(Time::ZERO, Event::Submit(call(1, 1_000_000)));
    assert_eq!(kinds(&commands), [SlotKind::Gpu; 2], "both lanes of the one");
    let commands = engine.step(Time::ZERO, Event::Place(Placement::Both));
    assert_eq!(kinds(&commands), [SlotKind::Cpu; 2]);
    let places = [SlotKind::Cpu, SlotKind::Gpu].map(|kind| engine.nodes.slots(kind));
    assert_eq!(places, [1, 1]);
    engine.step(Time::ZERO, Event::Node(NodeId(1), NodeEvent::Down));
    assert_eq!(engine.nodes.slots(SlotKind::Gpu), 0);
}

fn recalls(commands: &[Command<u64>]) -> usize {
    commands.iter().filter(|command| matches!(command, Command::Recall(..))).count()
}

/// Chunks that waited for a node's GPU were asked back for its CPUs, which were idle and got no work: so they came to the GPU
/// again, and were asked back again, each time some frames deeper, until the stack was full.
#[test]
fn what_waits_for_a_gpu_is_not_asked_back_for_idle_cpus_that_get_no_work() {
    let mut engine = engine(2, 0, Placement::Gpus);
    let up = |kind| NodeEvent::Up { slots: 1, kind, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(SlotKind::Cpu)));
    engine.step(Time::ZERO, Event::Node(NodeId(1), up(SlotKind::Gpu)));
    assert_eq!(given(&engine.step(Time::ZERO, Event::Submit(call(1, 2)))).len(), 2);
    assert_eq!(recalls(&engine.step(100 * MS, Event::Tick)), 0);
    assert_eq!(recalls(&engine.step(100 * MS, Event::Place(Placement::Both))), 1, "now they would have it");
}

#[test]
fn a_call_that_only_slots_without_work_could_run_ends() {
    let mut engine = engine(8, 0, Placement::Gpus);
    let up = |kind| NodeEvent::Up { slots: 1, kind, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(SlotKind::Cpu)));
    engine.step(Time::ZERO, Event::Node(NodeId(1), up(SlotKind::Gpu)));
    engine.step(Time::ZERO, Event::Submit(call(1, 2)));
    let refused = |engine: &mut Engine<u64>, node| {
        endings(&engine.step(Time::ZERO, Event::Node(NodeId(node), NodeEvent::Refuses(CallId(1)))))
    };
    assert!(refused(&mut engine, 0).is_empty(), "the GPU may still have it");
    assert_eq!(refused(&mut engine, 1), [Ending::NoWorkers]);
}

#[test]
fn a_machine_that_is_looked_for_does_not_stop_calls_that_run_and_one_without_a_gpu_does_not_end_them() {
    let mut engine = engine(1, 1, Placement::Gpus);
    engine.step(Time::ZERO, Event::Submit(call(1, 10)));
    engine.step(Time::ZERO, Event::Place(Placement::Undecided));
    assert_eq!(kinds(&engine.step(MS, done(1, 5, MS))), [SlotKind::Gpu]);
    assert!(endings(&engine.step(MS, Event::Place(Placement::Refused))).is_empty());
    assert_eq!(engine.calls.len(), 1);
}

#[test]
fn what_waits_for_a_gpu_is_not_asked_back_for_a_node_whose_cpus_would_be_too_slow() {
    let mut engine = engine(1, 1, Placement::Both);
    engine.step(Time::ZERO, Event::Submit(call(1, 2)));
    engine.step(MS, done(1, 1, MS));
    engine.step(MS, done(0, 2, 1000 * MS));
    let up = |kind| NodeEvent::Up { slots: 1, kind, round_trip: MS };
    engine.step(MS, Event::Node(NodeId(0), up(SlotKind::Gpu)));
    let busy = engine.step(MS, Event::Submit(call(2, 3)));
    assert_eq!(kinds(&busy), [SlotKind::Gpu; 3], "one here, one computed there, one waits");
    engine.step(MS, Event::Node(NodeId(1), up(SlotKind::Cpu)));
    assert_eq!(recalls(&engine.step(100 * MS, Event::Tick)), 0);
}

/// It went to wait for the GPU, was asked back in the same step, and went there again, without end.
#[test]
fn a_chunk_goes_to_idle_cpus_before_it_waits_for_a_gpu() {
    let mut engine = engine(0, 0, Placement::Both);
    let up = |kind| NodeEvent::Up { slots: 1, kind, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(SlotKind::Cpu)));
    engine.step(Time::ZERO, Event::Node(NodeId(1), up(SlotKind::Gpu)));
    let commands = engine.step(Time::ZERO, Event::Submit(call(1, 4)));
    assert_eq!(kinds(&commands)[..2], [SlotKind::Gpu, SlotKind::Cpu]);
    assert_eq!(recalls(&commands), 0);
}

#[test]
fn nothing_is_asked_back_for_a_node_that_has_refused_the_call() {
    let mut engine = engine(0, 0, Placement::Cpus);
    let up = NodeEvent::Up { slots: 1, kind: SlotKind::Cpu, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up.clone()));
    engine.step(Time::ZERO, Event::Submit(call(1, 2)));
    engine.step(Time::ZERO, Event::Node(NodeId(1), up));
    let commands = engine.step(MS, Event::Node(NodeId(1), NodeEvent::Refuses(CallId(1))));
    let later = engine.step(100 * MS, Event::Tick);
    assert_eq!((recalls(&commands), recalls(&later)), (0, 0));
}

#[test]
fn calls_whose_slots_are_given_up_end_when_it_is_decided_anew_that_no_others_get_work() {
    let mut engine = engine(1, 1, Placement::Cpus);
    engine.step(Time::ZERO, Event::Submit(call(1, 10)));
    for generation in 0..MAX_RESTARTS as u32 {
        let lost = engine.step(MS, Event::SlotLost(WorkerId(0), Generation(generation), None));
        assert!(endings(&lost).is_empty(), "the GPU may get work next");
    }
    assert_eq!(endings(&engine.step(MS, Event::Place(Placement::Cpus))), [Ending::NoWorkers]);
}

/// Calls ended with the last CPUs, a moment before it was decided that the GPUs of a node get work.
#[test]
fn a_call_outlives_the_last_cpus_where_a_node_has_gpus() {
    let mut engine = engine(0, 0, Placement::Cpus);
    let up = |kind| NodeEvent::Up { slots: 1, kind, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(SlotKind::Cpu)));
    engine.step(Time::ZERO, Event::Node(NodeId(1), up(SlotKind::Gpu)));
    engine.step(Time::ZERO, Event::Submit(call(1, 2)));
    assert!(endings(&engine.step(MS, Event::Node(NodeId(0), NodeEvent::Hopeless))).is_empty());
    assert_eq!(kinds(&engine.step(MS, Event::Place(Placement::Gpus))), [SlotKind::Gpu; 2]);
}

/// Only the node with the most chunks was looked at, and what others had waited beside idle slots.
#[test]
fn what_waits_behind_a_crowd_for_the_other_kind_is_asked_back_too() {
    let mut engine = engine(1, 0, Placement::Gpus);
    let up = |slots| NodeEvent::Up { slots, kind: SlotKind::Gpu, round_trip: MS };
    engine.step(Time::ZERO, Event::Node(NodeId(0), up(1)));
    assert_eq!(given(&engine.step(Time::ZERO, Event::Submit(call(1, 2)))).len(), 2);
    engine.step(Time::ZERO, Event::Node(NodeId(1), up(2)));
    let only = CallSpec { only: Some(SlotKind::Gpu), ..call(2, 4) };
    assert_eq!(given(&engine.step(Time::ZERO, Event::Submit(only))).len(), 4);
    let commands = engine.step(100 * MS, Event::Place(Placement::Both));
    assert!(matches!(commands[..], [Command::Recall(WorkerId(1..=2), _)]), "{commands:?}");
}

#[test]
fn the_slower_kind_does_not_wait_for_slots_that_are_at_other_calls() {
    let mut engine = engine(1, 1, Placement::Both);
    engine.step(Time::ZERO, Event::Submit(call(1, 2)));
    engine.step(MS, done(1, 1, MS));
    engine.step(MS, done(0, 2, 10 * MS));
    engine.step(MS, Event::Submit(CallSpec { function: "long", only: Some(SlotKind::Gpu), ..call(2, 1) }));
    assert_eq!(kinds(&engine.step(MS, Event::Submit(call(3, 5)))), [SlotKind::Cpu]);
}
