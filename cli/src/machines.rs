//! `distfun machines`: what there is to know about other machines.

mod json;
mod table;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use distfun::{
    Error, MachineError, MachinesError, Manager, Overrides,
    machines::{MachineReport, check, check_settings},
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Asks machines whether they can be used, all at once, and shows a row for each.
    ///
    /// A machine can be used if a node is there (`distfun node`, or a program that serves functions) and this user is known to
    /// it: on this machine by the same cookie, on others by certificates of one cluster (`distfun init`). Which functions it
    /// offers does not matter here.
    #[command(after_help = "\
Machines are written as in a program: bob, bob:2719, [::1]:2718, ssh:bob, n[01-08], dns:NAME, file:PATH, env:NAME, unix:PATH.

Exit status: 0 if all can be used, 1 if some can't, 2 for a wrong command line or no machines at all.")]
    Check(Check),
}

#[derive(Args)]
pub(crate) struct Check {
    /// Machines to ask; without any, those of DISTFUN_MACHINES or distfun.toml, and their named_pipe.
    #[arg(value_name = "MACHINE")]
    machines: Vec<String>,
    /// Port of machines that are named without one [default: that of the settings, 2718].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Print an object of JSON per line and machine.
    #[arg(long)]
    json: bool,
}

/// Of a command line that asks for what can't be.
const BAD_USAGE: u8 = 2;

pub(crate) fn run(Command::Check(arguments): Command) -> ExitCode {
    let reports = match ask(&arguments) {
        Ok(reports) if reports.is_empty() => {
            eprintln!(
                "distfun: there are no machines to check; name some (distfun machines check bob ann:2719), \
                 or set DISTFUN_MACHINES, or machines in distfun.toml"
            );
            return BAD_USAGE.into();
        }
        Ok(reports) => reports,
        Err(error) => {
            eprintln!("distfun: {error}");
            return if is_bad_usage(&error) && !arguments.machines.is_empty() {
                BAD_USAGE.into()
            } else {
                ExitCode::FAILURE
            };
        }
    };
    let text = if arguments.json { json::lines(&reports) } else { table::of(&reports, table::terminal_width()) };
    if let Err(error) = io::stdout().write_all(text.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("distfun: can't write to stdout: {error}");
        return ExitCode::FAILURE;
    }
    if reports.iter().all(MachineReport::is_usable) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask(arguments: &Check) -> Result<Vec<MachineReport>, Error> {
    let flags = Overrides { port: arguments.port, ..Overrides::default() };
    let settings = Manager::builder().flags(flags).settings()?;
    if arguments.machines.is_empty() {
        return Ok(check_settings(&settings)?);
    }
    Ok(check(&arguments.machines, settings.port)?)
}

/// Whether a machine is written wrongly, as against one that can't be looked up.
fn is_bad_usage(error: &Error) -> bool {
    let Error::Machine(MachineError::Malformed(error)) = error else { return false };
    !matches!(error, MachinesError::Unavailable { .. })
}
