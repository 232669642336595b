//! How far a stream runs ahead of its consumer, and which of the items it has pulled are still to come.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

/// Items pulled ahead, unless told otherwise.
const MAX_ITEMS: usize = 65_536;
/// Bytes of items and results ahead, unless told otherwise.
const MAX_BYTES: usize = 256 << 20;

/// A window of items that is used up sooner than this grows.
const QUICK: Duration = Duration::from_millis(10);

/// An iterator that takes its time is waited for this long, before what it gave is handed on.
const PULL_FOR: Duration = Duration::from_millis(1);

pub(super) struct Window<A> {
    /// The items that may be ahead now; grows up to `max_items`.
    size: usize,
    max_items: usize,
    max_bytes: usize,
    /// Of an item and its result, without what they hold on the heap.
    shallow_bytes: usize,
    weigh: Option<Weigh<A>>,
    /// Items pulled whose outcome was not taken yet, by where their batch begins.
    batches: BTreeMap<usize, Batch>,
    ahead: usize,
    ahead_bytes: usize,
    /// When the window last grew or was looked at, and how many outcomes were taken since.
    looked_at: Instant,
    taken: usize,
}

type Weigh<A> = Box<dyn Fn(&A) -> usize + Send>;

struct Batch {
    missing: Vec<Range<usize>>,
    bytes: usize,
}

/// Items that an iterator gave.
pub(super) struct Pulled<A> {
    pub(super) items: Vec<A>,
    bytes: usize,
    /// The iterator has no more.
    pub(super) is_all: bool,
}

impl<A> Default for Pulled<A> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0, is_all: false }
    }
}

impl<A> Window<A> {
    pub(super) fn new(slots: usize, shallow_bytes: usize) -> Self {
        Self {
            size: 4 * slots,
            max_items: MAX_ITEMS,
            max_bytes: MAX_BYTES,
            shallow_bytes,
            weigh: None,
            batches: BTreeMap::new(),
            ahead: 0,
            ahead_bytes: 0,
            looked_at: Instant::now(),
            taken: 0,
        }
    }

    pub(super) fn limit_items(&mut self, items: usize) {
        self.max_items = items.max(1);
    }

    pub(super) fn limit_bytes(&mut self, bytes: usize) {
        self.max_bytes = bytes;
    }

    pub(super) fn weigh_by(&mut self, weigh: impl Fn(&A) -> usize + Send + 'static) {
        self.weigh = Some(Box::new(weigh));
    }

    /// Pulls items while there is room for them. The first one is let through whatever its size. If `source` panics, the
    /// items before are in `pulled`.
    pub(super) fn pull(&mut self, source: &mut impl Iterator<Item = A>, pulled: &mut Pulled<A>) {
        self.grow();
        let room = self.size.min(self.max_items).saturating_sub(self.ahead);
        let held = self.ahead_bytes;
        let (start, mut look_at) = (Instant::now(), 1);
        while pulled.items.len() < room {
            let bytes = held.saturating_add(pulled.bytes);
            if bytes >= self.max_bytes && bytes > 0 {
                break;
            }
            let Some(item) = source.next() else {
                pulled.is_all = true;
                break;
            };
            pulled.items.push(item); // before it is weighed, which may panic
            let item = &pulled.items[pulled.items.len() - 1];
            let bytes = self.weigh.as_ref().map_or(self.shallow_bytes, |weigh| weigh(item));
            pulled.bytes = pulled.bytes.saturating_add(bytes);
            if pulled.items.len() == look_at {
                look_at *= 2;
                if start.elapsed() > PULL_FOR {
                    break;
                }
            }
        }
    }

    /// Items `first..` are under way.
    pub(super) fn sent(&mut self, first: usize, pulled: &Pulled<A>) {
        let range = first..first + pulled.items.len();
        self.ahead += range.len();
        self.ahead_bytes = self.ahead_bytes.saturating_add(pulled.bytes);
        self.batches.insert(first, Batch { missing: vec![range], bytes: pulled.bytes });
    }

    /// The outcomes of `items`, all of one batch, have been taken.
    pub(super) fn took(&mut self, items: &Range<usize>) {
        let Some((&first, batch)) = self.batches.range_mut(..=items.start).next_back() else { return };
        let Some(at) = batch.missing.iter().position(|range| range.contains(&items.start)) else { return };
        let around = batch.missing[at].clone();
        let left = [around.start..items.start, items.end..around.end];
        batch.missing.splice(at..=at, left.into_iter().filter(|range| !range.is_empty()));
        self.ahead -= items.len();
        self.taken += items.len();
        if batch.missing.is_empty() {
            self.ahead_bytes = self.ahead_bytes.saturating_sub(batch.bytes);
            self.batches.remove(&first);
        }
    }

    /// The first item whose outcome was not taken.
    pub(super) fn first_missing(&self) -> Option<usize> {
        Some(self.batches.first_key_value()?.1.missing[0].start)
    }

    /// A window that is used up quickly was too small.
    fn grow(&mut self) {
        if self.taken < self.size {
            return;
        }
        if self.looked_at.elapsed() < QUICK {
            self.size = (2 * self.size).min(self.max_items);
        }
        self.looked_at = Instant::now();
        self.taken = 0;
    }
}

impl<A> fmt::Debug for Window<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("size", &self.size)
            .field("max_items", &self.max_items)
            .field("max_bytes", &self.max_bytes)
            .field("ahead", &self.ahead)
            .field("ahead_bytes", &self.ahead_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull_from(window: &mut Window<u8>, source: &mut impl Iterator<Item = u8>) -> Pulled<u8> {
        let mut pulled = Pulled::default();
        window.pull(source, &mut pulled);
        pulled
    }

    fn pull(window: &mut Window<u8>, first: usize) -> usize {
        let pulled = pull_from(window, &mut std::iter::repeat(0));
        if !pulled.items.is_empty() {
            window.sent(first, &pulled);
        }
        pulled.items.len()
    }

    #[test]
    fn no_more_than_the_window_is_ahead_and_quick_consumers_get_a_larger_one() {
        let mut window = Window::<u8>::new(2, 2);
        window.limit_items(100);
        let (mut first, mut size) = (0, 8);
        while size < 100 {
            let pulled = pull(&mut window, first);
            // On a machine that is busy with other things a round may seem slow, and the window stays as it is.
            assert!(pulled == size || pulled == (2 * size).min(100), "{pulled} after {size}");
            size = pulled;
            assert_eq!(pull(&mut window, first + size), 0, "full");
            let middle = first + size / 2;
            window.took(&(middle..middle + 1));
            window.took(&(first..middle));
            window.took(&(middle + 1..first + size));
            assert_eq!((window.ahead, window.ahead_bytes, window.first_missing()), (0, 0, None));
            first += size;
        }
        assert_eq!(pull(&mut window, first), 100, "no larger than it may be");
    }

    #[test]
    fn bytes_are_bounded_but_for_a_single_item() {
        let mut window = Window::<u8>::new(100, 2);
        window.limit_bytes(20);
        assert_eq!(pull(&mut window, 0), 10);
        window.took(&(3..7));
        assert_eq!(pull(&mut window, 10), 0, "a batch counts until all of it is taken");
        assert_eq!(window.first_missing(), Some(0));
        window.took(&(0..3));
        window.took(&(7..10));
        window.weigh_by(|_| 1000);
        assert_eq!(pull(&mut window, 10), 1);
        assert_eq!(pull(&mut window, 11), 0);
    }

    #[test]
    fn a_slow_iterator_is_not_waited_for() {
        let mut window = Window::<u8>::new(100, 2);
        let mut slow = std::iter::repeat_with(|| {
            std::thread::sleep(2 * PULL_FOR);
            0
        });
        assert_eq!(pull_from(&mut window, &mut slow).items.len(), 1);
        assert!(pull_from(&mut window, &mut [1, 2].into_iter()).is_all);
    }
}
