//! The thread that reads the logs and draws pictures of them. It owns both, so that nobody waits for a lock: who wants a
//! picture asks for it.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use distfun_core::view::{Time, View};
use tokio::sync::{oneshot, watch};

use crate::{
    logs::{Logs, Reached, wall_clock},
    page::About,
    picture::Picture,
};

/// News are told no more often.
const NEWS_EVERY: Duration = Duration::from_millis(500);

/// Without news, time goes on: that of what runs, and that since something was heard.
const TIME_EVERY: Duration = Duration::from_secs(2);

/// For so long the logs are read before somebody's wish for a picture is looked at.
const READ_FOR: Duration = Duration::from_millis(50);

/// At the end of the logs they are looked at as often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What time a picture is of.
pub(super) struct Clock {
    /// From where, and how fast. None: now.
    replay: Option<(Time, f64)>,
    since: Instant,
}

impl Clock {
    pub(super) fn live() -> Self {
        Self { replay: None, since: Instant::now() }
    }

    /// At speed 0 it stands still.
    pub(super) fn replay(from: Time, speed: f64) -> Self {
        Self { replay: Some((from, speed)), since: Instant::now() }
    }

    fn speed(&self) -> f64 {
        self.replay.map_or(1.0, |(_, speed)| speed)
    }

    /// To which time lines are read.
    fn until(&self) -> Option<Time> {
        let (from, speed) = self.replay?;
        Some(from.after(self.since.elapsed().as_secs_f64() * speed))
    }

    /// What it shows, and whether it goes on.
    fn now(&self, view: &View, reached: Reached) -> (Time, bool) {
        let is_over = reached == Reached::End;
        match (self.until(), self.replay) {
            (Some(until), Some((_, speed))) if !is_over => (until, speed > 0.0),
            (Some(until), _) => (until.min(view.now()), false),
            // Whatever is over is shown as it was then.
            (None, _) if is_over || are_over(view) => (view.now(), false),
            (None, _) => (wall_clock().max(view.now()), true),
        }
    }
}

/// All that have written have ended.
fn are_over(view: &View) -> bool {
    view.first().is_some() && view.processes().all(|process| process.is_over())
}

/// How far somebody is: the numbers of the line of the story and of the chunk that it lacks first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) told: u64,
    pub(super) spans: u64,
}

/// A wish for a picture with what somebody lacks.
struct Wish {
    known: Known,
    answer: oneshot::Sender<(Bytes, Known)>,
}

/// That something has changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// Of pictures; 0 as long as there is none.
    pub(super) version: u64,
    pub(super) about: About,
}

/// Whom to ask for pictures.
#[derive(Clone)]
pub(super) struct Reader {
    wishes: Sender<Wish>,
    pub(super) ticks: watch::Receiver<Tick>,
    /// Why the logs can't be read any more.
    pub(super) failure: watch::Receiver<Option<String>>,
}

impl Reader {
    /// The newest picture as JSON, and how far whoever gets it is then; none if the logs can't be read any more.
    pub(super) async fn picture(&self, known: Known) -> Option<(Bytes, Known)> {
        let (answer, picture) = oneshot::channel();
        self.wishes.send(Wish { known, answer }).ok()?;
        picture.await.ok()
    }
}

pub(super) fn start(logs: Logs, view: View, clock: Clock, about: About) -> Result<Reader, String> {
    let (wishes, asked) = channel();
    let (tick, ticks) = watch::channel(Tick { version: 0, about });
    let (fails, failure) = watch::channel(None);
    let state = State {
        logs,
        view,
        clock,
        reached: Reached::More,
        drawn: HashMap::new(),
        told: Instant::now() - TIME_EVERY,
        is_news: true,
        tick,
    };
    let read = move || {
        if let Err(error) = state.run(&asked) {
            fails.send_replace(Some(error));
        }
    };
    thread::Builder::new().name("distfun-reader".into()).spawn(read).map_err(|error| error.to_string())?;
    Ok(Reader { wishes, ticks, failure })
}

struct State {
    logs: Logs,
    view: View,
    clock: Clock,
    reached: Reached,
    /// Pictures as the view is now: most who ask know the same.
    drawn: HashMap<Known, (Bytes, Known)>,
    /// When a tick was told last.
    told: Instant,
    is_news: bool,
    tick: watch::Sender<Tick>,
}

impl State {
    fn run(mut self, wishes: &Receiver<Wish>) -> Result<(), String> {
        loop {
            let before = self.view.losses();
            self.reached = self.logs.advance(&mut self.view, self.clock.until(), READ_FOR)?;
            let has_read = self.view.losses() != before;
            self.is_news |= has_read;
            if has_read {
                self.drawn.clear();
            }
            self.tell();
            let wait = if self.reached == Reached::More { Duration::ZERO } else { LOOK_EVERY };
            let until = Instant::now() + wait;
            loop {
                match wishes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(wish) => self.grant(wish),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
        }
    }

    /// Says that there is something new, if there is and it was not said just now.
    fn tell(&mut self) {
        let since = self.told.elapsed();
        let is_first = self.tick.borrow().version == 0;
        // Of what was written long ago the end is shown first; but somebody who looks sees how far that is.
        if is_first && self.reached == Reached::More {
            let (read, all) = self.logs.bytes();
            if since >= NEWS_EVERY {
                self.told = Instant::now();
                let share = Some(read as f64 / all.max(1) as f64);
                self.tick.send_modify(|tick| tick.about.share = share);
            }
            return;
        }
        let (_, goes_on) = self.clock.now(&self.view, self.reached);
        let speed = if goes_on { self.clock.speed() } else { 0.0 };
        let has_ended = self.reached == Reached::End;
        let is_due = (self.is_news && since >= NEWS_EVERY) || (goes_on && since >= TIME_EVERY);
        let is_other = |about: &About| about.has_ended != has_ended || about.speed != speed;
        if is_first || is_due || is_other(&self.tick.borrow().about) {
            (self.told, self.is_news) = (Instant::now(), false);
            self.drawn.clear();
            self.tick.send_modify(|tick| {
                tick.version += 1;
                (tick.about.share, tick.about.has_ended, tick.about.speed) = (None, has_ended, speed);
            });
        }
    }

    fn grant(&mut self, wish: Wish) {
        let drawn =
            self.drawn.entry(wish.known).or_insert_with(|| draw(&self.view, &self.clock, self.reached, wish.known));
        let _ = wish.answer.send(drawn.clone()); // who has left needs none
    }
}

fn draw(view: &View, clock: &Clock, reached: Reached, known: Known) -> (Bytes, Known) {
    let (now, _) = clock.now(view, reached);
    let picture = Picture::of(view, now, known.told, known.spans);
    let next = Known {
        told: picture.story.last().map_or(known.told, |told| told.number + 1),
        spans: picture.spans.last().map_or(known.spans, |span| span.number + 1),
    };
    (Bytes::from(serde_json::to_vec(&picture).expect("a picture is JSON")), next)
}
