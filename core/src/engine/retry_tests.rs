//! Stories of items that fail and are tried again.

use super::{tests::*, *};
use crate::failure::{FailureCause, ItemFailure};

const MS: Duration = Duration::from_millis(1);

/// Two slots, and a call of so many items that may be tried again three times.
fn started(items: usize) -> (Engine<u64>, Commands<u64>) {
    let mut engine = engine(2);
    let spec = CallSpec { retries: Retries::times(3), ..call(1, items) };
    let commands = engine.step(Time::ZERO, Event::Submit(spec));
    (engine, commands)
}

fn failure(item: usize) -> ItemFailure {
    ItemFailure::new(item, WorkerId(0), 1, FailureCause::Panicked { message: "odd".into(), place: None })
}

type Given = (WorkerId, Generation, Chunk<u64>);

fn chunks(commands: &[Command<u64>]) -> Vec<Given> {
    let one = |command: &Command<u64>| match command {
        Command::Assign(slot, generation, chunk) => Some((*slot, *generation, chunk.clone())),
        _ => None,
    };
    commands.iter().filter_map(one).collect()
}

/// The one chunk among `commands`.
fn chunk(commands: &[Command<u64>]) -> Given {
    let [given] = &chunks(commands)[..] else { panic!("one chunk is given out, not {commands:?}") };
    given.clone()
}

/// How long the items wait that are to be tried again, and when the engine wants to be woken.
fn waits(commands: &[Command<u64>]) -> (Vec<(usize, Duration)>, Option<Time>) {
    let retried = commands.iter().filter_map(|command| match command {
        Command::Retried { failure, wait, .. } => Some((failure.index, *wait)),
        _ => None,
    });
    let wake = commands.iter().find_map(|command| if let Command::WakeAt(at) = command { Some(*at) } else { None });
    (retried.collect(), wake)
}

/// The whole chunk is done but for these items, which failed.
fn fails(engine: &mut Engine<u64>, now: Time, (slot, generation, chunk): &Given, items: &[usize]) -> Commands<u64> {
    let report = ChunkDone { again: items.iter().copied().map(failure).collect(), ..done(chunk.range.end) };
    engine.step(now, Event::ChunkDone(*slot, *generation, report))
}

#[test]
fn an_item_that_fails_is_tried_again_after_its_wait_and_counts_as_failed_after_the_last_try() {
    let (mut engine, commands) = started(1);
    let mut given = chunk(&commands);
    let mut now = Time::ZERO;
    for attempt in 1..=3 {
        assert_eq!((given.2.attempt, given.2.retries), (attempt, 4 - attempt));
        now += MS;
        let commands = fails(&mut engine, now, &given, &[0]);
        let (retried, wake) = waits(&commands);
        let [(0, wait)] = retried[..] else { panic!("{commands:?}") };
        assert!(wait <= 50 * MS * 2u32.pow(attempt - 1), "{wait:?} after attempt {attempt}");
        assert_eq!(wake, Some(now + wait));
        assert_eq!(engine.status(now).calls[0].deferred, 1);
        if let Some(early) = wait.checked_sub(Duration::from_nanos(1)) {
            assert!(engine.step(now + early, Event::Tick).is_empty(), "no slot is held and nothing is given out");
        }
        now += wait;
        given = chunk(&engine.step(now, Event::Tick));
    }
    assert_eq!((given.2.attempt, given.2.retries), (4, 0));
    // A report that knows no better is not believed.
    let commands = fails(&mut engine, now, &given, &[0]);
    let [Command::Finish { ending: Ending::ItemsFailed, failures, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(failures.len(), 1);
    assert_eq!(engine.footprint(), 2 + 1, "two idle slots and a cost");
}

#[test]
fn other_items_go_on_meanwhile() {
    let (mut engine, commands) = started(100);
    let given = chunks(&commands);
    let commands = fails(&mut engine, MS, &given[0], &[0, 2]);
    let (retried, wake) = waits(&commands);
    assert_eq!(retried.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(wake, retried.iter().map(|(_, wait)| MS + *wait).min());
    let next = chunk(&commands);
    assert_eq!(next.2.range.start, given[1].2.range.end, "new items, not those that wait");
    // When both may be tried again they go first, each alone.
    let commands = engine.step(Duration::from_secs(1), Event::ChunkDone(next.0, next.1, done(next.2.range.end)));
    let again = chunk(&commands).2;
    assert_eq!((again.range, again.attempt), (0..1, 2));
}

#[test]
fn a_call_that_ends_does_not_wait_for_items_that_do() {
    for ending in [Ending::Cancelled, Ending::TimedOut] {
        let (mut engine, commands) = started(1);
        fails(&mut engine, MS, &chunk(&commands), &[0]);
        let commands = engine.step(2 * MS, Event::Cancel(CallId(1), ending));
        assert!(matches!(&commands[..], [Command::Finish { .. }]), "{commands:?}");
        assert_eq!(engine.footprint(), 2 + 1);
        assert!(engine.step(Duration::from_secs(9), Event::Tick).is_empty());
    }
    let (mut engine, commands) = started(1);
    fails(&mut engine, MS, &chunk(&commands), &[0]);
    let commands = engine.step(2 * MS, Event::Stop(Ending::Finished));
    assert!(matches!(&commands[0], Command::Finish { ending: Ending::Finished, .. }), "{commands:?}");
}

#[test]
fn the_first_failure_waits_for_earlier_items() {
    let mut engine = engine(1);
    let spec = CallSpec { retries: Retries::times(1), stops_at_failure: true, ..call(1, 4) };
    let given = chunk(&engine.step(Time::ZERO, Event::Submit(spec)));
    // The next new item fails for good; item 0 may yet be the first.
    let (slot, generation, next) = chunk(&fails(&mut engine, MS, &given, &[0]));
    assert_eq!(next.range.start, 2);
    let report = ChunkDone { failures: vec![failure(2)], first_failure: Some(2), ..done(3) };
    let commands = engine.step(2 * MS, Event::ChunkDone(slot, generation, report));
    assert!(commands.is_empty(), "{commands:?}");
    let now = Duration::from_secs(1);
    let (slot, generation, again) = chunk(&engine.step(now, Event::Tick));
    assert_eq!(again.range, 0..1);
    let report = ChunkDone { failures: vec![failure(0)], first_failure: Some(0), ..done(1) };
    let commands = engine.step(now, Event::ChunkDone(slot, generation, report));
    assert!(matches!(commands[0], Command::Finish { ending: Ending::FirstFailure(0), .. }), "{commands:?}");
}

#[test]
fn the_first_failure_does_not_wait_for_later_items() {
    let mut engine = engine(2);
    let spec = CallSpec { retries: Retries::times(1), stops_at_failure: true, ..call(1, 2) };
    let mut given: Vec<Given> = chunks(&engine.step(Time::ZERO, Event::Submit(spec)));
    assert!(fails(&mut engine, MS, &given.pop().unwrap(), &[1]).len() == 2, "retried, and a wake-up");
    let (slot, generation, first) = given.pop().unwrap();
    let report = ChunkDone { failures: vec![failure(0)], first_failure: Some(0), ..done(first.range.end) };
    let commands = engine.step(MS, Event::ChunkDone(slot, generation, report));
    assert!(matches!(commands[0], Command::Finish { ending: Ending::FirstFailure(0), .. }), "{commands:?}");
    assert_eq!(engine.footprint(), 2 + 1);
}

#[test]
fn an_open_call_tells_failures_that_are_final_and_does_not_end_before() {
    let mut engine = engine(1);
    let spec = CallSpec { is_open: true, retries: Retries::times(1), ..call(1, 1) };
    let given = chunk(&engine.step(Time::ZERO, Event::Submit(spec)));
    let commands = fails(&mut engine, MS, &given, &[0]);
    assert!(commands.iter().all(|command| !matches!(command, Command::Failed { .. })), "{commands:?}");
    assert!(engine.step(2 * MS, Event::Close(CallId(1))).is_empty());
    let (slot, generation, _) = chunk(&engine.step(Duration::from_secs(1), Event::Tick));
    let report = ChunkDone { failures: vec![failure(0)], ..done(1) };
    let commands = engine.step(Duration::from_secs(1), Event::ChunkDone(slot, generation, report));
    assert!(
        matches!(&commands[..], [Command::Failed { .. }, Command::Finish { ending: Ending::ItemsFailed, .. }]),
        "{commands:?}"
    );
}

#[test]
fn an_item_that_ran_too_long_is_tried_again_and_deaths_count_apart() {
    let (mut engine, commands) = started(1);
    let (slot, generation, _) = chunk(&commands);
    let dies = |sentence| {
        let blame = Some(Blame { items: 0..1, sentence, away: None });
        let (failures, again) = (vec![], vec![]);
        Some(Death { reached: 0, stage: Stage::Running, failures, again, first_failure: None, blame })
    };
    let overdue = FailureCause::TimedOut { limit: MS };
    let commands = engine.step(MS, Event::SlotLost(slot, generation, dies(Sentence::FailsForNow(overdue))));
    let (retried, _) = waits(&commands);
    assert_eq!(retried.len(), 1, "{commands:?}");
    // The other slot takes it, and its thread dies at it, twice; then it is tried as often as it may.
    let mut now = Duration::from_secs(1);
    let mut given = chunk(&engine.step(now, Event::Tick));
    for attempt in 2..=3 {
        assert_eq!((given.2.attempt, given.2.retries), (attempt, 2));
        now += Duration::from_secs(20);
        let death = dies(Sentence::Again(None));
        engine.step(now, Event::SlotLost(given.0, given.1, death));
        given = chunk(&engine.step(now, Event::SlotReady(given.0, Generation(given.1.0 + 1))));
    }
    assert_eq!((given.2.attempt, given.2.retries), (4, 2));
    let commands = fails(&mut engine, now, &given, &[0]);
    assert_eq!(waits(&commands).0.len(), 1, "{commands:?}");
}

#[test]
fn calls_whose_items_wait_to_be_tried_again_are_not_said_to_stall() {
    let (mut engine, commands) = started(1);
    let mut watch = crate::event::watch::Watch::new(1, Time::ZERO);
    let given = chunk(&commands);
    let report = ChunkDone { again: vec![failure(0)], ..done(1) };
    engine.step(MS, Event::ChunkDone(given.0, given.1, report));
    for second in 1..5 {
        let mut status = engine.status(MS);
        status.at = Duration::from_secs(second);
        assert!(watch.look(&status, Default::default()).is_empty());
    }
}
