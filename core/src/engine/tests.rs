//! Stories of events, and what the engine must answer.

use super::*;
use crate::failure::{FailureCause, ItemFailure};

/// Commands have no equality, since the errors in them have none; their text tells them apart well enough.
fn assert_same<const N: usize>(commands: &[Command<u64>], expected: [Command<u64>; N]) {
    assert_eq!(format!("{commands:?}"), format!("{:?}", expected.as_slice()));
}

pub(super) fn engine(slots: usize) -> Engine<u64> {
    let mut engine = Engine::new(Limits { slots, gpus: 0, max_calls: 3 });
    for slot in 0..slots as u32 {
        assert!(engine.step(Time::ZERO, Event::SlotReady(WorkerId(slot), Generation(0))).is_empty());
    }
    engine
}

pub(super) fn call(id: u64, items: usize) -> CallSpec<u64> {
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

pub(super) fn done(reached: usize) -> ChunkDone {
    ChunkDone { elapsed: Duration::from_millis(1), ..ChunkDone::nothing(reached) }
}

/// Lets every busy slot finish its chunk, round after round, and returns the endings that come out.
fn run(engine: &mut Engine<u64>, mut commands: Vec<Command<u64>>) -> Vec<(u64, Ending)> {
    let (mut endings, mut now) = (vec![], Time::ZERO);
    while let Some(command) = commands.pop() {
        now += Duration::from_millis(1);
        match command {
            Command::Assign(slot, generation, chunk) => {
                assert!(!chunk.range.is_empty());
                commands.extend(engine.step(now, Event::ChunkDone(slot, generation, done(chunk.range.end))));
            }
            Command::Finish { handle, ending, .. } => endings.push((handle, ending)),
            Command::Start(slot, generation, _) => {
                commands.extend(engine.step(now, Event::SlotReady(slot, generation)));
            }
            _ => {}
        }
    }
    endings
}

fn assigned(commands: &[Command<u64>]) -> Vec<(WorkerId, u64, Range<usize>)> {
    let one = |command: &Command<u64>| match command {
        Command::Assign(slot, _, chunk) => Some((*slot, chunk.handle, chunk.range.clone())),
        _ => None,
    };
    commands.iter().filter_map(one).collect()
}

#[test]
fn a_call_ends_complete_when_every_item_was_done() {
    let mut engine = engine(3);
    let commands = engine.step(Time::ZERO, Event::Submit(call(1, 1000)));
    assert_eq!(assigned(&commands).len(), 3);
    assert_eq!(run(&mut engine, commands.into_vec()), [(1, Ending::Complete)]);
    assert!(engine.status(Time::ZERO).calls.is_empty());
}

#[test]
fn an_empty_call_completes_without_a_slot() {
    let commands = engine(1).step(Time::ZERO, Event::Submit(call(1, 0)));
    assert_same(&commands, [Command::Finish { handle: 1, ending: Ending::Complete, failures: vec![] }]);
}

#[test]
fn an_open_call_waits_for_more_items_until_it_is_closed() {
    let mut engine = engine(1);
    let open = CallSpec { is_open: true, ..call(1, 0) };
    assert!(engine.step(Time::ZERO, Event::Submit(open)).is_empty());
    for first in [0, 5] {
        let commands = engine.step(Time::ZERO, Event::Extend(CallId(1), 5));
        assert_eq!(assigned(&commands)[0].2.start, first);
        assert_eq!(run(&mut engine, commands.into_vec()), []);
        let status = engine.status(Time::ZERO).calls.remove(0);
        assert_eq!((status.items, status.done), (first + 5, first + 5));
    }
    let commands = engine.step(Time::ZERO, Event::Close(CallId(1)));
    assert_same(&commands, [Command::Finish { handle: 1, ending: Ending::Complete, failures: vec![] }]);
}

/// The first items of an open call, in one chunk, were announced as a whole call that is about to end.
#[test]
fn what_there_is_of_an_open_call_is_not_the_whole_of_it() {
    let is_quick = |commands: &[Command<u64>]| matches!(&commands[0], Command::Assign(_, _, chunk) if chunk.is_quick);
    let mut engine = engine(1);
    let teach = engine.step(Time::ZERO, Event::Submit(call(1, 1)));
    let quick = ChunkDone { elapsed: Duration::from_nanos(100), ..done(1) };
    engine.step(Time::ZERO, Event::ChunkDone(assigned(&teach)[0].0, Generation(0), quick.clone()));
    let whole = engine.step(Time::ZERO, Event::Submit(call(2, 1)));
    assert!(is_quick(&whole), "{whole:?}");
    engine.step(Time::ZERO, Event::ChunkDone(assigned(&whole)[0].0, Generation(0), quick));
    engine.step(Time::ZERO, Event::Submit(CallSpec { is_open: true, ..call(3, 0) }));
    let first = engine.step(Time::ZERO, Event::Extend(CallId(3), 1));
    assert!(!is_quick(&first), "{first:?}");
}

#[test]
fn an_open_call_tells_its_failures_as_they_come() {
    let mut engine = engine(1);
    engine.step(Time::ZERO, Event::Submit(CallSpec { is_open: true, ..call(1, 0) }));
    let commands = engine.step(Time::ZERO, Event::Extend(CallId(1), 2));
    let (slot, _, chunk) = assigned(&commands)[0].clone();
    let failure = ItemFailure::new(0, slot, 1, FailureCause::WorkerDied { exit: None });
    let report = ChunkDone { failures: vec![failure], ..done(chunk.end) };
    let commands = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), report));
    assert!(matches!(&commands[0], Command::Failed { handle: 1, failures } if failures[0].index == 0), "{commands:?}");
    engine.step(Time::ZERO, Event::Close(CallId(1)));
    let status = engine.status(Time::ZERO).calls.remove(0);
    assert_eq!((status.items, status.done, status.failed), (2, 1, 1));
    let end = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), done(2)));
    assert_same(&end, [Command::Finish { handle: 1, ending: Ending::ItemsFailed, failures: vec![] }]);
}

#[test]
fn one_call_too_many_is_busy_and_the_others_go_on() {
    let mut engine = engine(1);
    let mut commands = vec![];
    for id in 0..3 {
        commands.extend(engine.step(Time::ZERO, Event::Submit(call(id, 5))));
    }
    let refused = engine.step(Time::ZERO, Event::Submit(call(9, 5)));
    assert_same(&refused, [Command::Finish { handle: 9, ending: Ending::Busy { max_calls: 3 }, failures: vec![] }]);
    assert_eq!(run(&mut engine, commands).len(), 3);
}

#[test]
fn a_short_call_is_served_while_a_long_one_runs() {
    let mut engine = engine(1);
    let commands = engine.step(Time::ZERO, Event::Submit(call(1, 1_000_000)));
    let (slot, _, chunk) = assigned(&commands)[0].clone();
    engine.step(Time::ZERO, Event::Submit(call(2, 1)));
    // The long call hands back what its budget did not allow; the short one is next.
    let next = engine.step(BUDGET, Event::ChunkDone(slot, Generation(0), done(chunk.start + 10)));
    assert_eq!(assigned(&next), [(slot, 2, 0..1)]);
}

#[test]
fn priorities_shift_the_shares() {
    let mut engine = engine(1);
    let mut first = engine.step(Time::ZERO, Event::Submit(CallSpec { priority: Priority::Low, ..call(1, 10_000) }));
    engine.step(Time::ZERO, Event::Submit(CallSpec { priority: Priority::High, ..call(2, 10_000) }));
    let mut served = [0, 0, 0];
    for _ in 0..170 {
        let (slot, handle, chunk) = assigned(&first)[0].clone();
        served[handle as usize] += 1;
        first = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), done(chunk.start + 1)));
    }
    assert!(served[2] > 10 * served[1], "{served:?}");
    assert!(served[1] > 5, "{served:?}");
}

/// A call whose items were all in flight came back to the queue with its old claim, while newcomers joined where the
/// others had come to: they waited until it had caught up, for as long as it had items.
#[test]
fn a_call_that_hands_items_back_does_not_keep_newcomers_waiting() {
    let mut engine = engine(2);
    let slow = |reached| ChunkDone { elapsed: Duration::from_millis(100), ..done(reached) };
    let teach = engine.step(Time::ZERO, Event::Submit(call(0, 1)));
    let quick = ChunkDone { elapsed: Duration::from_nanos(100), ..done(1) };
    engine.step(Time::ZERO, Event::ChunkDone(assigned(&teach)[0].0, Generation(0), quick));
    // A few items of a quick function: one chunk. Beside it a call of low priority runs for long.
    let few = engine.step(Time::ZERO, Event::Submit(CallSpec { priority: Priority::High, ..call(1, 8) }));
    let (slot, _, range) = assigned(&few)[0].clone();
    assert_eq!(range, 0..8);
    let long = CallSpec { function: "g", priority: Priority::Low, ..call(2, 1000) };
    let mut long = engine.step(Time::ZERO, Event::Submit(long));
    for _ in 0..5 {
        let (slot, _, range) = assigned(&long)[0].clone();
        long = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), slow(range.start + 1)));
    }
    engine.step(Time::ZERO, Event::Submit(CallSpec { function: "h", ..call(3, 1) }));
    // This time the function was slow. Both have the same claim now, and the older one is served first, but once.
    let next = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), slow(1)));
    assert_eq!(assigned(&next), [(slot, 1, 1..2)]);
    let next = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), slow(2)));
    assert_eq!(assigned(&next), [(slot, 3, 0..1)]);
}

#[test]
fn a_cancelled_call_ends_at_once_and_its_slot_works_on() {
    let mut engine = engine(1);
    let commands = engine.step(Time::ZERO, Event::Submit(call(1, 10)));
    let (slot, _, _) = assigned(&commands)[0].clone();
    let commands = engine.step(Time::ZERO, Event::Cancel(CallId(1), Ending::Cancelled));
    assert_same(&commands, [Command::Finish { handle: 1, ending: Ending::Cancelled, failures: vec![] }]);
    assert!(engine.step(Time::ZERO, Event::Submit(call(2, 1))).is_empty(), "the slot is still busy");
    let next = engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), done(3)));
    assert_eq!(assigned(&next), [(slot, 2, 0..1)]);
}

#[test]
fn the_first_failure_waits_for_the_items_before_it_only() {
    let mut engine = engine(2);
    let commands = engine.step(Time::ZERO, Event::Submit(CallSpec { stops_at_failure: true, ..call(1, 100) }));
    let chunks = assigned(&commands);
    let (early, late) = (&chunks[0], &chunks[1]);
    let failed = ChunkDone { first_failure: Some(late.2.start), ..done(late.2.end) };
    assert!(engine.step(Time::ZERO, Event::ChunkDone(late.0, Generation(0), failed)).is_empty());
    let end = engine.step(Time::ZERO, Event::ChunkDone(early.0, Generation(0), done(early.2.end)));
    assert!(
        matches!(end[0], Command::Finish { ending: Ending::FirstFailure(index), .. } if index == late.2.start),
        "{end:?}"
    );
}

#[test]
fn a_dead_thread_is_replaced_and_its_items_are_redone() {
    let mut engine = engine(1);
    let commands = engine.step(Time::ZERO, Event::Submit(call(1, 10)));
    let (slot, _, chunk) = assigned(&commands)[0].clone();
    assert_eq!(chunk, 0..5);
    let death = Death {
        reached: 2,
        stage: Stage::Proven,
        failures: vec![],
        again: vec![],
        first_failure: None,
        blame: Some(Blame::of_thread(2, false)),
    };
    let commands = engine.step(Time::ZERO, Event::SlotLost(slot, Generation(0), Some(death)));
    assert_same(&commands, [Command::Start(slot, Generation(1), Duration::ZERO)]);
    assert!(
        engine.step(Time::ZERO, Event::ChunkDone(slot, Generation(0), done(5))).is_empty(),
        "the dead are not heard"
    );
    let next = engine.step(Time::ZERO, Event::SlotReady(slot, Generation(1)));
    assert_eq!(assigned(&next)[0].2, 3..5);
    assert_eq!(run(&mut engine, next.into_vec()), [(1, Ending::ItemsFailed)]);
}

#[test]
fn calls_end_when_every_slot_has_given_up() {
    let mut engine = engine(1);
    let mut commands = engine.step(Time::ZERO, Event::Submit(call(1, 10))).into_vec();
    for life in 0..MAX_RESTARTS as u32 {
        commands = engine.step(Time::ZERO, Event::SlotLost(WorkerId(0), Generation(life), None)).into_vec();
        engine.step(Time::ZERO, Event::SlotReady(WorkerId(0), Generation(life + 1)));
    }
    assert!(matches!(commands[0], Command::GaveUp(WorkerId(0))));
    let Command::Finish { ending: Ending::NoWorkers, failures, .. } = &commands[1] else { panic!("{commands:?}") };
    assert!(matches!(failures[0].cause, FailureCause::Poisoned { deaths: 3, exit: None }));
    let refused = engine.step(Time::ZERO, Event::Submit(call(2, 1)));
    assert!(matches!(refused[0], Command::Finish { ending: Ending::NoWorkers, .. }));
}

#[test]
fn a_thread_that_overstays_a_timed_out_call_is_abandoned() {
    let mut engine = engine(1);
    engine.step(Time::ZERO, Event::Submit(call(1, 1)));
    let commands = engine.step(Time::ZERO, Event::Cancel(CallId(1), Ending::TimedOut));
    assert!(matches!(commands[0], Command::WakeAt(ABANDON_AFTER)), "{commands:?}");
    assert_same(&engine.step(ABANDON_AFTER / 2, Event::Tick), [Command::WakeAt(ABANDON_AFTER)]);
    let commands = engine.step(ABANDON_AFTER, Event::Tick);
    assert_same(&commands, [Command::Start(WorkerId(0), Generation(1), Duration::ZERO)]);
}

#[test]
fn the_engine_ends_with_a_call_that_says_so() {
    let mut engine = engine(2);
    let commands = engine.step(Time::ZERO, Event::Submit(CallSpec { ends_engine: true, ..call(1, 3) }));
    assert_eq!(run(&mut engine, commands.into_vec()), [(1, Ending::Complete)]);
    assert_eq!(engine.stopped(), Some(Ending::EndedAfterCall));
    let refused = engine.step(Time::ZERO, Event::Submit(call(2, 1)));
    assert!(matches!(refused[0], Command::Finish { ending: Ending::EndedAfterCall, .. }));
}

/// The call that ends the engine takes the slots with it: calls beside it were left without a slot, and never ended.
#[test]
fn calls_beside_the_one_that_ends_the_engine_end_with_it() {
    let mut engine = engine(1);
    let commands = engine.step(Time::ZERO, Event::Submit(CallSpec { ends_engine: true, ..call(1, 1) }));
    engine.step(Time::ZERO, Event::Submit(call(2, 5)));
    assert_eq!(run(&mut engine, commands.into_vec()), [(2, Ending::EndedAfterCall), (1, Ending::Complete)]);
    assert!(engine.status(Time::ZERO).calls.is_empty());
}

#[test]
fn a_stronger_ending_replaces_a_weaker_one_but_not_the_other_way() {
    let mut engine = engine(1);
    engine.step(Time::ZERO, Event::Submit(call(1, 5)));
    let commands = engine.step(Time::ZERO, Event::Stop(Ending::Finished));
    assert!(matches!(commands[0], Command::Finish { ending: Ending::Finished, .. }));
    assert!(matches!(commands[1], Command::Release(WorkerId(0))));
    for (ending, then) in [(Ending::ShutDown, Ending::ShutDown), (Ending::Finished, Ending::ShutDown)] {
        assert!(engine.step(Time::ZERO, Event::Stop(ending)).is_empty());
        assert_eq!(engine.stopped(), Some(then));
    }
}
