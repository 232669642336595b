//! The calls of a storm, and whether their results are those of a plain loop.

use std::{fmt::Debug, thread, time::Instant};

use distfun::{CallError, Distribute, Ending, Isolation, ManagerHandle, SharedData, distribute, function};
use ndarray::{Array1, Array2, ShapeBuilder};

use crate::{
    dice::Dice,
    functions::{carried, drawn, lists, look_up, looked_up, nap, place, scaled, spell, spelled, sums, tiny},
    record::Record,
};

/// How many items had their results, or what is wrong.
type Outcome = Result<usize, String>;

/// Makes one call after the other.
pub(crate) struct Caller<'a> {
    number: usize,
    dice: Dice,
    manager: &'a ManagerHandle,
    machines: &'a [String],
    record: &'a Record,
}

/// What it calls, how often, and how it makes it.
type Kind<'a> = (&'static str, usize, fn(&mut Caller<'a>) -> Outcome);

impl<'a> Caller<'a> {
    pub(crate) fn new(
        number: usize,
        seed: u64,
        manager: &'a ManagerHandle,
        machines: &'a [String],
        record: &'a Record,
    ) -> Self {
        Self { number, dice: Dice::new(seed, 1 + number as u64), manager, machines, record }
    }

    fn kinds() -> [Kind<'a>; 12] {
        [
            ("numbers", 4, Self::numbers),
            ("many tiny items", 1, Self::many),
            ("items that say where they ran", 3, Self::places),
            ("references", 3, Self::references),
            ("arrays", 2, Self::arrays),
            ("buffers, on GPUs where there are", 3, Self::buffers),
            ("columns", 3, Self::columns),
            ("shared data", 2, Self::shared),
            ("random numbers", 2, Self::random),
            ("streams", 2, Self::stream),
            ("calls that are dropped", 1, Self::dropped),
            ("functions with a Manager of their own", 2, Self::alone),
        ]
    }

    /// Until the storm is over.
    pub(crate) fn run(mut self) {
        let urn: Vec<_> = Self::kinds().iter().flat_map(|kind| vec![*kind; kind.1]).collect();
        while !self.record.is_over() {
            let (what, _, call) = *self.dice.pick(&urn);
            self.one(what, call);
        }
    }

    fn one(&mut self, what: &'static str, call: impl FnOnce(&mut Self) -> Outcome) {
        self.record.begins(self.number, what);
        let outcome = call(self);
        self.record.ends(self.number, outcome);
    }

    fn items(&mut self, most: usize) -> Vec<u64> {
        let count = self.dice.within(0..most);
        let first = self.dice.number();
        (0..count as u64).map(|n| first.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
    }

    /// Whether these are the results that a loop has.
    fn judge<T: PartialEq + Send + 'static>(
        &self,
        since: Instant,
        result: Result<Vec<T>, CallError<Vec<T>>>,
        loops: Vec<T>,
    ) -> Outcome {
        let (results, failed) = match result {
            Ok(results) if results.len() == loops.len() => (results.into_iter().enumerate().collect(), Vec::new()),
            Ok(results) => return Err(format!("{} results of {} items", results.len(), loops.len())),
            Err(error) if error.ending() != Ending::ItemsFailed => return Err(format!("{error:?}")),
            Err(error) => {
                let failed = error.failed().to_vec();
                (error.into_finished(), failed)
            }
        };
        failed.iter().try_for_each(|failure| self.record.excuse(failure, since))?;
        if results.len() + failed.len() != loops.len() {
            return Err(format!("{} results and {} failures of {} items", results.len(), failed.len(), loops.len()));
        }
        match results.iter().find(|(index, result)| loops.get(*index) != Some(result)) {
            Some((index, _)) => Err(format!("item {index} of {} has another result than in a loop", loops.len())),
            None => Ok(loops.len()),
        }
    }

    fn numbers(&mut self) -> Outcome {
        let (items, since) = (self.items(150), Instant::now());
        let loops = items.iter().map(|x| tiny(*x)).collect();
        self.judge(since, self.manager.call(Distribute::map(function!(nap), items)).wait(), loops)
    }

    fn many(&mut self) -> Outcome {
        let (items, since) = (self.items(50_000), Instant::now());
        let loops = items.iter().map(|x| tiny(*x)).collect();
        self.judge(since, self.manager.call(Distribute::map(function!(tiny), items)).wait(), loops)
    }

    fn places(&mut self) -> Outcome {
        let (items, since) = (self.items(150), Instant::now());
        let loops = items.iter().map(|x| tiny(*x)).collect();
        let results = match self.manager.call(Distribute::map(function!(place), items)).wait() {
            Ok(results) => results,
            Err(error) => {
                // Seldom enough to say less of it.
                error.failed().iter().try_for_each(|failure| self.record.excuse(failure, since))?;
                return Ok(error.finished_count);
            }
        };
        let (results, places): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        places.into_iter().for_each(|place| self.record.place(place));
        self.judge(since, Ok(results), loops)
    }

    /// The same with every item as long as any is, so that all have a share.
    pub(crate) fn everywhere(&mut self) {
        self.one("items that say where they ran", |this| {
            let items = (0..400).map(|n| 21 * n + 20);
            let results = this.manager.call(Distribute::map(function!(place), items)).wait();
            let results = results.map_err(|error| format!("without any fault: {error:?}"))?;
            let count = results.len();
            results.into_iter().for_each(|(_, place)| this.record.place(place));
            Ok(count)
        });
    }

    fn references(&mut self) -> Outcome {
        let (items, since) = (self.items(200), Instant::now());
        let items: Vec<String> = items.into_iter().map(|x| format!("{x:b}")).collect();
        let loops = items.iter().map(spell).collect();
        self.judge(since, self.manager.call(Distribute::map(function!(spelled), items)).wait(), loops)
    }

    fn array(&mut self, length: usize) -> Array1<f64> {
        let first = (self.dice.number() % 1000) as f64;
        Array1::from_shape_fn(length, |n| first + n as f64)
    }

    fn arrays(&mut self) -> Outcome {
        let count = self.dice.within(0..12);
        let length = self.dice.within(1..60_000);
        let items: Vec<_> = (0..count).map(|_| self.array(length)).collect();
        let since = Instant::now();
        let loops = items.iter().cloned().map(scaled).collect();
        self.judge(since, self.manager.call(Distribute::map(function!(scaled), items)).wait(), loops)
    }

    fn buffers(&mut self) -> Outcome {
        let count = self.dice.within(0..40);
        let items: Vec<_> = (0..count).map(|_| self.items(300)).collect();
        let (loops, since) = (items.clone(), Instant::now());
        self.judge(since, self.manager.call(Distribute::map(function!(carried), items)).wait(), loops)
    }

    fn columns(&mut self) -> Outcome {
        let (rows, columns) = (self.dice.within(1..120), self.dice.within(0..600));
        let first = (self.dice.number() % 1000) as f64;
        let shape = (rows, columns).set_f(self.dice.chance(0.5));
        let x = Array2::from_shape_fn(shape, |(row, column)| first + (row * 31 + column) as f64);
        // Whole numbers: their sums are the same in any order.
        let loops = x.sum_axis(ndarray::Axis(0)).to_vec();
        let since = Instant::now();
        match self.manager.call(Distribute::columns(function!(sums), x)).wait() {
            Ok(y) => self.judge(since, Ok(y.to_vec()), loops),
            Err(error) if error.ending() == Ending::ItemsFailed => {
                error.failed().iter().try_for_each(|failure| self.record.excuse(failure, since))?;
                Ok(error.finished_count)
            }
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn shared(&mut self) -> Outcome {
        let length = self.dice.within(1..100_000);
        let weights = self.array(length);
        let shared = SharedData::builder().array("weights", &weights).and_then(|builder| builder.build());
        let shared = shared.map_err(|error| error.to_string())?;
        let (items, since) = (self.items(200), Instant::now());
        let items: Vec<u64> = items.into_iter().map(|x| x % 1_000_000).collect();
        let loops: Vec<_> = items.iter().map(|x| look_up(*x, weights.view())).collect();
        let call = Distribute::map(function!(looked_up), items).shared_data(shared);
        match self.manager.call(call).wait() {
            Ok(results) => {
                let results: Result<Vec<f64>, _> = results.into_iter().collect();
                self.judge(since, Ok(results.map_err(|error| error.to_string())?), loops)
            }
            Err(error) if error.ending() == Ending::ItemsFailed => {
                error.failed().iter().try_for_each(|failure| self.record.excuse(failure, since))?;
                Ok(error.finished_count)
            }
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn random(&mut self) -> Outcome {
        let (items, seed) = (self.items(150), self.dice.number());
        let plain = distribute!(drawn).seed(seed).sequential(true).build().map_err(shown)?;
        let loops = plain.map(items.clone()).wait().map_err(shown)?;
        let since = Instant::now();
        self.judge(since, self.manager.call(Distribute::map(function!(drawn), items).seed(seed)).wait(), loops)
    }

    fn stream(&mut self) -> Outcome {
        let (items, since) = (self.items(200), Instant::now());
        let loops: Vec<_> = items.iter().map(|x| tiny(*x)).collect();
        let pause = self.dice.time(0..3);
        let source = items.into_iter().inspect(|_| thread::sleep(pause));
        let mut count = 0;
        for (index, result) in self.manager.stream(function!(nap), source).into_iter().enumerate() {
            match result {
                Ok(result) if loops.get(index) == Some(&result) => {}
                Ok(_) => return Err(format!("item {index} of {} has another result than in a loop", loops.len())),
                Err(failure) => self.record.excuse(&failure, since)?,
            }
            count += 1;
        }
        if count == loops.len() { Ok(count) } else { Err(format!("{count} results of {} items", loops.len())) }
    }

    fn dropped(&mut self) -> Outcome {
        let items = self.items(1000);
        let call = self.manager.call(Distribute::map(function!(nap), items));
        thread::sleep(self.dice.time(0..200));
        drop(call);
        Ok(0)
    }

    /// A Manager that comes and goes in the midst of it, with items that are lent.
    fn alone(&mut self) -> Outcome {
        let slots = self.dice.within(1..3);
        let items = self.items(100);
        if self.dice.chance(0.5) {
            let build = distribute!(nap).slots(slots).isolation(Isolation::Process).machines(self.machines).build();
            let loops = items.iter().map(|x| tiny(*x)).collect();
            let (dfun, since) = (build.map_err(shown)?, Instant::now());
            return self.judge(since, dfun.map(&items[..]).wait(), loops);
        }
        let items: Vec<u32> = items.into_iter().map(|x| x as u32).collect();
        let loops = lists(items.clone());
        let builder = distribute!(lists).accept_lists().slots(slots).isolation(Isolation::Process);
        let (dfun, since) = (builder.machines(self.machines).build().map_err(shown)?, Instant::now());
        self.judge(since, dfun.map(items).wait(), loops)
    }
}

fn shown(error: impl Debug) -> String {
    format!("{error:?}")
}
