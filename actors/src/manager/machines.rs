//! The machines of a Manager: looked up, connected, added and removed while it runs.

use std::thread;

use actix::prelude::*;
use distfun_core::{
    engine::NodeEvent,
    failure::Ending,
    ids::NodeId,
    machines::{Machine, MachineList},
};
use distfun_net::resolve::System as Resolver;
use tokio::sync::oneshot;

use super::Manager;
use crate::{
    compute::catch::contain,
    messages::{AddMachine, MachineEnd, MachineError, RemoveMachine, internal::Connect},
    remote_node::{Leave, RemoteNode},
};

/// Connections to other machines, and the thread they live on.
#[derive(Default)]
pub(super) struct Remote {
    arbiter: Option<Arbiter>,
    nodes: Vec<(NodeId, Addr<RemoteNode>)>,
    /// Nodes that have been told of the end and have not answered.
    leaving: usize,
}

impl Remote {
    pub(super) fn has_left(&self) -> bool {
        self.leaving == 0
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        if let Some(arbiter) = self.arbiter.take() {
            arbiter.stop();
            contain(|| drop(arbiter.join()));
        }
    }
}

impl Manager {
    /// Looks the machines up, which may take a while, and connects them.
    pub(super) fn connect_machines(&mut self, context: &mut Context<Self>) {
        let settings = &self.pool.settings;
        if settings.machines.is_empty() && !settings.named_pipe.is_on() {
            return;
        }
        let placeholder = NodeId(0); // the pool has made it
        let (list, local) = (settings.machines.clone(), settings.named_pipe.machine());
        let address = context.address();
        let body = move || {
            let (mut machines, trouble) = match list.expand(&mut Resolver) {
                Ok(machines) => (machines, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            machines.extend(local);
            address.do_send(Connect { machines, placeholder, trouble });
        };
        if let Err(error) = thread::Builder::new().name("distfun-resolve".into()).spawn(body) {
            let trouble = Some(format!("no thread to look machines up: {error}"));
            context.notify(Connect { machines: Vec::new(), placeholder, trouble });
        }
    }

    fn connect(&mut self, machine: Machine) -> Result<(), MachineError> {
        if self.remote.arbiter.is_none() {
            // A panic tells that there was no thread.
            let arbiter = std::panic::catch_unwind(Arbiter::new)
                .map_err(|_| MachineError::Thread("the system gave none".into()))?;
            let _ = self.pool.nodes.arbiter.set(arbiter.handle());
            self.remote.arbiter = Some(arbiter);
        }
        let id = self.pool.nodes.add(Some(machine.name.as_str().into()));
        if let Some(node) = RemoteNode::add(&self.pool, machine, id) {
            self.remote.nodes.push((id, node));
        }
        Ok(())
    }

    fn add(&mut self, machines: Vec<Machine>) -> Result<usize, MachineError> {
        if let Some(ending) = self.pool.stopped() {
            return Err(MachineError::Ended(ending));
        }
        if let Some(twice) = machines.iter().find(|machine| self.pool.nodes.find(machine.name.as_str()).is_some()) {
            return Err(MachineError::Twice { machine: twice.name.to_string() });
        }
        let count = machines.len();
        machines.into_iter().try_for_each(|machine| self.connect(machine))?;
        Ok(count)
    }

    /// Parts from all machines; at `shutdown` their nodes are asked to stop.
    pub(super) fn leave_machines(&mut self, context: &mut Context<Self>) {
        let shuts_down = self.pool.stopped() == Some(Ending::ShutDown);
        let reason = "the Manager has ended";
        for (_, node) in std::mem::take(&mut self.remote.nodes) {
            self.remote.leaving += 1;
            let leave = node.send(Leave { shuts_down, reason });
            context.spawn(leave.into_actor(self).map(|end, manager, context| {
                manager.remote.leaving -= 1;
                if let Ok(end) = end {
                    manager.note_end(end);
                }
                manager.look_if_gone(context);
            }));
        }
    }

    fn note_end(&mut self, end: MachineEnd) {
        self.pool.machine_ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(end);
    }
}

impl Handler<Connect> for Manager {
    type Result = ();

    fn handle(&mut self, message: Connect, _: &mut Context<Self>) {
        let Connect { machines, placeholder, mut trouble } = message;
        if self.pool.stopped().is_some() {
            return;
        }
        for machine in machines {
            if let Err(error) = self.connect(machine) {
                trouble = Some(error.to_string());
            }
        }
        if let Some(trouble) = trouble {
            tracing::error!(trouble, "machines can't be used");
            self.pool.nodes.note(placeholder, &trouble);
        }
        self.pool.node(placeholder, NodeEvent::Hopeless);
    }
}

impl Handler<AddMachine> for Manager {
    type Result = ResponseActFuture<Self, Result<usize, MachineError>>;

    fn handle(&mut self, AddMachine(entry): AddMachine, _: &mut Context<Self>) -> Self::Result {
        let list = MachineList::parse(&[entry], self.pool.settings.port);
        let (sender, receiver) = oneshot::channel();
        // A name may take its time to be looked up.
        let body = move || drop(sender.send(list.and_then(|list| list.expand(&mut Resolver))));
        let started = thread::Builder::new().name("distfun-resolve".into()).spawn(body);
        let machines = async move {
            started.map_err(|error| MachineError::Thread(error.to_string()))?;
            let machines = receiver.await.map_err(|_| MachineError::Thread("it has ended".into()))?;
            Ok::<_, MachineError>(machines?)
        };
        Box::pin(machines.into_actor(self).map(|machines, manager, _| manager.add(machines?)))
    }
}

impl Handler<RemoveMachine> for Manager {
    type Result = ResponseFuture<Result<(), MachineError>>;

    fn handle(&mut self, RemoveMachine(machine): RemoveMachine, _: &mut Context<Self>) -> Self::Result {
        let names = self.pool.nodes.names();
        let found = names.iter().find(|(_, name, ..)| **name == *machine).map(|(id, ..)| *id);
        let at = found.and_then(|found| self.remote.nodes.iter().position(|(id, _)| *id == found));
        let Some(at) = at else {
            let known: Vec<&str> = names.iter().map(|(_, name, ..)| &**name).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Box::pin(async move { Err(MachineError::Unknown { machine, known }) });
        };
        let (id, node) = self.remote.nodes.swap_remove(at);
        let pool = self.pool.clone();
        Box::pin(async move {
            let _ = node.send(Leave { shuts_down: false, reason: "the Manager needs it no longer" }).await;
            pool.nodes.left(id);
            Ok(())
        })
    }
}
