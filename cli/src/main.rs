//! The `distfun` command.

mod check;
mod credentials;
mod dashboard;
mod doctor;
mod logs;
mod machines;
mod node;
mod notify;
mod page;
mod picture;
mod report;
mod status;
mod top;
mod trace;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

/// Runs any function over the CPUs of this machine and others; this command looks after them.
#[derive(Parser)]
#[command(version, after_help = "Exit status: 0 if all is well, 1 if not, 2 for a wrong command line.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the settings that hold here and where each is from, and checks and times a distributed call.
    Check(check::Flags),
    /// Looks at other machines.
    #[command(subcommand)]
    Machines(machines::Command),
    Node(node::Flags),
    Init(credentials::Init),
    Token(credentials::Token),
    Join(credentials::Join),
    Revoke(credentials::Revoke),
    Doctor(doctor::Flags),
    Status(status::Status),
    Explain(status::Explain),
    Top(top::Flags),
    Trace(trace::Flags),
    Dashboard(dashboard::Flags),
    Report(report::Flags),
}

fn main() -> ExitCode {
    distfun::init();
    match Arguments::parse().command {
        Command::Check(flags) => check::run(flags),
        Command::Machines(command) => machines::run(command),
        Command::Node(flags) => node::run(flags),
        Command::Init(flags) => credentials::init(flags),
        Command::Token(flags) => credentials::token(flags),
        Command::Join(flags) => credentials::join(flags),
        Command::Revoke(flags) => credentials::revoke(flags),
        Command::Doctor(flags) => doctor::run(flags),
        Command::Status(flags) => status::status(flags),
        Command::Explain(flags) => status::explain(flags),
        Command::Top(flags) => top::run(flags),
        Command::Trace(flags) => trace::run(flags),
        Command::Dashboard(flags) => dashboard::run(flags),
        Command::Report(flags) => report::run(flags),
    }
}

/// Where nobody reads it, as in `| head`, that is all right.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("distfun: can't write to stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fails(command: &str, error: &str) -> ExitCode {
    eprintln!("distfun {command}: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn assert_says_exit_status(command: &mut clap::Command) {
        if command.has_subcommands() {
            return command.get_subcommands_mut().for_each(assert_says_exit_status);
        }
        let help = command.render_long_help().to_string();
        assert!(help.contains("Exit status: 0 "), "{}: {help}", command.get_name());
    }

    #[test]
    fn every_command_says_what_its_exit_status_means() {
        assert_says_exit_status(&mut Arguments::command());
    }
}
