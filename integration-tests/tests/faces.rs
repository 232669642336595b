//! What compiles: every kind of function, input and handle, as users write them. Each result is compared with the plain
//! function.

#![allow(clippy::ptr_arg, reason = "a distributed function owns its items, so it lends a `Vec`, not a slice")]

use std::{collections::HashMap, future::Future, sync::Arc};

use distfun::{
    BuildError, CallError, ColumnFunction, Distribute, DistributedFunction, EndError, Error, Manager, Scoped,
    StartError, prelude::*,
};
use futures::executor::block_on;
use ndarray::{Array1, Array2, ArrayView2, Axis, array, s};

fn half(x: f64) -> f64 {
    x / 2.0
}

fn length(list: &Vec<u8>) -> usize {
    list.len()
}

fn sums(x: ArrayView2<f64>) -> Array1<f64> {
    x.sum_axis(Axis(0))
}

fn doubled(x: ArrayView2<f64>) -> Array2<f64> {
    2.0 * &x
}

fn add_index(x: u64, context: &Context) -> u64 {
    x + context.index() as u64
}

fn size_and_index(list: &Vec<u8>, context: &Context) -> (usize, usize) {
    (list.len(), context.index())
}

fn column_numbers(x: ArrayView2<f64>, context: &Context) -> Array1<usize> {
    assert_eq!(x.ncols(), context.items().len());
    context.items().collect()
}

fn numbered(x: ArrayView2<f64>, context: &Context) -> Array2<f64> {
    let first = context.items().start;
    Array2::from_shape_fn(x.dim(), |(row, column)| x[(row, column)] + (first + column) as f64)
}

fn increments(list: Vec<u32>) -> Vec<u32> {
    list.into_iter().map(|x| x + 1).collect()
}

fn increments_ref(list: &Vec<u32>) -> Vec<u32> {
    list.iter().map(|x| x + 1).collect()
}

fn block_indices(list: Vec<u32>, context: &Context) -> Vec<usize> {
    assert_eq!(list.len(), context.items().len());
    context.items().collect()
}

fn block_indices_ref(list: &Vec<u32>, context: &Context) -> Vec<usize> {
    assert_eq!(list.len(), context.items().len());
    context.items().collect()
}

fn power<T: Copy + std::ops::Mul<Output = T>>(x: T) -> T {
    x * x
}

mod shapes {
    pub(crate) mod flat {
        use serde::{Deserialize, Serialize};

        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Square {
            pub(crate) side: f64,
        }

        impl Square {
            pub(crate) fn area(&self) -> f64 {
                self.side * self.side
            }

            pub(crate) fn grown(self) -> Self {
                Self { side: self.side + 1.0 }
            }

            pub(crate) fn of(side: f64) -> Self {
                Self { side }
            }
        }

        pub(crate) fn perimeter(square: Square) -> f64 {
            4.0 * square.side
        }
    }
}

use shapes::flat::{self, Square};

fn ramp() -> Array2<f64> {
    Array2::from_shape_fn((3, 17), |(row, column)| (row * 100 + column) as f64)
}

#[test]
fn own_and_foreign_functions_take_items_by_value_and_by_reference() -> Result<(), Error> {
    assert_eq!(distribute!(half).build()?.map([1.0, 4.0]).wait()?, [0.5, 2.0]);
    assert_eq!(distribute!(length).build()?.map([vec![1], vec![]]).wait()?, [1, 0]);
    assert_eq!(distribute!(f64::sqrt).build()?.map([4.0, 9.0]).wait()?, [2.0, 3.0]);
    assert_eq!(distribute!(u32::count_ones).build()?.map([7, 8]).wait()?, [3, 1]);
    assert_eq!(distribute!(String::len).build()?.map(["one".to_string()]).wait()?, [3]);
    assert_eq!(distribute!(|text: String| str::len(&text)).build()?.map(["one".to_string()]).wait()?, [3]);
    assert_eq!(distribute!(std::convert::identity::<char>).build()?.map("ab".chars()).wait()?, ['a', 'b']);
    Ok(())
}

#[test]
fn functions_come_from_modules_types_and_type_arguments() -> Result<(), Error> {
    let squares = [Square { side: 2.0 }, Square { side: 3.0 }];
    assert_eq!(distribute!(shapes::flat::perimeter).build()?.map(squares).wait()?, [8.0, 12.0]);
    assert_eq!(distribute!(flat::perimeter).build()?.map(&squares).wait()?, [8.0, 12.0]);
    assert_eq!(distribute!(Square::area).build()?.map(squares).wait()?, [4.0, 9.0]);
    assert_eq!(distribute!(Square::grown).build()?.map(squares).wait()?, squares.map(Square::grown));
    assert_eq!(distribute!(Square::of).build()?.map([2.0, 3.0]).wait()?, squares);
    assert_eq!(distribute!(<Square as ToOwned>::to_owned).build()?.map(squares).wait()?, squares);
    assert_eq!(distribute!(power::<f64>).build()?.map([3.0]).wait()?, [9.0]);
    assert_eq!(distribute!(power::<i8>).build()?.map([-3]).wait()?, [9]);
    assert_eq!(distribute!(Some::<u8>).build()?.map([1]).wait()?, [Some(1)]);
    Ok(())
}

#[test]
fn closures_without_captures_need_only_their_argument_types() -> Result<(), Error> {
    const FACTOR: u32 = 3;
    assert_eq!(distribute!(|x: u32| FACTOR * x).build()?.map(0..3).wait()?, [0, 3, 6]);
    assert_eq!(distribute!(|x: &Vec<u8>| x.first().copied()).build()?.map([vec![5], vec![]]).wait()?, [Some(5), None]);
    assert_eq!(distribute!(|(a, b): (f64, f64)| a * b).build()?.map([(2.0, 3.0)]).wait()?, [6.0]);
    let x = ramp();
    let twice = distribute!(|x: ArrayView2<f64>| 2.0 * &x).build()?.columns(&x).wait()?;
    assert_eq!(twice, 2.0 * &x);
    let parsed = distribute!(|text: String| text.parse::<u8>().map_err(|error| error.to_string())).build()?;
    assert_eq!(parsed.map(["7".to_string()]).wait()?, [Ok(7)]);
    Ok(())
}

#[test]
fn every_kind_may_ask_for_the_context_last() -> Result<(), Error> {
    let lists = || (0..4).map(|count| vec![0; count]);
    assert_eq!(distribute!(add_index).build()?.map([10, 10, 10]).wait()?, [10, 11, 12]);
    assert_eq!(distribute!(size_and_index).build()?.map(lists()).wait()?, [(0, 0), (1, 1), (2, 2), (3, 3)]);
    assert_eq!(distribute!(|x: u32, c: &Context| (x, c.index())).build()?.map([7]).wait()?, [(7, 0)]);
    assert_eq!(distribute!(|x: &String, c: &Context| x.len() + c.index()).build()?.map([String::new()]).wait()?, [0]);
    let x = ramp();
    assert_eq!(distribute!(column_numbers).build()?.columns(&x).wait()?, Array1::from_iter(0..17));
    assert_eq!(distribute!(numbered).build()?.columns(&x).wait()?, &x + &Array1::from_iter((0..17).map(f64::from)));
    let widths = distribute!(|x: ArrayView2<f64>, c: &Context| Array1::from_elem(x.ncols(), !c.items().is_empty()));
    assert_eq!(widths.build()?.columns(&x).wait()?, Array1::from_elem(17, true));
    Ok(())
}

#[test]
fn columns_become_one_value_or_one_column_each() -> Result<(), Error> {
    let x = ramp();
    assert_eq!(distribute!(sums).build()?.columns(&x).wait()?, sums(x.view()));
    assert_eq!(distribute!(doubled).build()?.columns(&x).wait()?, doubled(x.view()));
    let all = distribute!(sums).endaftercall(false).build()?;
    let expected = sums(x.view());
    assert_eq!(all.columns(x.view()).wait()?, expected);
    assert_eq!(all.columns(x.slice(s![.., 3..])).wait()?, expected.slice(s![3..]));
    assert_eq!(all.columns(x.t().t()).wait()?, expected);
    assert_eq!(all.columns(x.clone()).wait()?, expected);
    assert_eq!(all.columns(Arc::new(x.clone())).wait()?, expected);
    assert_eq!(all.columns(x.to_shared()).wait()?, expected);
    assert_eq!(all.columns(&x.to_shared()).wait()?, expected);
    let mut y = Array1::zeros(0);
    all.columns_into(&x, &mut y).wait()?;
    assert_eq!(y, expected);
    Ok(())
}

#[test]
fn accept_lists_gives_functions_of_lists_whole_chunks() -> Result<(), Error> {
    let expected: Vec<u32> = (1..=100).collect();
    assert_eq!(distribute!(increments).accept_lists().build()?.map(0..100).wait()?, expected);
    assert_eq!(distribute!(increments_ref).accept_lists().build()?.map(0..100).wait()?, expected);
    let indices: Vec<usize> = (0..100).collect();
    assert_eq!(distribute!(block_indices).accept_lists().build()?.map(0..100).wait()?, indices);
    assert_eq!(distribute!(block_indices_ref).accept_lists().build()?.map(0..100).wait()?, indices);
    let step = 2;
    let steps = distribute_local(move |list: Vec<u32>| list.into_iter().map(|x| x * step).collect::<Vec<_>>());
    assert_eq!(steps.accept_lists().build()?.map([1, 2]).wait()?, [2, 4]);
    // Without it, a list is an item.
    assert_eq!(distribute!(increments).build()?.map([vec![1], vec![2, 3]]).wait()?, [vec![2], vec![3, 4]]);
    Ok(())
}

#[test]
fn local_functions_capture_and_need_no_serde() -> Result<(), Error> {
    #[derive(Clone, PartialEq, Debug)]
    struct Opaque(u32);

    let prices = HashMap::from([("tea", 3), ("milk", 1)]);
    let shared = Arc::new(prices);
    let (by_value, by_ref) = (shared.clone(), shared.clone());
    let price = distribute_local(move |name: &'static str| by_value[name]).build()?;
    assert_eq!(price.map(["milk", "tea"]).wait()?, [1, 3]);
    let price = distribute_local_ref(move |name: &String| by_ref[name.as_str()]).build()?;
    assert_eq!(price.map(["tea".to_string()]).wait()?, [3]);

    let next = |x: Opaque| Opaque(x.0 + 1);
    assert_eq!(distribute_local(next).build()?.map([Opaque(1)]).wait()?, [Opaque(2)]);
    let value = distribute_local_ref(|x: &Opaque, context: &Context| Opaque(x.0 + context.index() as u32)).build()?;
    assert_eq!(value.map(&[Opaque(5), Opaque(5)]).wait()?, [Opaque(5), Opaque(6)]);

    let weights = array![1.0, 10.0, 100.0];
    let copy = weights.clone();
    let x = ramp();
    let weighted = distribute_local_columns(move |x: ArrayView2<f64>| copy.dot(&x)).build()?;
    assert_eq!(weighted.columns(&x).wait()?, weights.dot(&x));
    let scaled = distribute_local_columns(move |x: ArrayView2<f64>, _: &Context| &x * 3.0).build()?;
    assert_eq!(scaled.columns(&x).wait()?, &x * 3.0);
    let opaque = Array2::from_elem((1, 5), Opaque(2));
    let first = distribute_local_columns(|x: ArrayView2<Opaque>| x.row(0).to_owned()).build()?;
    assert_eq!(first.columns(&opaque).wait()?, Array1::from_elem(5, Opaque(2)));
    Ok(())
}

#[test]
fn built_functions_have_names_that_a_service_can_keep() -> Result<(), Error> {
    #[derive(Clone, Debug)]
    struct Service {
        score: DistributedFunction<f64, f64>,
        sums: ColumnFunction<f64, Array1<f64>>,
        tables: Vec<ColumnFunction<f64, Array2<f64>>>,
    }

    let service = Service {
        score: distribute!(half).endaftercall(false).build()?,
        sums: distribute!(sums).build()?,
        tables: vec![
            distribute!(doubled).build()?,
            distribute_local_columns(|x: ArrayView2<f64>| x.to_owned()).build()?,
        ],
    };
    assert_eq!(service.clone().score.map([2.0]).wait()?, [1.0]);
    assert_eq!(service.score.map([4.0]).wait()?, [2.0]);
    assert_eq!(service.sums.columns(ramp()).wait()?, sums(ramp().view()));
    assert_eq!(service.tables[1].columns(ramp()).wait()?, ramp());

    let all: Vec<DistributedFunction<f64, f64>> = vec![
        distribute!(half).build()?,
        distribute!(f64::sqrt).build()?,
        distribute!(|x: &f64| x + 1.0).build()?,
        distribute_local(|x: f64| x - 1.0).build()?,
    ];
    let results: Result<Vec<_>, _> = all.iter().map(|function| function.map([16.0]).wait()).collect();
    assert_eq!(results?.concat(), [8.0, 4.0, 17.0, 15.0]);
    Ok(())
}

#[test]
fn a_built_function_says_how_many_slots_its_calls_run_on() -> Result<(), Error> {
    let three = distribute!(half).slots(3).build()?;
    assert_eq!((three.slots(), three.clone().slots()), (3, 3));
    three.finished()?;
    assert_eq!(three.slots(), 3);
    assert_eq!(distribute!(half).max_cpu(1).build()?.slots(), 1);
    assert_eq!(distribute!(half).slots(3).sequential(true).build()?.slots(), 1, "the calling thread");
    assert_eq!(distribute!(sums).slots(4096).build()?.slots(), 4096, "none has started");
    let by_default = distribute!(sums).build()?.slots();
    assert_eq!(distribute!(sums).max_cpu(usize::MAX).build()?.slots(), by_default);
    assert_eq!(by_default, std::thread::available_parallelism().map_or(1, usize::from));
    Ok(())
}

#[test]
fn inputs_are_anything_that_gives_items() -> Result<(), Error> {
    let double = distribute!(|x: i64| 2 * x).endaftercall(false).build()?;
    assert_eq!(double.map([1, 2]).wait()?, [2, 4]);
    assert_eq!(double.map(0..10).wait()?.len(), 10);
    assert_eq!(double.map(vec![1, 2]).wait()?, [2, 4]);
    assert_eq!(double.map((1..=3).rev().filter(|x| x % 2 == 1)).wait()?, [6, 2]);
    assert_eq!(double.map(Some(4)).wait()?, [8]);
    assert!(double.map([]).wait()?.is_empty());
    let items = vec![1, 2, 3];
    assert_eq!(double.map(&items).wait()?, [2, 4, 6]);
    assert_eq!(double.map(&items[1..]).wait()?, [4, 6]);
    assert_eq!(double.map(&[5, 6]).wait()?, [10, 12]);
    assert_eq!(double.map(items.iter().copied()).wait()?, [2, 4, 6]);
    let mut results = Vec::new();
    double.map_into(&items, &mut results).wait()?;
    double.map_into(0..2, &mut results).wait()?;
    assert_eq!(results, [0, 2]);
    Ok(())
}

#[test]
fn a_call_is_a_future_that_may_cross_threads_and_be_moved() -> Result<(), Error> {
    fn is_future<T: Future + Send + Unpin + 'static>(_: &T) {}
    fn is_free<T: Send + Sync + Unpin + Clone + 'static>() {}
    is_free::<DistributedFunction<f64, Vec<String>>>();
    is_free::<ColumnFunction<f32, Array2<u8>>>();

    let lists = distribute!(half).build()?.map([1.0]);
    let columns = distribute!(sums).build()?.columns(ramp());
    is_future(&lists);
    is_future(&columns);
    // Types that are `Send` alone are enough.
    let cells = distribute_local(std::cell::Cell::new).build()?.map([1u8]);
    is_future(&cells);
    assert_eq!(cells.wait()?[0].get(), 1);
    let lists = std::thread::spawn(move || block_on(lists)).join().expect("no panic")?;
    assert_eq!(lists, [0.5]);
    let awaited = async { columns.await.map_err(Error::from) };
    assert_eq!(block_on(awaited)?, sums(ramp().view()));
    Ok(())
}

#[test]
fn a_scoped_call_borrows_until_its_wait() -> Result<(), Error> {
    fn started<'a>(x: &'a Array2<f64>, y: &'a mut Array1<f64>) -> Result<Scoped<'a, Array1<f64>, ()>, BuildError> {
        Ok(distribute!(sums).build()?.columns_into(x, y))
    }
    let (mut x, mut y) = (ramp(), Array1::zeros(0));
    started(&x, &mut y)?.wait()?;
    assert_eq!(y, sums(x.view()));
    x[(0, 0)] = 7.0; // free again
    assert_ne!(y, sums(x.view()));
    let items = vec!["a".to_string()];
    let call: Scoped<'_, Vec<usize>> = distribute!(String::len).build()?.map(&items);
    std::mem::forget(call);
    drop(items);
    Ok(())
}

#[test]
fn question_marks_turn_every_error_into_one() {
    fn build() -> Result<(), Error> {
        Err::<(), BuildError>(distribute!(half).slots(0).build().map(drop).expect_err("no slots"))?;
        Ok(())
    }
    fn call() -> Result<Vec<u32>, Error> {
        Ok(distribute!(|x: u32| if x > 1 { panic!("too large") } else { x }).build()?.map([1, 2]).wait()?)
    }
    fn columns() -> Result<Array2<f64>, Error> {
        let odd: fn(CallError<Array2<f64>>) -> Error = Error::from;
        distribute!(doubled).build()?.columns(&ramp()).wait().map_err(odd)
    }
    fn start() -> Result<(), Error> {
        Err::<(), StartError>(Manager::builder().slots(0).start().map(drop).expect_err("no slots"))?;
        Ok(())
    }
    fn end() -> Result<(), Error> {
        Err::<(), EndError>(EndError::StillRunning { workers: Vec::new() })?;
        Ok(())
    }
    async fn message() -> Result<Vec<f64>, Error> {
        let manager = Manager::builder().slots(1).start()?;
        Ok(manager.send(Distribute::map(function!(half), [2.0])).await??)
    }
    assert!(matches!(build(), Err(Error::Build(_))));
    assert!(matches!(call(), Err(Error::Call(_))));
    assert!(columns().is_ok());
    assert!(matches!(start(), Err(Error::Start(_))));
    assert!(matches!(end(), Err(Error::End(_))));
    assert_eq!(block_on(message()).unwrap(), [1.0]);
    let boxed: Box<dyn std::error::Error + Send + Sync> = call().unwrap_err().into();
    assert!(boxed.to_string().contains("too large"), "{boxed}");
}

/// A crate that denies everything may use the macros.
mod strict {
    #![forbid(unsafe_code)]
    #![deny(warnings, missing_docs, unreachable_pub, unused_qualifications)]
    #![deny(clippy::all)]

    use distfun::{Call, Error};

    /// Nothing of the prelude is in scope here, and the names that the macros use are taken.
    pub(super) fn quarters(items: Vec<f64>) -> Result<Vec<f64>, Error> {
        #[allow(dead_code, non_camel_case_types)]
        struct str;
        fn run(x: f64) -> f64 {
            x / 2.0
        }
        fn kernel(x: f64) -> f64 {
            x / 2.0
        }
        let halves: Call<Vec<f64>> = distfun::distribute!(run).build()?.map(items);
        let context = halves.wait()?;
        Ok(distfun::distribute!(kernel).build()?.map(context).wait()?)
    }
}

#[test]
fn strict_crates_may_use_the_macros() -> Result<(), Error> {
    assert_eq!(strict::quarters(vec![4.0])?, [1.0]);
    Ok(())
}

#[test]
fn a_function_is_registered_once_however_often_it_is_distributed() -> Result<(), Error> {
    let path = concat!(module_path!(), "::half");
    let builders = [distribute!(half), distribute!(half), distribute!(self::half)];
    assert_eq!(builders.len(), 3);
    let names = distfun::function_names();
    assert_eq!(names.iter().filter(|&&name| name == path).count(), 1, "{names:?}");
    assert!(names.is_sorted());
    assert!(names.contains(&"alloc::string::String::len"), "{names:?}");
    Ok(())
}

#[test]
fn closures_are_registered_by_their_place() {
    let (kernel, line) = (function!(|x: u8| x.reverse_bits()), line!());
    let place = format!("{}:{line}:", file!());
    assert!(kernel.name().starts_with(&place), "{}", kernel.name());
    let column = &kernel.name()[place.len()..];
    assert!(column.parse::<u32>().is_ok(), "{column}");
    assert!(distfun::function_names().contains(&kernel.name()));
}
