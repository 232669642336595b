//! All nodes of one Manager: which lane leads where, and what there is to say about each.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use actix::ArbiterHandle;
use distfun_core::{
    engine::{Command, Commands, NodeStatus},
    ids::{NodeId, WorkerId},
    placement::{MachineFacts, MachineSlots},
};

use super::{Conversation, codec::Codec};
use crate::job::SharedJob;

/// What is known of a node.
#[derive(Default)]
struct Entry {
    name: Option<Arc<str>>,
    /// The run of a process that answers there.
    instance: Option<[u8; 16]>,
    conversation: Option<Arc<Conversation>>,
    /// What it has, once it has said so.
    slots: Option<MachineSlots>,
    /// Under this number the engine knows its GPUs, as if they were another node.
    gpus: Option<NodeId>,
    /// The run whose GPUs can't be used.
    refuses_gpus: Option<[u8; 16]>,
    /// Nothing waits for it.
    is_hopeless: bool,
    /// Why it does not compute, in the latest words.
    trouble: Option<String>,
    has_left: bool,
}

/// A node by the name it has, what is said with it while it is connected, and what keeps it from computing.
pub(crate) type Named = (NodeId, Arc<str>, Option<Arc<Conversation>>, Option<String>);

/// The nodes of a pool.
pub(crate) struct Nodes {
    first_lane: u32,
    is_any: AtomicBool,
    next: AtomicU32,
    state: Mutex<State>,
    codec: OnceLock<Codec>,
    /// The thread of all connections.
    pub(crate) arbiter: OnceLock<ArbiterHandle>,
}

#[derive(Default)]
struct State {
    /// Whose GPUs a number stands for.
    owners: BTreeMap<NodeId, NodeId>,
    /// By lane, counted from the first.
    lanes: Vec<Option<Arc<Conversation>>>,
    all: BTreeMap<NodeId, Entry>,
}

impl Nodes {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            first_lane: slots as u32,
            is_any: AtomicBool::new(false),
            next: AtomicU32::new(0),
            state: Mutex::default(),
            codec: OnceLock::new(),
            arbiter: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are any, or have been.
    pub(crate) fn are_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// A number for one more.
    pub(crate) fn add(&self, name: Option<Arc<str>>) -> NodeId {
        let id = NodeId(self.next.fetch_add(1, Ordering::Relaxed));
        self.state().all.insert(id, Entry { name, ..Entry::default() });
        self.is_any.store(true, Ordering::Release);
        id
    }

    /// The number of a node's GPUs.
    pub(crate) fn add_gpus(&self, node: NodeId) -> NodeId {
        let mut state = self.state();
        let entry = state.all.entry(node).or_default();
        let gpus = *entry.gpus.get_or_insert_with(|| NodeId(self.next.fetch_add(1, Ordering::Relaxed)));
        state.owners.insert(gpus, node);
        gpus
    }

    /// The number of a node's GPUs, if it has some.
    pub(crate) fn gpus_of(&self, node: NodeId) -> Option<NodeId> {
        self.state().all.get(&node)?.gpus
    }

    /// The program can't use the GPUs of the node that answers there now.
    pub(crate) fn refuse_gpus(&self, node: NodeId) {
        if let Some(entry) = self.state().all.get_mut(&node) {
            entry.refuses_gpus = entry.instance;
        }
    }

    /// Whether that was said of it.
    pub(crate) fn are_gpus_refused(&self, node: NodeId, instance: [u8; 16]) -> bool {
        self.state().all.get(&node).is_some_and(|entry| entry.refuses_gpus == Some(instance))
    }

    /// The node that `machines` calls so, if it has not left.
    pub(crate) fn find(&self, name: &str) -> Option<NodeId> {
        let state = self.state();
        let is_it = |entry: &Entry| !entry.has_left && entry.name.as_deref() == Some(name);
        state.all.iter().find(|(_, entry)| is_it(entry)).map(|(id, _)| *id)
    }

    /// The threads that run serde of the user's types.
    pub(crate) fn codec(&self) -> std::io::Result<Codec> {
        if let Some(codec) = self.codec.get() {
            return Ok(codec.clone());
        }
        let codec = Codec::start(crate::pool::cpus().get())?;
        Ok(self.codec.get_or_init(|| codec).clone())
    }

    /// The node is connected, as this process; the name of the node that is the same process, if another is.
    pub(crate) fn connected(&self, conversation: &Arc<Conversation>, instance: [u8; 16]) -> Result<(), Arc<str>> {
        let mut state = self.state();
        let is_same = |(id, entry): &(&NodeId, &Entry)| {
            **id != conversation.node && entry.conversation.is_some() && entry.instance == Some(instance)
        };
        if let Some((_, other)) = state.all.iter().find(is_same) {
            return Err(other.name.clone().unwrap_or_else(|| "another".into()));
        }
        let entry = state.all.entry(conversation.node).or_default();
        entry.conversation = Some(conversation.clone());
        entry.instance = Some(instance);
        entry.trouble = None;
        Ok(())
    }

    /// What is said with the node, while it is connected.
    pub(crate) fn conversation(&self, id: NodeId) -> Option<Arc<Conversation>> {
        self.state().all.get(&id).and_then(|entry| entry.conversation.clone())
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&self, id: NodeId, trouble: &str) {
        let mut state = self.state();
        if let Some(entry) = state.all.get_mut(&id) {
            entry.conversation = None;
            entry.trouble = Some(trouble.to_owned());
        }
    }

    /// Something that keeps it from computing.
    pub(crate) fn note(&self, id: NodeId, trouble: &str) {
        if let Some(entry) = self.state().all.get_mut(&id) {
            entry.trouble = Some(trouble.to_owned());
        }
    }

    /// Puts names to numbers; what is no machine (a list that is looked up) is left out.
    pub(crate) fn describe(&self, nodes: &mut Vec<NodeStatus>) {
        let state = self.state();
        nodes.retain_mut(|node| {
            let owner = state.owners.get(&node.node).unwrap_or(&node.node);
            node.machine = state.all.get(owner).filter(|entry| !entry.has_left).and_then(|entry| entry.name.clone());
            node.machine.is_some()
        });
    }

    /// Machines that are not connected, each with the reason.
    pub(crate) fn left_out(&self) -> Vec<(Arc<str>, String)> {
        let state = self.state();
        let entries = state.all.values().filter(|entry| !entry.has_left && entry.conversation.is_none());
        entries.filter_map(|entry| Some((entry.name.clone()?, entry.trouble.clone()?))).collect()
    }

    pub(crate) fn trouble(&self, id: NodeId) -> Option<String> {
        self.state().all.get(&id)?.trouble.clone()
    }

    pub(crate) fn left(&self, id: NodeId) {
        let mut state = self.state();
        if let Some(entry) = state.all.get_mut(&id) {
            *entry = Entry {
                name: entry.name.take(),
                trouble: entry.trouble.take(),
                gpus: entry.gpus,
                has_left: true,
                ..Entry::default()
            };
        }
    }

    /// Why none of them computes, each with its reason.
    pub(crate) fn story(&self) -> Option<String> {
        let state = self.state();
        let one = |entry: &Entry| {
            let trouble = entry.trouble.as_ref()?;
            Some(format!("{}: {trouble}", entry.name.as_deref().unwrap_or("machines")))
        };
        let of = |has_left| state.all.values().filter(move |entry| entry.has_left == has_left).filter_map(one);
        let mut all: Vec<String> = of(false).collect();
        if all.is_empty() {
            all = of(true).collect();
        }
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// It has said what it has, or nothing waits for it.
    pub(crate) fn note_slots(&self, id: NodeId, slots: Option<MachineSlots>) {
        if let Some(entry) = self.state().all.get_mut(&id) {
            entry.is_hopeless = slots.is_none();
            entry.slots = slots.or(entry.slots);
        }
    }

    /// Calls may wait for it.
    pub(crate) fn note_expected(&self, id: NodeId) {
        if let Some(entry) = self.state().all.get_mut(&id) {
            entry.is_hopeless = false;
        }
    }

    /// What each machine has that calls wait for.
    pub(crate) fn facts(&self) -> Vec<MachineFacts<Arc<str>>> {
        let state = self.state();
        let all = state.all.values().filter(|entry| !entry.has_left && !entry.is_hopeless);
        let one = |entry: &Entry| MachineFacts {
            name: entry.name.clone().unwrap_or_else(|| "machines that are looked up".into()),
            slots: entry.slots,
        };
        all.map(one).collect()
    }

    /// All that have not left, by name, with what keeps them from computing.
    pub(crate) fn names(&self) -> Vec<Named> {
        let state = self.state();
        let all = state.all.iter().filter(|(_, entry)| !entry.has_left && entry.name.is_some());
        let one = |(id, entry): (&NodeId, &Entry)| {
            (*id, entry.name.clone().expect("asked above"), entry.conversation.clone(), entry.trouble.clone())
        };
        all.map(one).collect()
    }

    /// Where the commands about lanes go, one for each, in their order. To be asked under the engine's lock, so that no
    /// other connection can have come in between.
    pub(crate) fn ways(&self, commands: &Commands<SharedJob>) -> Vec<Option<Arc<Conversation>>> {
        if !self.are_any() {
            return Vec::new();
        }
        let mut state = self.state();
        let mut ways = Vec::new();
        for command in commands {
            match command {
                Command::Lanes(node, lanes) => state.lead(*node, lanes, self.first_lane),
                Command::Assign(lane, ..) | Command::Recall(lane, _) | Command::Revoke(lane, _)
                    if lane.0 >= self.first_lane =>
                {
                    ways.push(state.way(*lane, self.first_lane));
                }
                _ => {}
            }
        }
        ways
    }
}

impl State {
    fn lead(&mut self, node: NodeId, lanes: &Range<u32>, first: u32) {
        let owner = self.owners.get(&node).unwrap_or(&node);
        let conversation = self.all.get(owner).and_then(|entry| entry.conversation.clone());
        if lanes.is_empty() {
            return;
        }
        let (start, end) = ((lanes.start - first) as usize, (lanes.end - first) as usize);
        if self.lanes.len() < end {
            self.lanes.resize(end, None);
        }
        self.lanes[start..end].fill(conversation);
    }

    fn way(&self, lane: WorkerId, first: u32) -> Option<Arc<Conversation>> {
        self.lanes.get((lane.0 - first) as usize).cloned().flatten()
    }
}
