//! The program that a Manager brings to a node that has no functions of its own: asked for once, checked, started.

use std::{fs::File, sync::Arc, time::Duration};

use distfun_net::message::{Call, Digest, Message, Program};

use super::{
    guest::Guest,
    needs::Unfit,
    program::{check_facts, prepare},
    ship::{Hosts, ShippedCall, name_of},
    visit::Work,
};

/// What is there of a Manager's program.
#[derive(Default)]
pub(super) enum Brought {
    /// The Manager has not said what it is.
    #[default]
    Nothing,
    /// It is on its way, or being started.
    Coming(Program),
    There(Arc<Hosts>),
    /// It can't run here.
    Refused,
}

/// Why a program does not run here.
pub(super) struct Refused {
    pub(super) reason: String,
    /// It may run later.
    pub(super) is_passing: bool,
}

impl Refused {
    /// It may run later.
    pub(super) fn for_now(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_passing: true }
    }

    pub(super) fn into_message(self) -> Message {
        match self {
            Self { reason, is_passing: false } => Message::ProgramRefused { reason },
            Self { reason, is_passing: true } => Message::ProgramHindered { reason },
        }
    }
}

/// What its file says does not change.
impl From<Unfit> for Refused {
    fn from(reason: Unfit) -> Self {
        Self { reason, is_passing: false }
    }
}

impl Brought {
    pub(super) fn leave(&self) {
        if let Self::There(hosts) = self {
            hosts.leave();
        }
    }
}

impl Guest {
    /// The Manager says what its program is.
    pub(super) fn program(self: &Arc<Self>, program: Program) {
        if !self.serving.runs_programs || !matches!(self.table().program, Brought::Nothing) {
            return self.link.close("a program came that was not expected");
        }
        let digest = program.digest;
        let refusal = match self.serving.may_run_programs {
            false => {
                Err("it runs no programs that others bring; start it with --allow-ship to let those who have its \
                          cookie run any program as its user"
                    .to_owned())
            }
            true => check_facts(&program),
        };
        self.table().program = Brought::Coming(program);
        if let Err(reason) = refusal {
            return self.program_refused(reason.into());
        }
        let guest = self.clone();
        self.luggage.look_for_program(digest, move |arrival| guest.luggage_news(digest, arrival));
    }

    pub(super) fn is_program(&self, digest: &Digest) -> bool {
        matches!(&self.table().program, Brought::Coming(program) if program.digest == *digest)
    }

    /// It is here, and its hash is right.
    pub(super) fn program_came(self: &Arc<Self>, digest: Digest, file: File) {
        let facts = match &self.table().program {
            Brought::Coming(program) if program.digest == digest => program.clone(),
            _ => return,
        };
        let guest = self.clone();
        // On a thread of its own: a program that does not start is waited for.
        let (max_memory, gpus) = (self.serving.max_memory, self.serving.pool.gpu_slots());
        let start = move || match prepare(file, &facts, max_memory).and_then(|program| Hosts::start(program, gpus)) {
            Ok(hosts) => guest.program_starts(digest, hosts),
            Err(refused) => guest.program_refused(refused),
        };
        if std::thread::Builder::new().name("distfun-program".into()).spawn(start).is_err() {
            self.program_refused(Refused::for_now("there is no thread to start the program"));
        }
    }

    fn program_starts(self: &Arc<Self>, digest: Digest, hosts: Arc<Hosts>) {
        let mut table = self.table();
        if table.has_left() {
            drop(table);
            return hosts.leave();
        }
        table.program = Brought::There(hosts.clone());
        for known in table.calls.values_mut().flatten() {
            known.work = Some(self.work_of(&known.call, hosts.clone()));
        }
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        self.send(&Message::ProgramReady { digest });
        waiting.into_iter().for_each(|waiting| self.chunk(waiting));
    }

    pub(super) fn program_refused(&self, refused: Refused) {
        self.table().program = Brought::Refused;
        tracing::warn!(manager = self.name, reason = refused.reason, "a program was refused");
        self.send(&refused.into_message());
    }

    /// None while the program is not there.
    pub(super) fn shipped(&self, call: &Call) -> Option<Work> {
        let hosts = match &self.table().program {
            Brought::There(hosts) => hosts.clone(),
            _ => return None,
        };
        Some(self.work_of(call, hosts))
    }

    fn work_of(&self, call: &Call, hosts: Arc<Hosts>) -> Work {
        Work::Shipped(Arc::new(ShippedCall {
            number: call.call,
            label: name_of(&call.function),
            function: call.function.clone(),
            site: call.site.clone(),
            gpu_form: call.gpu.as_ref().map(|form| (form.function.clone(), form.site.clone())),
            seed: call.seed,
            is_lists: call.is_lists,
            item_timeout: call.item_timeout_us.map(Duration::from_micros),
            hosts,
            link: self.link.clone(),
            node: self.serving.name.clone(),
            manager: self.name.clone(),
        }))
    }
}
