//! How many items the next chunk of a call gets.
//!
//! A list call is planned by time: a chunk should take about [`TARGET`], less towards the end so that all slots stop
//! together (guided self-scheduling: Polychronopoulos and Kuck, IEEE Trans. Computers C-36, 1987). The cost of an
//! item is measured while running. A wrong guess is harmless, because a chunk that overruns its [`BUDGET`] hands back
//! what it has not started.
//!
//! A block call (columns, `accept_lists`) gives the function a whole block at once, so nothing can be handed back:
//! the split is fixed when the call starts, balanced to within one item.

use std::{ops::Range, time::Duration};

use crate::{columns::Balanced, placement::SlotKind};

/// How long a chunk should take: long against the cost of handing it out (about 1 us), short against what a user
/// notices, and how long a newcomer waits for its fair share.
pub const TARGET: Duration = Duration::from_millis(1);

/// A chunk that has run this long hands back the items it has not started.
pub const BUDGET: Duration = Duration::from_millis(2);

/// Work below this is not worth waking a second slot for: a wake-up costs 5 to 50 us.
const WORTH_A_SLOT: Duration = Duration::from_micros(20);

/// Blocks per slot while the cost of a column is unknown: enough to even out a factor of two between columns.
const BLOCKS_PER_SLOT: usize = 4;

/// A function that costs this many times as much as reading its columns is not slowed by reading them in jumps.
const COMPUTE_BOUND: f64 = 4.0;

/// How a call may be cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// One item at a time: chunks of any length, which may hand back what they did not start.
    Items,
    /// A block at a time.
    Blocks {
        /// From [`ColumnLayout::stream_cost`](crate::columns::ColumnLayout::stream_cost).
        stream_cost: Option<f64>,
    },
    /// All of it at once.
    Whole,
}

/// Seconds per item on slots of this machine, by their kind, as far as it was measured.
pub(super) type Costs = [Option<f64>; 2];

/// The plan of one call.
#[derive(Debug)]
pub(super) struct Plan {
    slots: usize,
    costs: Costs,
    /// The fixed split of a block call.
    blocks: Option<Balanced>,
}

impl Plan {
    /// Plans a call of `items` on `slots`, with the costs that an earlier call had if there was one.
    pub(super) fn new(shape: Shape, items: usize, slots: usize, costs: Costs) -> Self {
        let slots = slots.max(1);
        let cost = costs.into_iter().flatten().reduce(f64::min);
        let blocks = match shape {
            Shape::Items => None,
            Shape::Whole => Some(Balanced::new(items, 1)),
            Shape::Blocks { stream_cost } => Some(Balanced::new(items, block_count(items, stream_cost, slots, cost))),
        };
        Self { slots, costs, blocks }
    }

    /// The next chunk out of `front`, the first pending range, while `pending` items wait in all. Never empty unless
    /// `front` is.
    pub(super) fn next_chunk(&self, kind: SlotKind, front: &Range<usize>, pending: usize) -> Range<usize> {
        let len = match &self.blocks {
            Some(_) if front.is_empty() => 0,
            Some(blocks) => blocks.block_end(front.start) - front.start + usize::from(planted!(BlockOneLonger)),
            None => {
                let share = pending.div_ceil(2 * self.slots);
                match self.cost(kind) {
                    None => share,
                    Some(cost) => share.min(items_in(TARGET, cost)).max(items_in(WORTH_A_SLOT, cost)),
                }
            }
        };
        planted!(ChunkStartsLate, return (front.start + 1).min(front.end - 1)..front.end);
        planted!(EmptyChunk, return front.start..front.start + (pending / (2 * self.slots)).min(front.len()));
        planted!(ChunkPastFront, return front.start..front.start + len.clamp(1, pending));
        front.start..front.start + len.clamp(1, front.len().max(1)).min(front.len())
    }

    /// So many chunks may be computed at once, from now on. The split of a block call stays what it is.
    pub(super) fn set_slots(&mut self, slots: usize) {
        self.slots = slots.max(1);
    }

    /// The beginning of `chunk` with no more than `most` items; all of it where it is a block.
    pub(super) fn at_most(&self, chunk: Range<usize>, most: usize) -> Range<usize> {
        match &self.blocks {
            Some(_) => chunk,
            None => chunk.start..chunk.end.min(chunk.start.saturating_add(most)),
        }
    }

    /// Learns from a chunk of `items` that took `elapsed`.
    pub(super) fn measured(&mut self, kind: SlotKind, items: usize, elapsed: Duration) {
        if items == 0 {
            return;
        }
        let seen = elapsed.as_secs_f64() / items as f64;
        let cost = &mut self.costs[kind as usize];
        *cost = Some(cost.map_or(seen, |known| 0.5 * (known + seen)));
    }

    /// Seconds per item on such a slot, once known.
    pub(super) fn cost(&self, kind: SlotKind) -> Option<f64> {
        self.costs[kind as usize]
    }

    /// What there is to remember of it.
    pub(super) fn costs(&self) -> Costs {
        self.costs
    }

    /// Whether it was measured on slots of both kinds.
    pub(super) fn knows_costs(&self) -> bool {
        self.costs.iter().all(Option::is_some)
    }

    /// Whether such a slot would still be at its first item when `others` slots of the other kind, which are faster, could
    /// have done all that is `pending`.
    pub(super) fn is_too_slow(&self, kind: SlotKind, pending: usize, others: usize) -> bool {
        let other = if kind == SlotKind::Cpu { SlotKind::Gpu } else { SlotKind::Cpu };
        let (Some(own), Some(theirs)) = (self.cost(kind), self.cost(other)) else { return false };
        let least = self.blocks.as_ref().map_or(1, |blocks| blocks.longest());
        own > theirs && own * least as f64 * others as f64 > theirs * pending as f64
    }

    /// Whether a chunk of `items` will, by what is known, take less than `time`.
    pub(super) fn is_quicker_than(&self, kind: SlotKind, items: usize, time: Duration) -> bool {
        self.cost(kind).is_some_and(|cost| cost * (items as f64) < time.as_secs_f64())
    }

    /// What a chunk of `items` will probably take.
    pub(super) fn expected(&self, kind: SlotKind, items: usize) -> Duration {
        self.cost(kind).map_or(TARGET, |cost| Duration::try_from_secs_f64(cost * items as f64).unwrap_or(Duration::MAX))
    }
}

/// Items that fit into `time`, at least one.
pub(super) fn items_in(time: Duration, cost: f64) -> usize {
    ((time.as_secs_f64() / cost.max(1e-12)) as usize).max(1)
}

fn block_count(items: usize, stream_cost: Option<f64>, slots: usize, cost: Option<f64>) -> usize {
    let is_worth_splitting = match (stream_cost, cost) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(stream), Some(cost)) => cost > COMPUTE_BOUND * stream,
    };
    let blocks = match cost {
        Some(cost) if cost * items as f64 <= 2.0 * WORTH_A_SLOT.as_secs_f64() => 1,
        _ if !is_worth_splitting => slots,
        None => BLOCKS_PER_SLOT * slots,
        Some(cost) => {
            // Four targets a block keep what the last slot still has to do small beside the whole.
            let by_time = (cost * items as f64 / (4.0 * TARGET.as_secs_f64())).ceil() as usize;
            by_time.min(64 * slots).next_multiple_of(slots).max(slots)
        }
    };
    blocks.min(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CPU: SlotKind = SlotKind::Cpu;

    proptest! {
        #[test]
        fn chunks_walk_through_all_items_and_are_never_empty(
            items in 1usize..100_000, slots in 1usize..70, cost in proptest::option::of(1e-10f64..10.0), blocks in proptest::option::of(proptest::option::of(1e-9f64..1e-3))
        ) {
            let shape = blocks.map_or(Shape::Items, |stream_cost| Shape::Blocks { stream_cost });
            let plan = Plan::new(shape, items, slots, [cost, None]);
            let mut front = 0..items;
            while !front.is_empty() {
                let chunk = plan.next_chunk(CPU, &front, front.len());
                prop_assert!(!chunk.is_empty() && chunk.start == front.start && chunk.end <= items);
                front.start = chunk.end;
            }
        }
    }

    #[test]
    fn slow_items_travel_alone_and_quick_ones_in_a_crowd() {
        let mut plan = Plan::new(Shape::Items, 1000, 2, [None; 2]);
        plan.measured(CPU, 1, Duration::from_millis(1));
        assert_eq!(plan.next_chunk(CPU, &(0..1000), 1000).len(), 1);
        let mut plan = Plan::new(Shape::Items, 10_000_000, 2, [None; 2]);
        plan.measured(CPU, 1000, Duration::from_micros(1));
        assert_eq!(plan.next_chunk(CPU, &(0..10_000_000), 10_000_000).len(), 1_000_000);
    }

    #[test]
    fn a_tiny_call_of_a_known_function_goes_to_one_slot() {
        let plan = Plan::new(Shape::Items, 2, 8, [Some(5e-9), None]);
        assert_eq!(plan.next_chunk(CPU, &(0..2), 2), 0..2);
        assert_eq!(block_count(100, None, 8, Some(5e-9)), 1);
    }

    #[test]
    fn the_slower_kind_leaves_the_rest_to_the_faster_one() {
        let mut plan = Plan::new(Shape::Items, 1000, 3, [None; 2]);
        assert!(!plan.is_too_slow(CPU, 1, 1), "nobody knows");
        plan.measured(CPU, 1, Duration::from_millis(100));
        plan.measured(SlotKind::Gpu, 1, Duration::from_millis(1));
        assert!(plan.is_too_slow(CPU, 99, 1) && !plan.is_too_slow(CPU, 101, 1));
        assert!(plan.is_too_slow(CPU, 101, 2), "two do it in half the time");
        assert!(!plan.is_too_slow(SlotKind::Gpu, 1, 1) && !plan.is_too_slow(CPU, 1, 0));
    }

    #[test]
    fn blocks_are_few_where_memory_is_the_limit_and_more_elsewhere() {
        let stream = Some(200e-9);
        assert_eq!(block_count(200_000, stream, 2, None), 2);
        assert_eq!(block_count(200_000, stream, 2, Some(130e-9)), 2);
        assert_eq!(block_count(200_000, stream, 2, Some(50e-6)), 128, "compute-bound");
        assert_eq!(block_count(200_000, None, 2, None), 8);
        assert_eq!(block_count(200_000, None, 2, Some(130e-9)), 8);
        assert_eq!(block_count(3, None, 8, None), 3);
    }
}
