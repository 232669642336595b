//! Every element is dropped exactly once, whatever happens half-way; run under AddressSanitizer too (`.ci/long asan`).

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Elements on the heap, so that a double drop or a leak shows.
fn words(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("word {i}")).collect()
}

#[test]
fn items_pass_through_and_come_together_again() {
    let mut items = Items::from_vec(words(10));
    let mut late = items.split_off(6);
    let mut output = Output::blank(Vec::new(), 1, 10);
    let mut late_output = output.split_off(6);
    map_owned(&mut late, &mut late_output, 4, |word| word + "!");
    map_owned(&mut items, &mut output, 6, |word| word + "!");
    let parts = vec![late_output.into_filled(), output.into_filled()];
    let expected: Vec<String> = words(10).into_iter().map(|word| word + "!").collect();
    assert_eq!(Items::assemble(parts).ok(), Some(expected));
}

#[test]
fn a_panic_costs_one_item_and_leaves_the_rest() {
    let mut items = Items::from_vec(words(10));
    let mut output = Output::blank(Vec::new(), 1, 10);
    let run = catch_unwind(AssertUnwindSafe(|| {
        map_owned(&mut items, &mut output, 8, |word| if word.ends_with('3') { panic!() } else { word });
    }));
    assert!(run.is_err());
    assert_eq!(items.range(), 4..10);
    assert_eq!(output.filled(), &words(3)[..]);
    let before = output.take_filled();
    let mut output = output.split_off(4);
    assert_eq!(output.room(), 4..10);
    map_owned(&mut items, &mut output, 2, |word| word);
    let parts = Items::assemble(vec![output.into_filled(), before]).expect_err("items 3 and 6.. are missing");
    let found: Vec<String> = parts.into_iter().flat_map(Items::into_vec).collect();
    assert_eq!(found, ["word 0", "word 1", "word 2", "word 4", "word 5"]);
}

#[test]
fn a_place_that_was_vacated_is_filled_again() {
    let mut output = Output::blank(Vec::new(), 1, 5);
    map_owned(&mut Items::from_vec(words(5)), &mut output, 5, |word| word);
    let mut before = output.into_filled();
    let mut one = before.split_off(2);
    let after = one.split_off(3);
    let (old, place) = one.vacate();
    assert_eq!((old, place.room()), (vec!["word 2".to_owned()], 2..3));
    let parts = Items::assemble(vec![before, after]).expect_err("item 2 is missing");
    let again = place.fill(vec!["again".into()]);
    let all = Items::assemble(parts.into_iter().chain([again]).collect()).ok().expect("whole, in one allocation");
    assert_eq!(all, ["word 0", "word 1", "again", "word 3", "word 4"]);
}

#[test]
fn blocks_land_in_their_columns() {
    let mut left = Output::blank(Vec::new(), 2, 5);
    let right = left.split_off(2);
    let right = right.fill(["c", "d", "e", "C", "D", "E"].map(String::from).to_vec());
    let left = left.fill(["a", "b", "A", "B"].map(String::from).to_vec());
    let all = Items::assemble(vec![left, right]).ok().expect("whole");
    assert_eq!(all.join(""), "abcdeABCDE");
}

#[test]
fn an_allocation_is_used_again() {
    let buffer = Vec::<u64>::with_capacity(100);
    let place = buffer.as_ptr();
    let mut output = Output::blank(buffer, 1, 50);
    map_borrowed(&[1u64; 50], &mut output, |x| x + 1);
    let all = Items::assemble(vec![output.into_filled()]).ok().expect("whole");
    assert_eq!((all.as_ptr(), all.len()), (place, 50));
}

#[test]
fn unfinished_parts_drop_what_they_hold() {
    let mut items = Items::from_vec(words(10));
    drop(items.split_off(7));
    let mut output = Output::blank(Vec::new(), 1, 10);
    map_owned(&mut items, &mut output, 3, |word| word);
    drop(output);
    assert_eq!(items.as_slice(), &words(7)[3..]);
}

#[test]
fn elements_without_size_are_counted_too() {
    let mut items = Items::from_vec(vec![(); 1000]);
    let mut output = Output::blank(Vec::new(), 1, 1000);
    map_owned(&mut items, &mut output, 1000, |()| ());
    assert_eq!(Items::assemble(vec![output.into_filled()]).ok().map(|all| all.len()), Some(1000));
}
