//! What befalls nodes, processes and connections, and how it ends.

use std::time::{Duration, Instant};

use distfun_integration_tests::proxy::{DOWN, Faults, UP};
use rustix::process::Signal;

use crate::{dice::Dice, node::Node, processes::Process, record::Record};

/// What can befall. Some are more frequent than others.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillHost,
    StopHost,
    KillNode,
    LoseNode,
    StopNode,
    DrainNode,
    Reset,
    ResetLater,
    BlackHole,
    HoleUp,
    HoleDown,
    Slice,
    Delay,
    Throttle,
    HalfClose,
    DiskFull,
}

const ALL: [(Fault, &str, usize); 16] = [
    (Fault::KillHost, "process of a slot killed", 5),
    (Fault::StopHost, "process of a slot stopped", 3),
    (Fault::KillNode, "node killed and started again", 2),
    (Fault::LoseNode, "node killed and started again without its cache", 1),
    (Fault::StopNode, "node stopped for a while", 1),
    (Fault::DrainNode, "node told to end and started again", 1),
    (Fault::Reset, "connections reset", 2),
    (Fault::ResetLater, "connections reset in the midst of what they carry", 2),
    (Fault::BlackHole, "black hole, both ways", 1),
    (Fault::HoleUp, "black hole, towards the node", 1),
    (Fault::HoleDown, "black hole, from the node", 1),
    (Fault::Slice, "bytes one by one", 1),
    (Fault::Delay, "delay", 1),
    (Fault::Throttle, "slow link", 1),
    (Fault::HalfClose, "half-closed connection", 1),
    (Fault::DiskFull, "disk full", 2),
];

/// The end of a fault.
enum Cure {
    Continue(Process),
    HealLink(usize),
    FreeDisk(usize),
}

pub(crate) struct Storm<'a> {
    dice: Dice,
    only: &'a str,
    record: &'a Record,
    nodes: &'a mut [Node],
    cures: Vec<(Instant, Cure)>,
}

impl<'a> Storm<'a> {
    /// With nothing broken so far, and those faults that have `only` in their names.
    pub(crate) fn new(seed: u64, only: &'a str, record: &'a Record, nodes: &'a mut [Node]) -> Self {
        Self { dice: Dice::new(seed, 0), only, record, nodes, cures: Vec::new() }
    }

    /// One fault, of those that can strike now.
    pub(crate) fn strike(&mut self) {
        let of = |fault: &(Fault, &'static str, usize)| fault.1.contains(self.only);
        // Without any there is calm.
        let urn: Vec<_> = ALL.iter().filter(|fault| of(fault)).flat_map(|fault| vec![*fault; fault.2]).collect();
        for _ in 0..if urn.is_empty() { 0 } else { 20 } {
            let (fault, name, _) = *self.dice.pick(&urn);
            let number = self.dice.within(0..self.nodes.len());
            if self.befalls(fault, number) {
                return self.record.fault(name);
            }
        }
    }

    /// Says whether it could.
    fn befalls(&mut self, fault: Fault, number: usize) -> bool {
        let rest = self.dice.time(50..800);
        let while_long = self.dice.time(200..5000);
        let while_short = self.dice.time(200..2500);
        let node = &mut self.nodes[number];
        let both = [UP, DOWN];
        match fault {
            Fault::KillHost => return self.strike_host(Signal::KILL),
            Fault::StopHost => return self.strike_host(Signal::STOP),
            Fault::KillNode | Fault::LoseNode => {
                if node.process().is_none() {
                    return false;
                }
                node.kill(rest, matches!(fault, Fault::LoseNode));
            }
            Fault::StopNode => {
                let Some(process) = node.process().filter(|process| process.signal(Signal::STOP)) else { return false };
                self.cure(while_long, Cure::Continue(process));
            }
            Fault::DrainNode => {
                if !node.serves() {
                    return false;
                }
                node.drain(rest);
            }
            Fault::Reset => node.proxy.cut(),
            Fault::ResetLater => {
                let bytes = self.dice.number() % 300_000;
                self.disturb(number, &both, while_short, Faults { cut_after: Some(bytes), ..Faults::default() });
            }
            Fault::BlackHole | Fault::HoleUp | Fault::HoleDown => {
                let hole = Faults { is_black_hole: true, ..Faults::default() };
                let ways = match fault {
                    Fault::HoleUp => &both[UP..=UP],
                    Fault::HoleDown => &both[DOWN..=DOWN],
                    _ => &both,
                };
                self.disturb(number, ways, while_long, hole);
            }
            Fault::Slice => {
                self.disturb(number, &both, while_short, Faults { slice: Some(1), ..Faults::default() });
            }
            Fault::Delay => {
                let delay = self.dice.time(1..100);
                self.disturb(number, &both, while_short, Faults { delay, ..Faults::default() });
            }
            Fault::Throttle => {
                let rate = 50_000 + self.dice.number() % 1_000_000;
                let slow = Faults { rate: Some(rate), slice: Some(4096), ..Faults::default() };
                self.disturb(number, &both, while_short, slow);
            }
            Fault::HalfClose => {
                let half = Faults { half_close_after: Some(self.dice.number() % 100_000), ..Faults::default() };
                let way = self.dice.within(0..2);
                self.disturb(number, &both[way..=way], while_short, half);
            }
            Fault::DiskFull => {
                if node.process().is_none() {
                    return false;
                }
                let bytes = *self.dice.pick(&[0, 1 << 10, 64 << 10, 1 << 20]);
                node.limit_files(Some(bytes));
                self.cure(while_long, Cure::FreeDisk(number));
            }
        }
        true
    }

    /// Strikes a process of a slot, here or at a node. One that is stopped goes on later, or never: then it is replaced.
    fn strike_host(&mut self, signal: Signal) -> bool {
        let ours = Process::of(std::process::id()).map_or_else(Vec::new, |process| process.hosts());
        let hosts: Vec<_> = ours.into_iter().chain(self.nodes.iter().flat_map(Node::hosts)).collect();
        if hosts.is_empty() {
            return false;
        }
        let host = *self.dice.pick(&hosts);
        self.record.struck(signal == Signal::STOP);
        if signal == Signal::STOP && self.dice.chance(0.5) {
            let later = self.dice.time(100..5000);
            self.cure(later, Cure::Continue(host));
        }
        host.signal(signal)
    }

    fn disturb(&mut self, number: usize, ways: &[usize], time: Duration, faults: Faults) {
        for way in ways {
            self.nodes[number].proxy.set(*way, faults.clone());
        }
        self.cure(time, Cure::HealLink(number));
    }

    fn cure(&mut self, after: Duration, cure: Cure) {
        self.cures.push((Instant::now() + after, cure));
    }

    /// Ends what has lasted long enough, and starts nodes again.
    ///
    /// # Errors
    /// A node is not what it is to be.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        let now = Instant::now();
        for cure in self.cures.extract_if(.., |(at, _)| *at <= now) {
            match cure.1 {
                Cure::Continue(process) => {
                    process.signal(Signal::CONT);
                }
                Cure::HealLink(number) => self.nodes[number].proxy.black_hole(false),
                Cure::FreeDisk(number) => self.nodes[number].limit_files(None),
            }
        }
        self.nodes.iter_mut().try_for_each(Node::look)
    }

    /// Ends everything. Processes of slots that are to be stopped for ever stay so.
    pub(crate) fn calm(&mut self) {
        for (_, cure) in self.cures.drain(..) {
            if let Cure::Continue(process) = cure {
                process.signal(Signal::CONT);
            }
        }
        self.nodes.iter_mut().for_each(Node::calm);
    }
}
