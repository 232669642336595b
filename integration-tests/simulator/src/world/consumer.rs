//! Who reads the results of an open call: pulls items while its window has room, and takes outcomes.
//!
//! It does what `actors/src/stream/flow.rs` does.

use std::time::Duration;

use distfun_core::{engine::Event, failure::Ending, ids::CallId};

use super::{Happening, World, carry::By};
use crate::{
    law::Verdict,
    scenario::{Act, Feed},
};

#[derive(Debug)]
pub(super) struct Consumer {
    feed: Feed,
    /// Items that the source still gives.
    left: usize,
    is_closed: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its next turn is planned, or what it said is being carried out.
    Busy,
    /// It waits for news.
    Parked,
    /// It has what it wanted, or does not want it any more.
    Gone,
}

impl World<'_> {
    /// It has carried out what it said; its source may take its time before it gives the next items.
    pub(super) fn consumer_goes_on(&mut self, call: CallId) {
        let plan = &self.calls[call.0 as usize];
        let consumer = self.consumers.entry(call).or_insert_with(|| {
            let feed = plan.feed.clone().expect("an open call has a source");
            Consumer { left: feed.items, feed, is_closed: false, state: State::Busy }
        });
        let (pause, sleeps) = (consumer.feed.pause, consumer.feed.sleeps);
        let most = if self.is_calm { pause.min(Duration::from_millis(1)) } else { pause };
        let pause = if self.dice.chance(sleeps) { self.dice.time(most) } else { self.dice.reaction() };
        self.plan(pause, Happening::Turn(call));
    }

    /// Something about an open call has changed that its consumer may wait for.
    pub(super) fn news(&mut self, call: CallId) {
        let Some(consumer) = self.consumers.get_mut(&call).filter(|consumer| consumer.state == State::Parked) else {
            return;
        };
        consumer.state = State::Busy;
        let pause = self.dice.reaction();
        self.plan(pause, Happening::Turn(call));
    }

    /// It takes what is there, and pulls what there is room for; else waits for news.
    pub(super) fn turn(&mut self, call: CallId) -> Verdict {
        let Some(consumer) = self.consumers.get_mut(&call).filter(|consumer| consumer.state != State::Gone) else {
            return Ok(());
        };
        let Feed { window, batch, in_order, waits_for_calm, is_odd, .. } = consumer.feed;
        let most = if self.dice.chance(0.2) { self.dice.within(1..20) } else { usize::MAX };
        let has_taken = self.owner.give(call, most, in_order) > 0;
        if self.owner.leaves(call)? {
            consumer.state = State::Gone;
            return if is_odd { self.say_what_is_odd(call) } else { Ok(()) };
        }
        if is_odd && self.dice.chance(0.1) {
            return self.say_what_is_odd(call);
        }
        let room = window.saturating_sub(self.owner.ahead(call)).min(batch);
        if self.owner.ending(call).is_none() && !consumer.is_closed {
            if consumer.left > 0 && room > 0 {
                let count = self.dice.within(1..room.min(consumer.left) + 1);
                consumer.left -= count;
                self.owner.feed(call, count);
                return self.say(Event::Extend(call, count), By::Consumer(call));
            }
            if consumer.left == 0 && (self.is_calm || !waits_for_calm) {
                consumer.is_closed = true;
                self.owner.close(call);
                return self.say(Event::Close(call), By::Consumer(call));
            }
        }
        if has_taken {
            let pause = self.dice.reaction();
            self.plan(pause, Happening::Turn(call));
        } else {
            consumer.state = State::Parked;
        }
        Ok(())
    }

    /// What changes nothing: no items, items behind the end, a second close.
    fn say_what_is_odd(&mut self, call: CallId) -> Verdict {
        let consumer = &self.consumers[&call];
        let (is_over, by) = match consumer.state {
            State::Gone => (true, By::Other),
            _ => (consumer.is_closed, By::Consumer(call)),
        };
        let event = match self.dice.within(0..3) {
            0 if is_over => Event::Close(call),
            1 if is_over => Event::Extend(call, self.dice.within(1..50)),
            _ => Event::Extend(call, 0),
        };
        self.say(event, by)
    }

    /// Its user drops it.
    pub(super) fn drop_stream(&mut self, number: usize) -> Verdict {
        let call = CallId(number as u64);
        let Some(consumer) = self.consumers.get_mut(&call) else {
            // The thread that submits the call is held up.
            self.plan(Duration::from_millis(1), Happening::Act(Act::Drop(number)));
            return Ok(());
        };
        if std::mem::replace(&mut consumer.state, State::Gone) == State::Gone {
            return Ok(());
        }
        self.seen.note("a stream dropped");
        self.owner.dropped(call);
        self.say(Event::Cancel(call, Ending::Cancelled), By::Other)
    }
}
