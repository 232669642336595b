//! What a function may ask about the item it is given.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fmt,
    ops::Range,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng, TryRng},
};

use super::{Device, DeviceLost, SlotGpu, SlotState, SlotStates};
use crate::{ids::WorkerId, shared_data::SharedData};

/// Random numbers of one item: ChaCha with 8 rounds, its key from the seed and its stream number the item's index, so
/// that items have independent streams whoever computes them. It implements the traits of `rand` 0.10.
pub type ItemRng = ChaCha8Rng;

/// What [`Context::rng`] hands out: the random numbers of the item that runs, under the traits of `rand` 0.10.
#[derive(Debug, Clone, Copy)]
pub struct ContextRng<'c>(&'c RefCell<ItemRng>);

impl TryRng for ContextRng<'_> {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.borrow_mut().next_u32())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.borrow_mut().next_u64())
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.borrow_mut().fill_bytes(bytes);
        Ok(())
    }
}

/// What a function may ask about the item or block it is given, as its last argument `&Context`.
///
/// ```
/// # use distfun_core::function::Context; // `distfun::Context` for users
/// use rand::RngExt;
///
/// fn noisy(x: f64, context: &Context) -> f64 {
///     // Repeats whatever the number of slots, chunk sizes or retries.
///     x + context.rng().random_range(0.0..1.0)
/// }
/// # let stop = std::sync::atomic::AtomicBool::new(false);
/// # let context = Context::new(distfun_core::function::Surroundings::of_test(&stop));
/// # context.enter(0);
/// # assert!(noisy(1.0, &context) >= 1.0);
/// ```
pub struct Context<'a> {
    around: Surroundings<'a>,
    start: Cell<usize>,
    end: Cell<usize>,
    is_block: Cell<bool>,
    /// The generator of the item that runs, seeded when first asked for.
    rng: RefCell<ItemRng>,
    is_seeded: Cell<bool>,
}

/// What stays the same from item to item.
#[doc(hidden)]
#[derive(Debug)]
#[allow(missing_docs, reason = "as the methods of Context say")]
pub struct Surroundings<'a> {
    pub function: &'static str,
    pub seed: u64,
    pub worker: Option<WorkerId>,
    /// Set when the call has ended.
    pub stop: &'a AtomicBool,
    pub shared: SharedData,
    pub states: Rc<SlotStates>,
    pub gpu: SlotGpu,
    /// Index in the call of the first item here: a node is given a part of the items.
    pub first: usize,
    /// What the function is given as one item is a list of so many.
    pub list: Option<usize>,
    /// How often the item was tried before.
    pub tried: u32,
    /// Where to note what runs.
    pub watch: Option<&'a Watch>,
}

/// What a slot is running, where somebody else can read it, even when the slot is gone.
#[doc(hidden)]
#[derive(Debug, Default)]
#[repr(C)]
pub struct Watch {
    /// Position in the call's input of the first item that runs.
    pub first: AtomicU64,
    /// How many run at once; none do if it is 0.
    pub count: AtomicU64,
}

impl Watch {
    /// What runs.
    pub fn items(&self) -> Range<usize> {
        let first = self.first.load(Ordering::Acquire) as usize;
        first..first.saturating_add(self.count.load(Ordering::Relaxed) as usize)
    }

    /// `items` run from now on.
    pub fn note(&self, items: Range<usize>) {
        self.count.store(items.len() as u64, Ordering::Relaxed);
        self.first.store(items.start as u64, Ordering::Release);
    }
}

impl<'a> Surroundings<'a> {
    /// Outside of any call.
    pub fn of_test(stop: &'a AtomicBool) -> Self {
        Self {
            function: "test",
            seed: 7,
            worker: None,
            stop,
            shared: SharedData::default(),
            states: Rc::default(),
            gpu: None,
            first: 0,
            list: None,
            tried: 0,
            watch: None,
        }
    }
}

impl<'a> Context<'a> {
    /// A context for no item yet; the one who runs a function calls [`enter`](Self::enter) before each item.
    #[doc(hidden)]
    pub fn new(around: Surroundings<'a>) -> Self {
        let seed = around.seed;
        Self {
            around,
            start: Cell::new(0),
            end: Cell::new(0),
            is_block: Cell::new(false),
            rng: RefCell::new(ItemRng::seed_from_u64(seed)),
            is_seeded: Cell::new(false),
        }
    }

    /// The function is about to run on the single item `index`.
    #[doc(hidden)]
    pub fn enter(&self, index: usize) {
        if let Some(count) = self.around.list {
            return self.enter_block(0..count);
        }
        self.is_block.set(false);
        self.set(index..index + 1);
    }

    /// The function is about to run on all of `items` at once.
    #[doc(hidden)]
    pub fn enter_block(&self, items: Range<usize>) {
        self.is_block.set(true);
        self.set(items);
    }

    fn set(&self, items: Range<usize>) {
        self.start.set(self.around.first + items.start);
        self.end.set(self.around.first + items.end);
        self.is_seeded.set(false);
        if let Some(watch) = self.around.watch {
            watch.note(self.items());
        }
    }

    /// Whether it must be told of every item, also by functions that do not ask.
    #[doc(hidden)]
    pub fn is_watched(&self) -> bool {
        self.around.watch.is_some() || self.around.gpu.is_some()
    }

    /// The function has returned. If its GPU was lost meanwhile, what it returned is worth nothing, whatever it is.
    ///
    /// # Panics
    /// Then, with [`DeviceLost`], which ends the life of the slot.
    #[doc(hidden)]
    pub fn leave(&self) {
        if self.around.gpu.as_ref().is_some_and(|gpu| gpu.lost().is_some()) {
            std::panic::resume_unwind(Box::new(DeviceLost));
        }
    }

    /// Position of the item in the input, from 0; of a block, its first item.
    pub fn index(&self) -> usize {
        self.start.get()
    }

    /// The items the function was given: one for a function of single items, the block for a column function or under
    /// `accept_lists`.
    pub fn items(&self) -> Range<usize> {
        self.start.get()..self.end.get()
    }

    /// How often this item was tried before, because it failed (`retries`) or because its worker died at it: 0 the first
    /// time. Its [`index`](Self::index) and [`rng`](Self::rng) are the same at each attempt.
    pub fn attempt(&self) -> u32 {
        self.around.tried
    }

    /// Random numbers that depend on the seed and the item's index only. Each use goes on where the last one in the
    /// same item stopped.
    ///
    /// # Panics
    /// In a function over blocks, whose width depends on the number of slots: use [`rng_for`](Self::rng_for) with each
    /// index of [`items`](Self::items) there.
    #[track_caller]
    pub fn rng(&self) -> ContextRng<'_> {
        assert!(
            !self.is_block.get(),
            "context.rng() in a function over blocks would depend on how the input is split; \
             use context.rng_for(index) for each index in context.items()"
        );
        if !self.is_seeded.replace(true) {
            *self.rng.borrow_mut() = self.rng_for(self.index());
        }
        ContextRng(&self.rng)
    }

    /// Random numbers that depend on the seed and `index` only, from the start of their stream.
    pub fn rng_for(&self, index: usize) -> ItemRng {
        let mut rng = ItemRng::seed_from_u64(self.around.seed);
        rng.set_stream(index as u64);
        rng
    }

    /// Whether the call has been cancelled or has ended, so that a long item should return early; its result is not
    /// wanted any more.
    pub fn is_cancelled(&self) -> bool {
        self.around.stop.load(Ordering::Relaxed)
    }

    /// The worker that runs the function; none outside of one (a sequential or empty call).
    pub fn worker(&self) -> Option<WorkerId> {
        self.around.worker
    }

    /// What the function computes with: a CPU, or the GPU that its slot owns. What a GPU can be used through is said by
    /// features of `distfun`: `cuda`, `wgpu`.
    ///
    /// ```
    /// # use distfun_core::function::{Context, Device, Surroundings};
    /// fn place(_: u32, context: &Context) -> String {
    ///     match context.device() {
    ///         Device::Gpu(gpu) => gpu.info().name.clone(),
    ///         _ => "the CPU".into(),
    ///     }
    /// }
    /// # let stop = std::sync::atomic::AtomicBool::new(false);
    /// # let context = Context::new(Surroundings::of_test(&stop));
    /// # assert_eq!(place(1, &context), "the CPU");
    /// ```
    pub fn device(&self) -> Device<'_> {
        self.around.gpu.as_deref().map_or(Device::Cpu, Device::Gpu)
    }

    /// The shared data of the call; empty if none was given. A function that needs nothing else of its context takes
    /// `&SharedData` instead.
    pub fn shared(&self) -> &SharedData {
        &self.around.shared
    }

    /// What this function keeps on its slot between items: made by `make` when a slot needs it for the first time,
    /// dropped on the slot's thread when the slot ends (`endaftercall`, `finished`, `shutdown`, drop) or its thread is
    /// replaced. So a slot opens a model or allocates a buffer once, not once per item.
    ///
    /// There is one state per slot, function and type `T`; with other shared data (`with_shared`) it is made anew. Results must not depend on what it held before, since which
    /// items a slot gets depends on timing. If an item panics while it has the state, the next one makes it anew. A call
    /// that runs in the calling thread (`.sequential(true)`) makes its own, a stream there one for each item.
    ///
    /// ```
    /// # use distfun_core::function::{Context, Surroundings};
    /// fn digits(x: u64, context: &Context) -> usize {
    ///     let mut text = context.slot_state(String::new);
    ///     text.clear();
    ///     std::fmt::Write::write_fmt(&mut *text, format_args!("{x}")).unwrap();
    ///     text.len()
    /// }
    ///
    /// # let stop = std::sync::atomic::AtomicBool::new(false);
    /// # let context = Context::new(Surroundings::of_test(&stop));
    /// assert_eq!((digits(7, &context), digits(1234, &context)), (1, 4));
    /// ```
    ///
    /// # Panics
    /// If the item has this state already, or if `make` panics.
    #[track_caller]
    pub fn slot_state<T: 'static>(&self, make: impl FnOnce() -> T) -> SlotState<'_, T> {
        let made: Result<_, Infallible> = self.try_slot_state(|| Ok(make()));
        made.unwrap_or_else(|never| match never {})
    }

    /// As [`slot_state`](Self::slot_state), where making the state may fail; the next item tries again.
    ///
    /// # Errors
    /// What `make` returned.
    ///
    /// # Panics
    /// As [`slot_state`](Self::slot_state).
    #[track_caller]
    pub fn try_slot_state<T: 'static, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<SlotState<'_, T>, E> {
        self.around.states.get(self.around.function, self.around.shared.id(), make)
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("items", &self.items())
            .field("worker", &self.around.worker)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_items_differ_and_repeat() {
        let stop = AtomicBool::new(false);
        let context = Context::new(Surroundings::of_test(&stop));
        context.enter(3);
        let (first, second) = (context.rng().next_u64(), context.rng().next_u64());
        assert_ne!(first, second, "a second use goes on");
        let mut again = context.rng_for(3);
        assert_eq!((first, second), (again.next_u64(), again.next_u64()));
        context.enter(4);
        assert_ne!(first, context.rng().next_u64());
        context.enter(3);
        assert_eq!(first, context.rng().next_u64());
    }

    #[test]
    #[should_panic(expected = "rng_for(index)")]
    fn the_rng_of_a_block_is_refused() {
        let stop = AtomicBool::new(false);
        let context = Context::new(Surroundings::of_test(&stop));
        context.enter_block(3..9);
        assert_eq!(context.items(), 3..9);
        context.rng();
    }
}
