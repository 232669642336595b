//! Runs a `Deserialize` again and again until every variant has been seen, and finds out what refused a value.

use std::{
    any::type_name,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::de::DeserializeOwned;

use super::{
    deserializer::{At, Refused},
    graph::{Followed, Graph, Kind, PlaceId, ShapeId},
    samples::Variation,
};

/// Values within values; also keeps the user's `Deserialize` from overflowing the stack.
const MAX_DEPTH: usize = 64;

/// Values handed out for one type, all runs together: some milliseconds.
const MAX_STEPS: usize = 20_000;

/// Why a value could not be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// The next run will try something else.
    Retry,
    /// There is nothing else to try.
    Stuck,
}

#[derive(Debug)]
pub(super) struct Tracer {
    pub(super) graph: RefCell<Graph>,
    steps: Cell<usize>,
    depth: Cell<usize>,
    /// Who is to blame for the error that is on its way out has been found, so nobody further out is.
    fault: Cell<Option<Fault>>,
    /// The next run will be different from this one.
    may_retry: Cell<bool>,
    variation: Cell<Variation>,
    /// How many plain values there were under this variation.
    position: Cell<usize>,
}

impl Tracer {
    pub(super) fn new() -> Self {
        Self {
            graph: RefCell::default(),
            steps: Cell::new(0),
            depth: Cell::new(0),
            fault: Cell::new(None),
            may_retry: Cell::new(false),
            variation: Cell::new(Variation::FIRST),
            position: Cell::new(0),
        }
    }

    /// Finds out all that can be known of `T`.
    pub(super) fn trace<T: DeserializeOwned>(&self) -> PlaceId {
        let root = self.graph.borrow_mut().add_place(type_name::<T>());
        self.steps.set(0);
        loop {
            let before = self.graph.borrow().learned;
            self.fault.set(None);
            // An error is not looked at: another may have been swallowed by the user's code.
            let _ = self.at_place(root, type_name::<T>(), |at| T::deserialize(at).map(discard));
            let has_learned = self.graph.borrow().learned > before;
            let has_news = self.graph.borrow_mut().prepare(root);
            let may_retry = self.may_retry.replace(false);
            if self.is_spent() {
                self.give_up_at(root);
                return root;
            }
            if !has_learned || !has_news && !may_retry {
                return root;
            }
        }
    }

    /// Lets `deserialize` make a value at `place`. If it can't, and nothing within is to blame, other samples are tried
    /// here the next time.
    pub(super) fn at_place<'t, T>(
        &'t self,
        place: PlaceId,
        type_name: &'static str,
        deserialize: impl FnOnce(At<'t>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let own = {
            let place = &mut self.graph.borrow_mut().places[place];
            place.type_name = type_name;
            if place.is_stuck {
                return Err(self.blame(Fault::Stuck));
            }
            place.variation
        };
        self.step()?;
        if self.depth.get() == MAX_DEPTH {
            return Err(self.give_up_at(place));
        }
        self.depth.set(self.depth.get() + 1);
        let around = (self.variation.get(), self.position.get());
        if let Some(own) = own {
            self.variation.set(own);
            self.position.set(0);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| deserialize(At { tracer: self, place })));
        self.depth.set(self.depth.get() - 1);
        if own.is_some() {
            self.variation.set(around.0);
            self.position.set(around.1);
        }
        match outcome {
            Ok(Ok(value)) => {
                self.fault.set(None); // an error on the way may have been swallowed
                Ok(value)
            }
            Ok(Err(Refused)) if self.fault.get().is_some() => Err(Refused),
            Ok(Err(Refused)) => Err(self.vary(place, own, around.0)),
            Err(payload) => {
                if !payload.is::<&str>() && !payload.is::<String>() {
                    std::mem::forget(payload); // its own drop could panic again
                }
                Err(self.give_up_at(place))
            }
        }
    }

    fn vary(&self, place: PlaceId, own: Option<Variation>, around: Variation) -> Refused {
        let next = match own {
            Some(own) => own.next(),
            None if around == Variation::FIRST => around.next(),
            None => Some(Variation::FIRST),
        };
        if next.is_none() {
            return self.give_up_at(place);
        }
        let mut graph = self.graph.borrow_mut();
        graph.places[place].variation = next;
        graph.learned += 1;
        self.blame(Fault::Retry)
    }

    /// No value can be made at `place`, whatever the samples.
    pub(super) fn give_up_at(&self, place: PlaceId) -> Refused {
        let mut graph = self.graph.borrow_mut();
        graph.places[place].is_stuck = true;
        graph.learned += 1;
        self.blame(Fault::Stuck)
    }

    fn blame(&self, fault: Fault) -> Refused {
        self.fault.set(Some(fault));
        if fault == Fault::Retry {
            self.may_retry.set(true);
        }
        Refused
    }

    /// Counts a value that is handed out.
    pub(super) fn step(&self) -> Result<(), Refused> {
        self.steps.set(self.steps.get() + 1);
        if self.is_spent() { Err(self.blame(Fault::Stuck)) } else { Ok(()) }
    }

    fn is_spent(&self) -> bool {
        self.steps.get() > MAX_STEPS
    }

    /// What the next plain value is made from.
    pub(super) fn sample(&self) -> (Variation, usize) {
        let position = self.position.get();
        self.position.set(position + 1);
        (self.variation.get(), position)
    }

    pub(super) fn count(&self) -> usize {
        self.variation.get().count()
    }

    /// Chooses one of the ways in which a value of this shape can go on.
    pub(super) fn follow(&self, shape: ShapeId) -> Result<Followed, Refused> {
        self.graph.borrow_mut().follow(shape).ok_or_else(|| self.blame(Fault::Stuck))
    }

    pub(super) fn followed<T>(
        &self,
        shape: ShapeId,
        followed: Followed,
        outcome: Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut graph = self.graph.borrow_mut();
        if outcome.is_ok() {
            graph.arrived(shape, followed);
            return outcome;
        }
        let for_good = match self.fault.get() {
            Some(Fault::Stuck) => !self.is_spent(),
            Some(Fault::Retry) => false,
            // A variant that can't be read at all. Where anything else is wrong with an option or a list, other samples
            // may help.
            None => graph.shapes[shape].kind.is_enum(),
        };
        if graph.failed(shape, followed, for_good) {
            self.blame(Fault::Retry);
        }
        outcome
    }

    pub(super) fn shape<V>(&self, place: PlaceId, kind: Kind, value: &'static str) -> ShapeId {
        self.graph.borrow_mut().shape_at(place, kind, type_name::<V>(), value)
    }

    pub(super) fn child(&self, shape: ShapeId, position: usize) -> PlaceId {
        self.graph.borrow_mut().child(shape, position)
    }
}

/// Drops a value of the user's where a panic of its `Drop` is contained.
fn discard<T>(value: T) {
    drop(value);
}
