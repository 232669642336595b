//! `distfun dashboard`: the page, served to browsers of this machine, while logs grow or as they grew.

mod connections;
mod reader;
mod serve;

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use distfun_core::view::{Limits, View};

use crate::{
    logs::Logs,
    page::About,
    status::{Moment, advance_to},
};

/// Shows what logs tell as a page in the browser, live: who is alive, what runs where, how far calls are, what failed and
/// what was done about it, and why nothing happens. It reads the logs only, and controls nothing.
#[derive(Args)]
#[command(after_help = "\
What ran where is drawn from DEBUG lines: `distfun::log::json().level(Level::DEBUG)`.
The page is for this machine. From another one, an ssh tunnel reaches it: ssh -L 8787:127.0.0.1:8787 HOST

Exit status: 0 if it was told to end (Ctrl-C), 1 if a log can't be read or the address can't be used, 2 for a wrong \
command line.")]
pub(crate) struct Flags {
    /// The logs: lines of JSON, as `distfun::log::json()` and `distfun node --log` write them; `-` is standard input. Several
    /// are merged by time.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Where to serve the page: an address of this machine that only this machine reaches. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8787")]
    address: SocketAddr,
    /// Show how things stood then, or replay from there with --speed: RFC 3339, as in the log, or seconds after its beginning.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Replay the logs so many times as fast as it happened.
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| (0.001..=1e6).contains(speed));
    speed.ok_or_else(|| "it is no number from 0.001 to 1000000".into())
}

pub(crate) fn run(flags: Flags) -> ExitCode {
    match serve(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::fails("dashboard", &error),
    }
}

fn serve(flags: Flags) -> Result<(), String> {
    let address = flags.address;
    if !is_loopback(address.ip()) {
        return Err(format!(
            "{address} can be reached by other machines, and the page has no password. Leave --address out, and open it \
             through an ssh tunnel: ssh -L 8787:127.0.0.1:8787 HOST, then http://127.0.0.1:8787 there"
        ));
    }
    let is_replay = flags.at.is_some() || flags.speed.is_some();
    let mut logs = Logs::open(&flags.logs, !is_replay)?;
    let mut view = View::new(limits());
    let clock = if is_replay {
        // Without a time, from the first line on.
        advance_to(&mut logs, &mut view, Some(flags.at.unwrap_or(Moment::After(0.0))))?;
        let begin = match flags.at {
            Some(Moment::At(time)) => time,
            Some(Moment::After(seconds)) => view.first().unwrap_or_default().after(seconds),
            None => view.first().or(logs.next_time()).unwrap_or_default(),
        };
        reader::Clock::replay(begin, flags.speed.unwrap_or(0.0))
    } else {
        reader::Clock::live()
    };
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is in use: take another, or a free one by --address 127.0.0.1:0")
        }
        _ => format!("{address} can't be used: {error}"),
    })?;
    let about = About {
        mode: if is_replay { "replay" } else { "live" },
        version: env!("CARGO_PKG_VERSION"),
        logs: flags.logs.iter().map(|path| path.display().to_string()).collect(),
        speed: if is_replay { flags.speed.unwrap_or(0.0) } else { 1.0 },
        share: None,
        has_ended: false,
        chunks: limits().spans,
    };
    let reader = reader::start(logs, view, clock, about)?;
    serve::serve(listener, reader)
}

/// Every page gets what is kept of calls and Managers twice a second, so that is less than elsewhere.
fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.jobs, limits.managers) = (200, 30);
    limits
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
