//! `distfun report`: the page of the dashboard as a file, for afterwards.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use distfun_core::view::Limits;

use crate::{
    page::{About, document},
    picture::Picture,
    status::{Moment, is_no_log, read},
};

/// Writes a page of HTML that shows what a log tells, or several: one file, which needs no network and no server.
///
/// What ran where is drawn from DEBUG lines: `distfun::log::json().level(Level::DEBUG)`.
#[derive(Args)]
#[command(after_help = "\
Exit status: 0 if it was written, 1 if not, as where a log can't be read or has no lines, 2 for a wrong command line.")]
pub(crate) struct Flags {
    /// The logs; `-` is standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Where to write it; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "run.html")]
    output: PathBuf,
    /// Chunks that are kept, the latest.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    chunks: usize,
    /// As things stood then: RFC 3339, as in the log, or seconds after its beginning.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

pub(crate) fn run(flags: Flags) -> ExitCode {
    let mut limits = Limits::default();
    limits.spans = flags.chunks;
    let is_free = is_no_log(&flags.output, &flags.logs);
    let written = is_free.and_then(|()| read(&flags.logs, flags.at, limits)).and_then(|view| {
        let about = About {
            mode: "report",
            version: env!("CARGO_PKG_VERSION"),
            logs: flags.logs.iter().map(|path| path.display().to_string()).collect(),
            speed: 0.0,
            share: None,
            has_ended: true,
            chunks: flags.chunks.max(1),
        };
        let document = document(&about, Some(&Picture::of(&view, view.now(), 0, 0))).expect("a picture is JSON");
        let failed = |error: io::Error| format!("{} can't be written: {error}", flags.output.display());
        write_to(&flags.output, document.html.as_bytes()).map_err(failed)?;
        Ok((view.spans().len(), view.losses().spans_cut))
    });
    match written {
        Ok((count, cut)) => {
            let cut = if cut == 0 { String::new() } else { format!("; {cut} earlier ones were left out (--chunks)") };
            eprintln!("{count} chunks in {}, for a browser{cut}", flags.output.display());
            ExitCode::SUCCESS
        }
        Err(error) => crate::fails("report", &error),
    }
}

fn write_to(path: &Path, html: &[u8]) -> io::Result<()> {
    if path == Path::new("-") {
        return io::stdout().lock().write_all(html);
    }
    File::create(path)?.write_all(html)
}
