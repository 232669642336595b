//! Random numbers depend on the seed and the item's index only.

use distfun::{Distribute, ItemRng, Manager, prelude::*};
use ndarray::{Array1, Array2, ArrayView2};
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};

use super::{cases, lengths, slots};

type Draw = (u64, u64, u32);

fn draw(mut rng: impl Rng) -> Draw {
    (rng.next_u64(), rng.random(), rng.random_range(0..1000))
}

fn of_item(_: u32, context: &Context) -> Draw {
    draw(context.rng())
}

fn of_borrowed_item(_: &u32, context: &Context) -> Draw {
    // A second use goes on where the first stopped.
    (context.rng().next_u64(), context.rng().random(), context.rng().random_range(0..1000))
}

fn of_item_by_index(_: u32, context: &Context) -> Draw {
    draw(context.rng_for(context.index()))
}

fn of_chunk(items: Vec<u32>, context: &Context) -> Vec<Draw> {
    assert_eq!(items.len(), context.items().len());
    context.items().map(|index| draw(context.rng_for(index))).collect()
}

fn of_block(x: ArrayView2<u32>, context: &Context) -> Array1<Draw> {
    assert_eq!(x.ncols(), context.items().len());
    context.items().map(|index| draw(context.rng_for(index))).collect()
}

/// What the documentation promises: ChaCha8, keyed by the seed, one stream for each index.
fn expected(seed: u64, n: usize) -> Vec<Draw> {
    let rng = |index| {
        let mut rng = ItemRng::seed_from_u64(seed);
        rng.set_stream(index);
        rng
    };
    (0..n as u64).map(|index| draw(rng(index))).collect()
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn random_numbers_do_not_depend_on_slots_or_chunks(seed in any::<u64>(), n in lengths(2000), slots in slots()) {
        let expected = expected(seed, n);
        let items = vec![0; n];
        let functions = || [distribute!(of_item), distribute!(of_item_by_index), distribute!(of_borrowed_item)];
        for function in functions() {
            let function = function.seed(seed).slots(slots).endaftercall(false).build().unwrap();
            prop_assert_eq!(&function.map(items.clone()).wait().unwrap(), &expected);
            prop_assert_eq!(&function.map(&items).wait().unwrap(), &expected, "the second call has the same");
        }
        for function in functions() {
            let function = function.seed(seed).sequential(true).build().unwrap();
            prop_assert_eq!(&function.map(&items).wait().unwrap(), &expected, "sequential");
        }
        for sequential in [false, true] {
            let lists = distribute!(of_chunk).accept_lists().seed(seed).slots(slots).sequential(sequential);
            prop_assert_eq!(&lists.build().unwrap().map(&items).wait().unwrap(), &expected, "chunks");
            let columns = distribute!(of_block).seed(seed).slots(slots).sequential(sequential).build().unwrap();
            prop_assert_eq!(&columns.columns(Array2::zeros((2, n))).wait().unwrap().to_vec(), &expected, "columns");
        }
        let manager = Manager::builder().slots(slots).seed(seed ^ 1).start().unwrap();
        let message = Distribute::map(function!(of_item), items).seed(seed);
        prop_assert_eq!(&futures::executor::block_on(manager.send(message)).unwrap().unwrap(), &expected, "a Manager");
    }

    #[test]
    fn random_numbers_of_a_nested_call_are_its_own(seed in any::<u64>(), n in 0usize..20, slots in slots()) {
        let nested = move |size: usize, context: &Context<'_>| {
            let before = context.rng().next_u64();
            let inner = distribute!(of_item).seed(seed).slots(2).build().unwrap().map(vec![0; size]).wait().unwrap();
            (before, inner, context.rng().random(), context.rng().random_range(0..1000))
        };
        let function = distribute_local(nested).seed(!seed).slots(slots).build().unwrap();
        for (index, seen) in function.map(0..n).wait().unwrap().into_iter().enumerate() {
            prop_assert_eq!((seen.0, seen.2, seen.3), expected(!seed, n)[index]);
            prop_assert_eq!(seen.1, expected(seed, index));
        }
    }

    #[test]
    fn an_item_that_panics_takes_no_random_numbers_from_others(seed in any::<u64>(), bad in 0usize..100, slots in slots()) {
        let function = distribute_local(move |_: u32, context: &Context<'_>| {
            let drawn = draw(context.rng());
            assert_ne!(context.index(), bad);
            drawn
        });
        let error = function.seed(seed).slots(slots).build().unwrap().map(vec![0; 100]).wait().unwrap_err();
        let all = expected(seed, 100).into_iter().enumerate();
        prop_assert_eq!(error.finished(), &all.filter(|(index, _)| *index != bad).collect::<Vec<_>>());
    }
}

#[test]
fn items_and_seeds_have_different_random_numbers() {
    let mut all: Vec<u64> = Vec::new();
    for seed in [0, 1, 2] {
        let function = distribute!(of_item).seed(seed).slots(3).build().unwrap();
        all.extend(function.map(vec![0; 500]).wait().unwrap().iter().map(|drawn| drawn.0));
    }
    let default = distribute!(of_item).slots(3).build().unwrap().map(vec![0; 500]).wait().unwrap();
    assert!(default.iter().map(|drawn| drawn.0).eq(all[..500].iter().copied()), "the default seed is 0");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 1500);
}
