//! The RemoteNode actor: the Manager's end of one machine. It connects, meets the node, tells the engine that it is up,
//! and does so again when the connection breaks.
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | connecting | start, a broken connection | the node is met: talking; it must not be tried again: given up |
//! | talking | the node is met | the connection ends: connecting; `RemoveMachine`, `Finished`: left |
//! | given up | another secret, protocol or process than it must be | never |
//! | left | `RemoveMachine`, the end of the Manager | never |
//!
//! All connections of a Manager live on one thread, on which no code of the user's runs, so that heartbeats are in time.

mod codec;
mod connect;
mod conversation;
mod known_at;
mod nodes;
#[cfg(unix)]
mod ssh;

use std::{
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use actix::prelude::*;
use distfun_core::{engine::NodeEvent, ids::NodeId, machines::Machine, placement::MachineSlots};
use distfun_net::{
    link::{Link, LinkEnd},
    message::{Message, Welcome},
    session::{Health, Incoming, SessionLimits},
};
use rand::RngExt;

pub(crate) use connect::{Met, Trouble, meet, own_credentials, with_source};
pub(crate) use conversation::Conversation;
pub(crate) use known_at::KnownAt;
pub(crate) use nodes::Nodes;

use crate::{events, messages::MachineEnd, pool::Pool};

/// More GPUs than any machine has.
const MAX_GPUS: usize = 256;

/// Waits before trying again: random, up to this at first and twice as much each time, up to [`LONGEST_WAIT`] ("Full
/// Jitter": AWS Architecture Blog, "Exponential Backoff and Jitter", 2015).
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A connection that has lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(10);

/// Why a machine does not compute that the Manager has left.
const REMOVED: &str = "it was removed";

/// Calls that nothing else can run wait this long for a node that does not answer.
const HOPE: Duration = Duration::from_secs(5);

/// How long a node that has been met may take to introduce itself.
const WELCOME_TIME: Duration = Duration::from_secs(3);

/// How often a connection is looked at for silence.
const LOOK: Duration = Duration::from_millis(250);

/// At one in so many of these looks it is also asked whether the node was revoked.
const LOOKS_AT_CERTIFICATE: u32 = 8;

/// A machine of one Manager.
pub(crate) struct RemoteNode {
    pool: Weak<Pool>,
    id: NodeId,
    machine: Machine,
    conversation: Option<Arc<Conversation>>,
    tries: u32,
    /// Since when it has not been connected.
    lost: Instant,
    is_hopeless: bool,
    has_left: bool,
    /// What came of leaving has been told.
    has_answered: bool,
    outage: Option<Instant>,
    /// Since when it has been connected, if it is.
    since: Option<Instant>,
    /// The log says why it can't be reached.
    is_told: bool,
    /// Of its certificate.
    serial: Option<String>,
    looks: u32,
}

impl RemoteNode {
    /// Adds a machine to a pool whose connections have a thread.
    pub(crate) fn add(pool: &Arc<Pool>, machine: Machine, id: NodeId) -> Option<Addr<Self>> {
        let arbiter = pool.nodes.arbiter.get()?;
        pool.node(id, NodeEvent::Expected);
        let pool = Arc::downgrade(pool);
        Some(Self::start_in_arbiter(arbiter, move |_| Self {
            pool,
            id,
            machine,
            conversation: None,
            tries: 0,
            lost: Instant::now(),
            is_hopeless: false,
            has_left: false,
            has_answered: false,
            outage: None,
            since: None,
            is_told: false,
            serial: None,
            looks: 0,
        }))
    }

    /// From now on it is not connected: calls that nothing else can run wait for it, so long.
    fn lose(&mut self, context: &mut Context<Self>) {
        let lost = Instant::now();
        self.lost = lost;
        context.run_later(HOPE, move |this, _| {
            let Some(pool) = this.pool.upgrade() else { return };
            if this.lost == lost && !this.is_hopeless && pool.nodes.conversation(this.id).is_none() {
                this.is_hopeless = true;
                pool.node(this.id, NodeEvent::Hopeless);
            }
        });
    }

    fn connect(&mut self, context: &mut Context<Self>) {
        let machine = self.machine.clone();
        let meeting = async move {
            // Its hash is there when a node that runs programs asks for it; no heartbeat waits for that.
            #[cfg(target_os = "linux")]
            let hashed = tokio::task::spawn_blocking(crate::host::executable);
            let met = meet(&machine.address, SessionLimits::default()).await;
            #[cfg(target_os = "linux")]
            let _ = hashed.await;
            met
        };
        context.spawn(meeting.into_actor(self).map(|met, this, context| this.met(met, context)));
    }

    fn met(&mut self, met: Result<Met, Trouble>, context: &mut Context<Self>) {
        let Some(pool) = self.pool.upgrade().filter(|pool| pool.stopped().is_none() && !self.has_left) else {
            return context.stop();
        };
        match met {
            Ok(met) => self.talk(&pool, met, context),
            Err(trouble) => self.failed(&pool, &trouble, context),
        }
    }

    /// The node is who it says; once it has introduced itself it computes.
    fn talk(&mut self, pool: &Arc<Pool>, met: Met, context: &mut Context<Self>) {
        let Met { link, round_trip, serial, .. } = &met;
        self.serial.clone_from(serial);
        let (link, round_trip) = (link.clone(), *round_trip);
        let greeter = Greeter {
            pool: Arc::downgrade(pool),
            id: self.id,
            machine: self.machine.clone(),
            link: link.clone(),
            round_trip,
            outage: self.outage,
            actor: context.address(),
        };
        let talk = async move {
            let (mut conversation, mut trouble) = (None, None);
            let link = greeter.link.clone();
            let running = link.run(|incoming| match (&conversation, incoming.message) {
                (None, Message::Welcome(welcome)) if trouble.is_none() => match greeter.greet(&welcome) {
                    Ok(new) => conversation = Some(new),
                    Err(why) => {
                        greeter.link.close(&why.text);
                        trouble = Some(why);
                    }
                },
                (None, _) => {}
                (Some(conversation), message) => conversation.hear(Incoming { message, ..incoming }),
            });
            let end = running.await;
            if let Some(conversation) = &conversation {
                let _ = conversation.end().await;
            }
            drop(met); // with what carried it
            (conversation, trouble, end)
        };
        let late = link.clone();
        context.run_later(WELCOME_TIME, move |this, _| {
            if this.conversation.is_none() {
                late.close("no welcome came"); // an old link does not mind
            }
        });
        context.spawn(talk.into_actor(self).map(|(conversation, trouble, end), this, context| {
            this.over(conversation.as_ref(), trouble, &end, context);
        }));
    }

    /// Stops giving work to a node that is silent, before it is taken for dead.
    fn look(&self, conversation: &Arc<Conversation>, before: Health, context: &mut Context<Self>) {
        let watched = Arc::downgrade(conversation);
        context.run_later(LOOK, move |this, context| {
            let Some(conversation) = watched.upgrade().filter(|_| this.conversation.is_some()) else { return };
            this.looks = this.looks.wrapping_add(1);
            if this.looks.is_multiple_of(LOOKS_AT_CERTIFICATE)
                && this.serial.as_deref().is_some_and(|serial| own_credentials().is_revoked(serial))
            {
                return conversation.link.close("the certificate of this node was revoked");
            }
            let health = conversation.link.health();
            let is_draining = conversation.is_draining.load(Ordering::Relaxed);
            if is_draining && conversation.chunks() == 0 {
                // It may stay for others; to this Manager it is as if it had gone, and may come back.
                return conversation.link.close("the node takes no more work");
            }
            if (health == Health::Suspect) != (before == Health::Suspect)
                && let Some(pool) = this.pool.upgrade()
            {
                let is_suspect = health == Health::Suspect;
                if health != Health::Dead {
                    events::node_suspect(&pool, &conversation, is_suspect);
                }
                pool.node(this.id, NodeEvent::Pause(is_suspect || is_draining));
            }
            this.look(&conversation, health, context);
        });
    }

    /// The connection has ended, and everything that was out has come back.
    fn over(
        &mut self,
        conversation: Option<&Arc<Conversation>>,
        trouble: Option<Trouble>,
        end: &LinkEnd,
        context: &mut Context<Self>,
    ) {
        self.conversation = None;
        let Some(pool) = self.pool.upgrade() else { return context.stop() };
        let mut text = connect::with_source(end);
        let Some(conversation) = conversation else {
            let trouble = trouble.unwrap_or_else(|| Trouble::passing(format!("it did not introduce itself: {text}")));
            return self.failed(&pool, &trouble, context);
        };
        if let Some((why, is_passing)) = conversation.refusal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nothing waits for it, whether it would refuse again or not.
            pool.nodes.disconnected(self.id, &why);
            self.is_hopeless = true;
            self.since = None;
            pool.node(self.id, NodeEvent::Hopeless);
            if !is_passing || pool.stopped().is_some() || self.has_left {
                return context.stop();
            }
            return self.try_again(context);
        }
        if conversation.is_draining.load(Ordering::Relaxed) {
            text = format!("it was about to stop: {text}");
        }
        pool.nodes.disconnected(self.id, if self.has_left { REMOVED } else { &text });
        if pool.stopped().is_some() || self.has_left {
            pool.node(self.id, NodeEvent::Hopeless);
            // A node that was asked to stop may be gone before its answer is passed on.
            if !self.has_left || self.has_answered {
                context.stop();
            }
            return;
        }
        events::node_lost(&pool, conversation, &text);
        self.lose(context);
        // A node that comes and goes is not connected again at once each time.
        if self.since.take().is_some_and(|since| since.elapsed() >= STEADY) {
            self.tries = 0;
        }
        self.outage = Some(self.lost);
        pool.node(self.id, NodeEvent::Down);
        self.try_again(context);
    }

    fn failed(&mut self, pool: &Arc<Pool>, trouble: &Trouble, context: &mut Context<Self>) {
        pool.nodes.note(self.id, &trouble.text);
        let gives_up = trouble.is_for_good;
        if !std::mem::replace(&mut self.is_told, true) || gives_up {
            events::node_rejected(pool, self.machine.name.as_str(), &trouble.text, trouble.kind, gives_up);
        }
        if (gives_up || trouble.is_hopeless) && !self.is_hopeless {
            self.is_hopeless = true;
            pool.node(self.id, NodeEvent::Hopeless);
        }
        if gives_up {
            return context.stop();
        }
        self.try_again(context);
    }

    fn try_again(&mut self, context: &mut Context<Self>) {
        let most = FIRST_WAIT.saturating_mul(1 << self.tries.min(10)).min(LONGEST_WAIT);
        self.tries += 1;
        let wait = most.mul_f64(rand::rng().random_range(0.0..1.0)).max(Duration::from_millis(5));
        context.run_later(wait, |this, context| this.connect(context));
    }
}

/// Takes in the welcome of a node, on the thread of the connections.
struct Greeter {
    pool: Weak<Pool>,
    id: NodeId,
    machine: Machine,
    link: Arc<Link>,
    round_trip: Duration,
    outage: Option<Instant>,
    actor: Addr<RemoteNode>,
}

impl Greeter {
    fn greet(&self, welcome: &Welcome) -> Result<Arc<Conversation>, Trouble> {
        let gone = || Trouble::passing("the Manager is gone");
        let pool = self.pool.upgrade().filter(|pool| pool.stopped().is_none()).ok_or_else(gone)?;
        if welcome.is_draining {
            return Err(Trouble::passing("it is about to stop and takes no more work"));
        }
        if welcome.instance == crate::instance::id() {
            return Err(Trouble::is_this_program());
        }
        let name: Arc<str> = self.machine.name.as_str().into();
        let codec = pool.nodes.codec().map_err(|error| Trouble::passing(format!("no thread for it: {error}")))?;
        let ships = welcome.runs_programs;
        // A program that can't use GPUs can't use those of a node that would run it.
        let can_not = ships && (!crate::gpu::IS_BUILT_IN || pool.nodes.are_gpus_refused(self.id, welcome.instance));
        let is_unused = can_not || !pool.settings.gpu_policy.wants_gpus();
        let gpus = if is_unused { 0 } else { welcome.gpus.len().min(pool.settings.max_gpu).min(MAX_GPUS) as u32 };
        if gpus == 0 && welcome.slots == 0 {
            return Err(Trouble::without_slots());
        }
        let conversation = Conversation::new(self.id, name, self.link.clone(), &pool, codec, ships);
        conversation.introduce_program().map_err(Trouble::for_good)?;
        pool.nodes.connected(&conversation, welcome.instance).map_err(|other| Trouble::is_twice(&other))?;
        let slots = self.machine.slots.map_or(welcome.slots, |most| most.min(welcome.slots)).min(4096);
        let outage = self.outage.map(|since| since.elapsed());
        events::node_connected(&pool, &conversation, welcome, slots, self.round_trip, outage);
        self.actor.do_send(Talking(conversation.clone()));
        pool.node_up(self.id, MachineSlots { cpus: slots, gpus }, self.round_trip);
        Ok(conversation)
    }
}

/// The node has introduced itself.
#[derive(Message)]
#[rtype(result = "()")]
struct Talking(Arc<Conversation>);

impl Handler<Talking> for RemoteNode {
    type Result = ();

    fn handle(&mut self, Talking(conversation): Talking, context: &mut Context<Self>) {
        (self.is_hopeless, self.is_told, self.since) = (false, false, Some(Instant::now()));
        if self.has_left {
            return conversation.link.close("the Manager has left");
        }
        self.look(&conversation, Health::Alive, context);
        self.conversation = Some(conversation);
    }
}

impl Actor for RemoteNode {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.lose(context);
        self.connect(context);
    }
}

/// From the Manager: take your leave. `shuts_down` asks the node to stop too; the answer says what came of it.
#[derive(Message)]
#[rtype(result = "MachineEnd")]
pub(crate) struct Leave {
    pub(crate) shuts_down: bool,
    /// What the node is told.
    pub(crate) reason: &'static str,
}

/// How long a node may take to answer a shutdown.
const ANSWER_TIME: Duration = Duration::from_millis(1500);

impl Handler<Leave> for RemoteNode {
    type Result = ResponseActFuture<Self, MachineEnd>;

    fn handle(&mut self, Leave { shuts_down, reason }: Leave, _: &mut Context<Self>) -> Self::Result {
        self.has_left = true;
        let machine = self.machine.name.to_string();
        // It may have introduced itself a moment ago.
        let met = || self.pool.upgrade().and_then(|pool| pool.nodes.conversation(self.id));
        let conversation = self.conversation.clone().or_else(met);
        self.conversation.clone_from(&conversation);
        let id = self.id;
        let pool = self.pool.clone();
        let leave = async move {
            let Some(conversation) = conversation else {
                let Some(pool) = pool.upgrade() else { return MachineEnd::unreached(machine, None) };
                let trouble = pool.nodes.trouble(id);
                pool.nodes.note(id, REMOVED);
                pool.node(id, NodeEvent::Hopeless);
                return MachineEnd::unreached(machine, trouble);
            };
            let end = if shuts_down { conversation.shut_down(machine).await } else { MachineEnd::left(machine) };
            conversation.link.close(reason);
            end
        };
        Box::pin(leave.into_actor(self).map(|end, this, context| {
            this.has_answered = true;
            if this.conversation.is_none() {
                // Once this is answered; else when everything that is out has come back.
                context.run_later(Duration::from_millis(1), |_, context| context.stop());
            }
            end
        }))
    }
}

impl Conversation {
    /// Asks the node to stop.
    async fn shut_down(&self, machine: String) -> MachineEnd {
        let answered = self.answered.notified();
        let sent = self.link.send(&Message::Shutdown, Vec::new());
        if sent.is_ok() && self.shutdown_answer.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            let _ = actix_rt::time::timeout(ANSWER_TIME, answered).await;
        }
        let answer = self.shutdown_answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        MachineEnd::answered(machine, answer)
    }
}
