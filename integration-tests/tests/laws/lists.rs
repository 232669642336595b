//! A list call equals `items.map(f)`.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use distfun::{DistributeBuilder, Ending, ListKernel, prelude::*};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{cases, lengths, slots};

/// Every way to give `items` to the function returns `expected`.
fn check<A, R, S: Clone + 'static>(
    function: DistributeBuilder<ListKernel<A, R>, S>,
    slots: usize,
    items: Vec<A>,
    expected: Vec<R>,
) where
    A: Clone + Debug + Send + Sync + 'static,
    R: Debug + PartialEq + Send + 'static,
{
    let once = || function.clone().slots(slots).build().unwrap();
    assert_eq!(once().map(items.clone()).wait().unwrap(), expected, "owned");
    assert_eq!(once().map(&items).wait().unwrap(), expected, "borrowed");
    assert_eq!(function.clone().sequential(true).build().unwrap().map(&items).wait().unwrap(), expected, "sequential");

    let warm = function.slots(slots).endaftercall(false).build().unwrap();
    assert_eq!(warm.map(items.iter().cloned()).wait().unwrap(), expected, "iterator");
    assert_eq!(warm.map(items.as_slice()).wait().unwrap(), expected, "slice");
    let settled: Result<Vec<R>, _> = warm.map(items.clone()).settle().into_iter().collect();
    assert_eq!(settled.unwrap(), expected, "settled");
    assert_eq!(futures::executor::block_on(warm.map(items.clone())).unwrap(), expected, "awaited");

    let mut results = Vec::with_capacity(items.len() + 1);
    let allocation = results.as_ptr();
    warm.map_into(&items, &mut results).wait().unwrap();
    assert_eq!(results, expected, "into, borrowed");
    warm.map_into(items.clone(), &mut results).wait().unwrap();
    assert_eq!(results, expected, "into, owned");
    if !items.is_empty() {
        assert_eq!(results.as_ptr(), allocation, "the buffer is used again");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    name: String,
    at: (f64, f64),
}

fn point(i: usize) -> Point {
    Point { name: format!("p{i}"), at: (i as f64, 1.0 / (i as f64 + 1.0)) }
}

fn widened(x: u8) -> [u64; 8] {
    std::array::from_fn(|i| u64::from(x) << i)
}

fn narrowed(x: u64) -> u8 {
    (x % 251) as u8
}

fn norm(point: &Point) -> f64 {
    point.at.0.hypot(point.at.1) + point.name.len() as f64
}

fn moved(mut point: Point) -> Point {
    point.name.push('!');
    point.at.0 += 1.0;
    point
}

fn shouted(text: String) -> String {
    text.to_uppercase()
}

fn placed(x: u32, context: &Context) -> (usize, u32) {
    assert_eq!(context.items(), context.index()..context.index() + 1);
    (context.index(), x)
}

fn placed_name(point: &Point, context: &Context) -> String {
    format!("{} {}", context.index(), point.name)
}

fn counted(_: Nothing, context: &Context) -> usize {
    context.index()
}

fn doubled(items: Vec<u32>) -> Vec<u64> {
    items.into_iter().map(|x| 2 * u64::from(x)).collect()
}

proptest! {
    #![proptest_config(cases(20))]

    #[test]
    fn functions_by_value_equal_the_loop(slots in slots(), seed in any::<u32>(), n in lengths(3000)) {
        let numbers: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(u64::from(seed))).collect();
        check(distribute!(narrowed), slots, numbers.clone(), numbers.iter().map(|&x| narrowed(x)).collect());
        let bytes: Vec<u8> = numbers.iter().map(|&x| x as u8).collect();
        check(distribute!(widened), slots, bytes.clone(), bytes.iter().map(|&x| widened(x)).collect());
        let texts: Vec<String> = numbers.iter().map(|x| format!("item {x}")).collect();
        check(distribute!(shouted), slots, texts.clone(), texts.iter().cloned().map(shouted).collect());
        let points: Vec<Point> = (0..n).map(point).collect();
        check(distribute!(moved), slots, points.clone(), points.into_iter().map(moved).collect());
    }

    #[test]
    fn functions_by_reference_equal_the_loop(slots in slots(), n in lengths(3000)) {
        let points: Vec<Point> = (0..n).map(point).collect();
        check(distribute!(norm), slots, points.clone(), points.iter().map(norm).collect());
        let lists: Vec<Vec<usize>> = (0..n).map(|i| (0..i % 7).collect()).collect();
        let expected = lists.iter().map(|list| list.iter().sum()).collect();
        check(distribute!(|list: &Vec<usize>| list.iter().sum::<usize>()), slots, lists, expected);
    }

    #[test]
    fn closures_equal_the_loop(slots in slots(), n in lengths(3000), factor in any::<u64>()) {
        let items: Vec<u64> = (0..n as u64).collect();
        check(distribute!(|x: u64| x ^ 0xff), slots, items.clone(), items.iter().map(|x| x ^ 0xff).collect());
        let expected: Vec<u64> = items.iter().map(|x| x.wrapping_mul(factor)).collect();
        let factor = Arc::new(factor);
        let by_ref = { let factor = factor.clone(); move |x: &u64| x.wrapping_mul(*factor) };
        check(distribute_local_ref(by_ref), slots, items.clone(), expected.clone());
        check(distribute_local(move |x: u64| x.wrapping_mul(*factor)), slots, items, expected);
    }

    #[test]
    fn functions_with_a_context_know_their_index(slots in slots(), n in lengths(3000)) {
        let items: Vec<u32> = (0..n as u32).map(|i| i ^ 5).collect();
        check(distribute!(placed), slots, items.clone(), items.iter().copied().enumerate().collect());
        let points: Vec<Point> = (0..n).map(point).collect();
        let expected = points.iter().enumerate().map(|(i, point)| format!("{i} {}", point.name)).collect();
        check(distribute!(placed_name), slots, points, expected);
        let expected = items.iter().enumerate().map(|(i, &x)| i as u64 + u64::from(x)).collect();
        check(distribute!(|x: u32, c: &Context<'_>| c.index() as u64 + u64::from(x)), slots, items, expected);
    }

    #[test]
    fn items_and_results_without_size_equal_the_loop(slots in slots(), n in lengths(3000)) {
        check(distribute!(counted), slots, vec![Nothing; n], (0..n).collect());
        check(distribute!(|_: Nothing| ()), slots, vec![Nothing; n], vec![(); n]);
        check(distribute!(|_: &Nothing| Nothing), slots, vec![Nothing; n], vec![Nothing; n]);
        check(distribute!(|_: String| Nothing), slots, vec!["x".to_string(); n], vec![Nothing; n]);
    }

    #[test]
    fn functions_of_whole_chunks_equal_the_loop(slots in slots(), n in lengths(3000)) {
        let items: Vec<u32> = (0..n as u32).collect();
        check(distribute!(doubled).accept_lists(), slots, items.clone(), doubled(items));
        let texts: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let expected = texts.iter().map(|text| text.repeat(2)).collect();
        let twice = distribute!(|texts: Vec<String>| texts.iter().map(|text| text.repeat(2)).collect::<Vec<_>>());
        check(twice.accept_lists(), slots, texts, expected);
    }

    #[test]
    fn chunks_cover_all_items_once_and_none_is_empty(slots in slots(), n in lengths(3000), borrowed in any::<bool>()) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let function = distribute_local(move |items: Vec<usize>, context: &Context<'_>| {
            log.lock().unwrap().push((context.items(), items.clone()));
            items
        });
        let function = function.accept_lists().slots(slots).build().unwrap();
        let items: Vec<usize> = (0..n).map(|i| 7 * i).collect();
        let results = if borrowed { function.map(&items).wait() } else { function.map(items.clone()).wait() };
        prop_assert_eq!(results.unwrap(), items.clone());
        let mut chunks = std::mem::take(&mut *seen.lock().unwrap());
        chunks.sort_by_key(|(range, _)| range.start);
        let mut next = 0;
        for (range, given) in chunks {
            prop_assert_eq!(range.start, next);
            prop_assert!(!range.is_empty());
            prop_assert_eq!(&given, &items[range.clone()]);
            next = range.end;
        }
        prop_assert_eq!(next, n);
    }
}

#[test]
fn arrays_are_taken_owned_and_borrowed() {
    let double = || distribute!(|x: u32| 2 * x).slots(3).build().unwrap();
    let items = [1, 2, 3, 4, 5];
    assert_eq!(double().map(items).wait().unwrap(), [2, 4, 6, 8, 10]);
    assert_eq!(double().map(&items).wait().unwrap(), [2, 4, 6, 8, 10]);
    assert_eq!(double().map(&items[1..3]).wait().unwrap(), [4, 6]);
    assert!(double().map([]).wait().unwrap().is_empty());
    let mut results = vec![9; 9];
    double().map_into(&items, &mut results).wait().unwrap();
    assert_eq!(results, [2, 4, 6, 8, 10]);
}

#[test]
fn a_buffer_that_is_too_small_grows_and_one_of_a_failed_call_is_left_empty() {
    let function = distribute!(|x: u32| {
        assert_ne!(x, 77);
        x.to_string()
    });
    let function = function.slots(3).endaftercall(false).build().unwrap();
    let mut results = vec!["old".to_string(); 5];
    function.map_into(0..70u32, &mut results).wait().unwrap();
    assert_eq!(results, (0..70u32).map(|x| x.to_string()).collect::<Vec<_>>());
    assert_eq!(function.map_into(0..90u32, &mut results).wait().unwrap_err().failed().len(), 1);
    assert!(results.is_empty());
}

#[test]
fn a_million_items_equal_the_loop() {
    let expected: Vec<u64> = (0..1_000_000u64).map(|x| x * x).collect();
    for slots in [1, 2, 7] {
        let squares = distribute!(|x: u64| x * x).slots(slots).endaftercall(false).build().unwrap();
        let mut results = squares.map(0..1_000_000).wait().unwrap();
        assert!(results == expected, "owned, {slots} slots");
        squares.map_into(&(0..1_000_000).collect::<Vec<_>>(), &mut results).wait().unwrap();
        assert!(results == expected, "borrowed, {slots} slots");
    }
}

#[test]
fn items_and_results_keep_an_alignment_of_a_page() {
    #[derive(Debug, Clone, PartialEq)]
    #[repr(align(4096))]
    struct Page(u8);
    fn is_aligned(page: &Page) -> bool {
        std::ptr::from_ref(page).addr().is_multiple_of(4096)
    }
    let check = |page: Page| {
        assert!(is_aligned(&page));
        page
    };
    let items: Vec<Page> = (0..100).map(Page).collect();
    let function = distribute_local(check).slots(2).endaftercall(false).build().unwrap();
    for results in [function.map(items.clone()).wait().unwrap(), function.map(&items).wait().unwrap()] {
        assert_eq!(results, items);
        assert!(results.iter().all(is_aligned));
    }
}

#[test]
fn a_call_over_more_items_than_can_ever_run_is_cancelled_at_once() {
    let function = distribute_local(|(): ()| ()).slots(2).endaftercall(false).build().unwrap();
    for n in [1 << 62, usize::MAX] {
        let call = function.map(vec![(); n]);
        assert_eq!(call.progress().items, n);
        call.canceller().cancel();
        let error = call.wait().unwrap_err();
        assert_eq!((error.ending(), error.items), (Ending::Cancelled, n));
        drop(function.map(vec![(); n]));
    }
    assert_eq!(function.map(vec![(); 1000]).wait().unwrap().len(), 1000);
}
