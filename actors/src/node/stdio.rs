//! One Manager by standard input and output, as ssh gives them.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use distfun_net::{
    handshake::{Side, Trust, as_node},
    transport::local,
};

use super::{NodeConfig, NodeError, entrance::host_guest, listen::prepare};
use crate::credentials::Own;

/// Said first, behind whatever a login says.
pub(crate) const STDIO_GREETING: &[u8] = b"distfun-stdio 1\n";

/// Serves one Manager by standard input and output, until it leaves: what `distfun node --stdio` does, which a Manager starts
/// by ssh for a machine `ssh:HOST`. Who can write there is believed. For programs that Managers bring.
///
/// # Errors
/// The node could not start, or what comes is no Manager.
pub fn serve_stdio(config: NodeConfig) -> Result<(), NodeError> {
    let settings = config.settings()?;
    let credentials = Own::of(Side::Node, config.credentials.clone());
    let (serving, slots) = prepare(config.for_programs(), settings, false, true, credentials)?;
    let (ours, theirs) = UnixStream::pair().map_err(NodeError::Thread)?;
    let (from, to) = (theirs.try_clone().map_err(NodeError::Thread)?, theirs);
    // Threads of their own, which end with the process: reading standard input can't be given up.
    let reads = move || {
        let _ = carry(io::stdin().lock(), &to);
        let _ = to.shutdown(Shutdown::Write);
    };
    let writes = move || {
        let mut stdout = io::stdout().lock();
        let greets = stdout.write_all(STDIO_GREETING).and_then(|()| stdout.flush());
        let _ = greets.and_then(|()| carry(&from, stdout));
        let _ = from.shutdown(Shutdown::Both);
    };
    thread::Builder::new().name("distfun-stdin".into()).spawn(reads).map_err(NodeError::Thread)?;
    let writing = thread::Builder::new().name("distfun-stdout".into()).spawn(writes).map_err(NodeError::Thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NodeError::Thread)?;
    let end = runtime.block_on(async {
        let wire = local::of_pair(ours, "standard input".into())?;
        let (wire, manager) =
            as_node(wire, &Trust::PeerChecked, std::future::pending()).await.map_err(io::Error::other)?;
        host_guest(serving, wire, manager.program, None).await;
        Ok(())
    });
    drop(slots);
    drop(runtime);
    let _ = writing.join(); // the last words
    end.map_err(NodeError::Thread)
}

/// Copies until one side ends, each piece at once.
fn carry(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
