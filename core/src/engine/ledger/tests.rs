use super::*;
use proptest::prelude::*;

const W: WorkerId = WorkerId(0);

fn death(reached: usize) -> Death {
    Death {
        reached,
        stage: Stage::after(0, reached),
        failures: vec![],
        again: vec![],
        first_failure: None,
        blame: Some(Blame::of_thread(reached, true)),
    }
}

/// Drives a ledger by a random story and checks that every item ends exactly once.
fn story(items: usize, choices: &[(usize, u8)]) -> (usize, Vec<usize>) {
    let mut ledger = Ledger::new(items);
    let mut seen = vec![0u32; items];
    let mut choices = choices.iter().cycle();
    while !ledger.is_settled() {
        let &(size, what) = choices.next().expect("cycles");
        let front = ledger.front();
        let chunk = front.start..front.start + size.clamp(1, front.len());
        ledger.give(W, chunk.clone());
        let reached = chunk.start + (size / 2).min(chunk.len());
        match what % 4 {
            0 => {
                ledger.bury(
                    W,
                    Death {
                        reached,
                        stage: Stage::after(chunk.start, reached),
                        failures: vec![],
                        again: vec![],
                        first_failure: None,
                        blame: Some(Blame::of_thread(reached, what.is_multiple_of(8))),
                    },
                );
                chunk.clone().take(reached - chunk.start).for_each(|i| seen[i] += 1);
            }
            1 => {
                ledger.settle(W, reached, vec![], vec![]);
                chunk.clone().take(reached - chunk.start).for_each(|i| seen[i] += 1);
            }
            _ => {
                ledger.settle(W, chunk.end, vec![], vec![]);
                chunk.for_each(|i| seen[i] += 1);
            }
        }
    }
    assert_eq!(ledger.done() + ledger.failed(), items);
    let failed: Vec<usize> = ledger.into_failures().iter().map(|f| f.index).collect();
    for &i in &failed {
        seen[i] += 1;
    }
    assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
    (items, failed)
}

proptest! {
    #[test]
    fn every_item_ends_exactly_once_whatever_dies(
        items in 0usize..300, choices in proptest::collection::vec((1usize..40, 0u8..16), 1..60)
    ) {
        let mut choices = choices;
        choices.push((7, 2)); // something must go well now and then
        story(items, &choices);
    }
}

#[test]
fn an_item_is_tried_by_another_worker_while_there_is_other_work_for_the_one_it_killed() {
    let mut ledger = Ledger::new(10);
    let [one, other] = [WorkerId(0), WorkerId(1)];
    ledger.give(one, 0..6);
    ledger.bury(one, death(2));
    // What it had begun, and then what it had not.
    assert_eq!((ledger.front_for(one), ledger.front_for(other)), (3..6, 2..3));
    ledger.give(one, 3..6);
    assert_eq!((ledger.front_for(one), ledger.front_for(other)), (6..10, 2..3));
    ledger.give(one, 6..10);
    assert_eq!(ledger.front_for(one), 2..3, "nothing else is left");
    ledger.give(other, 2..3);
    ledger.bury(other, death(2));
    assert_eq!((ledger.front_for(one), ledger.front_for(other)), (2..3, 2..3));
}

#[test]
fn an_item_that_keeps_killing_fails_alone_at_the_third_death() {
    let mut ledger = Ledger::new(10);
    ledger.give(W, 0..10);
    ledger.bury(W, death(4));
    assert_eq!(ledger.front(), 4..5, "alone from the first death on");
    ledger.give(W, 4..5);
    ledger.bury(W, death(4));
    assert_eq!(ledger.front(), 4..5);
    assert_eq!(ledger.give(W, 4..5), 3);
    ledger.bury(W, death(4));
    assert_eq!(ledger.front(), 5..10);
    ledger.give(W, 5..10);
    ledger.settle(W, 10, vec![], vec![]);
    assert!(ledger.is_settled());
    assert_eq!(ledger.into_failures()[0].index, 4);
}

/// A long call whose threads die now and then kept an entry for each death until its end.
#[test]
fn what_was_held_against_an_item_is_forgotten_when_it_ends_well() {
    let mut ledger = Ledger::new(1000);
    for item in 0..500 {
        let chunk = ledger.front();
        ledger.give(W, chunk.clone());
        ledger.bury(W, death(item));
        assert_eq!(ledger.give(W, item..item + 1), 2);
        ledger.settle(W, item + 1, vec![], vec![]);
        assert!(ledger.tried.is_empty(), "{:?}", ledger.tried);
    }
}

/// A process takes the results of a whole chunk along, whichever item was to blame.
#[test]
fn an_item_inside_a_chunk_is_blamed_without_those_around_it() {
    let mut ledger = Ledger::new(10);
    for attempt in 1..=3 {
        let blame = Some(Blame { items: 4..5, sentence: Sentence::Again(None), away: None });
        let chunk = if attempt == 1 { 0..10 } else { 4..5 };
        assert_eq!(ledger.give(W, chunk.clone()), attempt);
        ledger.bury(W, Death { blame, ..death(chunk.start) });
        if attempt == 1 {
            assert_eq!(ledger.front(), 0..4);
            ledger.give(W, 0..4);
            ledger.settle(W, 4, vec![], vec![]);
        }
    }
    assert_eq!((ledger.front(), ledger.failed()), (5..10, 1));
    ledger.give(W, 5..10);
    let cause = FailureCause::TimedOut { limit: std::time::Duration::from_secs(1) };
    let blame = Some(Blame { items: 7..8, sentence: Sentence::Fails(cause), away: None });
    ledger.bury(W, Death { blame, ..death(5) });
    for rest in [5..7, 8..10] {
        assert_eq!(ledger.front(), rest);
        ledger.give(W, rest.clone());
        ledger.settle(W, rest.end, vec![], vec![]);
    }
    assert!(ledger.is_settled());
    let failed: Vec<_> = ledger.into_failures().iter().map(|it| (it.index, it.cause.error_type())).collect();
    assert_eq!(failed, [(4, "poisoned"), (7, "item_timeout")]);
}

#[test]
fn a_block_that_kills_is_halved_until_one_item_is_to_blame() {
    let mut ledger = Ledger::new(64);
    ledger.give(W, 0..64);
    let mut blocks: Vec<_> = std::iter::once(0..64).collect();
    let mut deaths = 0;
    while let Some(block) = blocks.pop() {
        if block.contains(&37) {
            deaths += 1;
            let blame = Some(Blame { items: block.clone(), sentence: Sentence::Again(None), away: None });
            ledger.bury(W, Death { blame, ..death(block.start) });
        } else {
            ledger.settle(W, block.end, vec![], vec![]);
        }
        if !ledger.is_settled() {
            let next = ledger.front();
            ledger.give(W, next.clone());
            blocks.push(next);
        }
    }
    assert_eq!((ledger.done(), deaths), (63, 6 + 3));
    assert_eq!(ledger.into_failures()[0].index, 37);
}

#[test]
fn items_that_come_behind_a_cut_are_not_wanted() {
    let mut ledger = Ledger::new(10);
    ledger.give(W, 0..10);
    ledger.extend(10);
    assert_eq!((ledger.front(), ledger.pending()), (10..20, 10));
    ledger.cut(3);
    ledger.extend(10);
    assert_eq!((ledger.items(), ledger.pending()), (30, 0));
    ledger.settle(W, 2, vec![], vec![]);
    assert_eq!(ledger.front(), 2..3);
}

#[test]
fn a_cut_forgets_what_lies_beyond_and_waits_for_what_lies_before() {
    let mut ledger = Ledger::new(100);
    ledger.give(WorkerId(0), 0..10);
    ledger.give(WorkerId(1), 10..20);
    ledger.cut(15);
    assert_eq!(ledger.pending(), 0);
    ledger.settle(WorkerId(1), 20, vec![], vec![]);
    assert!(!ledger.is_settled(), "items before the cut still run");
    ledger.settle(WorkerId(0), 5, vec![], vec![]);
    assert_eq!(ledger.front(), 5..10);
}
