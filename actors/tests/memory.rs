//! Memory of a call beyond its input and output, counted by the allocator. Alone in its process, since it counts all.

use std::hint::black_box;

use distfun::prelude::*;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn next(x: u64) -> u64 {
    x.wrapping_add(1)
}

/// By reference, because a lent list is cloned in small pieces for a function by value, and counting each of those takes
/// the allocator above longer than all the rest.
fn next_of(x: &u64) -> u64 {
    next(*x)
}

/// Most bytes in use while `body` runs, beyond those before it.
fn peak<R>(body: impl FnOnce() -> R) -> usize {
    let _profiler = dhat::Profiler::builder().testing().build();
    black_box(body());
    dhat::HeapStats::get().max_bytes
}

#[test]
fn a_call_takes_at_most_16_bytes_per_item_beyond_input_and_output() {
    const ITEMS: usize = 1_000_000;
    let distributed = distribute!(next).slots(3).endaftercall(false).build().unwrap();
    distributed.map(0..100).wait().unwrap();

    let input: Vec<u64> = (0..ITEMS as u64).collect();
    let output_bytes = ITEMS * size_of::<u64>();
    let owned = peak(|| distributed.map(input).wait().unwrap());
    assert!(owned >= output_bytes, "{owned}: nothing was counted");
    assert!(owned < output_bytes + 16 * ITEMS, "{owned}");

    let distributed = distribute!(next_of).slots(3).endaftercall(false).build().unwrap();
    distributed.map(0..100).wait().unwrap();
    let input: Vec<u64> = (0..ITEMS as u64).collect();
    let lent = peak(|| distributed.map(&input).wait().unwrap());
    assert!(lent < output_bytes + 16 * ITEMS, "{lent}");

    let mut results = Vec::with_capacity(ITEMS);
    let reused = peak(|| distributed.map_into(&input, &mut results).wait().unwrap());
    assert!(reused < 64 * 1024, "{reused}: the buffer was not used again");
    assert_eq!(results.len(), ITEMS);
}
