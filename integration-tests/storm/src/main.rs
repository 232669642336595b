//! A storm: every moment something is killed, stopped, cut or filled up, while calls run over processes of this machine and
//! over nodes, real ones. Each result must be that of a plain loop, each call must return, and in the end nothing may be left.
//!
//! The program starts itself again and looks from outside (`around`) at what the storm (`inside`) leaves.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: processes of slots, and faults in them, are for Linux only");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    distfun::init();
    linux::main()
}

#[cfg(target_os = "linux")]
mod around;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod dice;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod functions;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod record;

#[cfg(target_os = "linux")]
mod linux {
    use std::{env, path::PathBuf, process::ExitCode, time::Duration};

    use clap::Parser;

    use crate::{around, inside};

    /// Starts nodes and a Manager with processes, strikes them with faults, and checks every result against a plain loop.
    #[derive(Debug, Clone, Parser)]
    #[command(after_help = "Exit status: 0 if every law held, 1 if not, 2 for a wrong command line.")]
    pub(crate) struct Arguments {
        /// For so long faults strike.
        #[arg(long, default_value_t = 60)]
        pub(crate) seconds: u64,
        /// What decides which fault strikes what, and what is called. Default: the time.
        #[arg(long)]
        pub(crate) seed: Option<u64>,
        /// Milliseconds from one fault to the next.
        #[arg(long, value_name = "MS", default_value_t = 200)]
        pub(crate) fault_every: u64,
        /// Only faults whose name contains this text, as the summary shows them.
        #[arg(long, value_name = "TEXT")]
        pub(crate) only: Option<String>,
        /// The `distfun` command. Default: the one beside this program.
        #[arg(long, value_name = "FILE")]
        pub(crate) distfun: Option<PathBuf>,
    }

    impl Arguments {
        pub(crate) fn time(&self) -> Duration {
            Duration::from_secs(self.seconds)
        }
    }

    pub(crate) fn main() -> ExitCode {
        let arguments = Arguments::parse();
        match env::var_os(around::DIR) {
            Some(dir) => inside::run(&arguments, dir.as_ref()),
            None => around::run(arguments),
        }
    }
}
