//! Looks at machines before work goes there: who answers, what it is built for, how far away it is.
//!
//! [`check`] asks as a Manager would, and parts again before any work could flow, so no function need be in common.
//!
//! ```
//! use distfun::{function, machines, node};
//!
//! fn square(x: f64) -> f64 {
//!     x * x
//! }
//!
//! # fn main() -> Result<(), distfun::Error> {
//! let node = node::start(node::config().listen("127.0.0.1:0").slots(2).offer(function!(square)))?;
//! let report = &machines::check(&[node.address()], 2718)?[0];
//! // A program that uses itself as another machine would gain nothing, and is told so.
//! assert!(report.node.as_ref().unwrap_err().text.starts_with("it is served by this very program"));
//! # Ok(()) }
//! ```

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use distfun_core::{
    gpu::GpuInfo,
    machines::{Address, Machine, MachineList},
    options::Settings,
};
use distfun_net::{
    link::Link,
    message::{Message, Welcome},
    resolve::System as Resolver,
    session::SessionLimits,
    transport::local,
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    messages::MachineError,
    remote_node::{Met, Trouble, meet, with_source},
};

/// What one machine may take in all: a little more than a handshake, whose own words about its end say more.
const PATIENCE: Duration = Duration::from_millis(5500);

/// How long a name may take to be looked up, for what is shown.
const LOOK_UP_TIME: Duration = Duration::from_secs(3);

/// The round trip is smoothed over what fits into this time, one question every [`ASK_EVERY`]; a node that is further
/// away is waited for.
const LISTEN: Duration = Duration::from_millis(150);
const ASK_EVERY: Duration = Duration::from_millis(10);

/// How long our goodbye may take.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// Machines that are asked at once; each takes two threads that look its name up, and a socket.
const MOST_AT_ONCE: usize = 200;

/// What came of asking one machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MachineReport {
    /// As the list names it.
    pub machine: String,
    /// Every address of its name, the one that answered first; or its local socket. Empty if the name is not known.
    pub addresses: Vec<String>,
    /// At most this many of its slots are to be used, as in `bob*4`.
    pub slot_limit: Option<u32>,
    /// The node that answered, or why a Manager could not use it.
    pub node: Result<NodeReport, MachineProblem>,
}

impl MachineReport {
    /// Whether a Manager would give it work now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.node.as_ref().is_ok_and(|node| !node.is_draining)
    }
}

/// A node, as it has introduced itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeReport {
    /// As it calls itself.
    pub name: String,
    /// Version of distfun that it is built with.
    pub version: String,
    /// What it is built for: architecture and system.
    pub target: String,
    /// Chunks that it computes at once on CPUs.
    pub slots: u32,
    /// Its GPUs, each of which computes one chunk at once too. A node that is built without the features that find GPUs has
    /// none.
    pub gpus: Vec<GpuInfo>,
    /// How many functions it offers.
    pub functions: u32,
    /// It is about to stop, and takes no more work.
    pub is_draining: bool,
    /// From a question to its answer, over the open connection.
    pub round_trip: Duration,
    instance: [u8; 16],
}

/// Why a machine can't be used. Shown as a text that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineProblem {
    /// For people.
    pub text: String,
    /// In one word, as `error.type` has it in the log: `unreachable`, `auth`, `protocol_version`, `not_distfun`,
    /// `identity`.
    pub kind: &'static str,
}

impl fmt::Display for MachineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Trouble> for MachineProblem {
    fn from(Trouble { text, kind, .. }: Trouble) -> Self {
        Self { text, kind }
    }
}

/// Asks all machines of a list, written as for [`machines`](crate::DistributeBuilder::machines), at once, 200 at a time, and waits for the answers: at most 5.5 s for each, beside the time
/// that name servers take for `dns:` and `srv:` entries. The reports are in the order of the list.
///
/// # Errors
/// An entry is wrong, something that it names can't be looked up, or there is no thread. A machine that does not answer is no error.
pub fn check<S: AsRef<str>>(machines: &[S], port: u16) -> Result<Vec<MachineReport>, MachineError> {
    ask_all(MachineList::parse(machines, port)?.expand(&mut Resolver)?)
}

/// The same for all machines that a program with these settings uses, its local socket (`named_pipe`) included.
///
/// # Errors
/// As for [`check`].
pub fn check_settings(settings: &Settings) -> Result<Vec<MachineReport>, MachineError> {
    let mut machines = settings.machines.expand(&mut Resolver)?;
    machines.extend(settings.named_pipe.machine());
    ask_all(machines)
}

/// On a thread of its own, because the caller's may be in a runtime.
fn ask_all(machines: Vec<Machine>) -> Result<Vec<MachineReport>, MachineError> {
    let no_thread = |error: std::io::Error| MachineError::Thread(error.to_string());
    let asking = thread::Builder::new().name("distfun-check".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let reports = runtime.block_on(ask_each(machines));
        // A name server that does not answer is not waited for.
        runtime.shutdown_background();
        Ok(reports)
    });
    let asked = asking.map_err(no_thread)?.join().map_err(|_| MachineError::Thread("it panicked".into()))?;
    let mut reports = asked.map_err(no_thread)?;
    refuse_twins(&mut reports);
    Ok(reports)
}

async fn ask_each(machines: Vec<Machine>) -> Vec<MachineReport> {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let mut asking = JoinSet::new();
    for (index, machine) in machines.into_iter().enumerate() {
        let places = places.clone();
        asking.spawn(async move {
            let _place = places.acquire().await;
            (index, ask(machine).await)
        });
    }
    let mut reports: Vec<(usize, MachineReport)> = asking.join_all().await;
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

async fn ask(machine: Machine) -> MachineReport {
    let (mut addresses, answer) = tokio::join!(addresses(&machine.address), timeout(PATIENCE, talk(&machine.address)));
    let answer = answer.unwrap_or_else(|_| Err(Trouble::passing(format!("no answer within {PATIENCE:?}"))));
    let node = answer.map(|(peer, node)| {
        // Sorted out of them, wherever it is; a name server may have changed its mind in between.
        if matches!(machine.address, Address::Tcp { .. }) {
            addresses.retain(|address| *address != peer);
            addresses.insert(0, peer);
        }
        node
    });
    MachineReport {
        machine: machine.name.to_string(),
        addresses,
        slot_limit: machine.slots,
        node: node.map_err(Into::into),
    }
}

/// What the name of a machine stands for.
async fn addresses(address: &Address) -> Vec<String> {
    match address {
        Address::Tcp { host, port } => {
            let found = timeout(LOOK_UP_TIME, tokio::net::lookup_host((host.as_str(), *port))).await;
            let found = found.ok().and_then(Result::ok).into_iter().flatten();
            let mut shown: Vec<String> = Vec::new();
            for address in found.map(|address: SocketAddr| address.to_string()) {
                if !shown.contains(&address) {
                    shown.push(address);
                }
            }
            shown
        }
        Address::Local { name } => local::path_of(name).map(|path| path.display().to_string()).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Meets a node, hears who it is, measures the way there and says goodbye.
async fn talk(address: &Address) -> Result<(String, NodeReport), Trouble> {
    let limits = SessionLimits { heartbeat: ASK_EVERY, ..SessionLimits::default() };
    let Met { link, .. } = meet(address, limits).await?;
    let (sender, welcome) = oneshot::channel();
    let mut sender = Some(sender);
    let mut running = pin!(link.clone().run(move |incoming| {
        if let Message::Welcome(welcome) = incoming.message
            && let Some(sender) = sender.take()
        {
            let _ = sender.send(welcome); // whoever asked may have run out of patience
        }
    }));
    let heard = tokio::select! {
        end = &mut running => {
            return Err(Trouble::passing(format!("it did not introduce itself: {}", with_source(&end))));
        }
        heard = hear(&link, welcome) => heard,
    };
    link.close("it was only asked who it is");
    let _ = timeout(GOODBYE_TIME, running).await;
    Ok((link.peer(), heard?))
}

async fn hear(link: &Link, welcome: oneshot::Receiver<Welcome>) -> Result<NodeReport, Trouble> {
    let welcome = welcome.await.map_err(|_| Trouble::passing("it did not introduce itself"))?;
    if welcome.instance == crate::instance::id() {
        return Err(Trouble::is_this_program());
    }
    let since = Instant::now();
    let round_trip = loop {
        sleep(ASK_EVERY).await;
        if let Some(round_trip) = link.round_trip().filter(|_| since.elapsed() >= LISTEN) {
            break round_trip;
        }
    };
    let Welcome { name, instance, version, target, slots, functions, is_draining, gpus, .. } = welcome;
    Ok(NodeReport { name, version, target, slots, gpus, functions, is_draining, round_trip, instance })
}

/// A Manager uses a node once, whatever names lead to it.
fn refuse_twins(reports: &mut [MachineReport]) {
    let mut seen: HashMap<[u8; 16], String> = HashMap::new();
    for report in reports {
        let Ok(node) = &report.node else { continue };
        if let Some(other) = seen.get(&node.instance) {
            report.node = Err(Trouble::is_twice(other).into());
        } else {
            seen.insert(node.instance, report.machine.clone());
        }
    }
}
