//! Machines that are reached by ssh: `distfun node --stdio` is started there for the time of the connection, which goes through
//! ssh's standard input and output.

use std::{
    env,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use distfun_core::options::SSH_VARIABLE;

use super::connect::Trouble;
use crate::node::STDIO_GREETING;

/// How long ssh may take until the node there speaks: names, keys and a login are in it.
const LOGIN_TIME: Duration = Duration::from_secs(20);

/// What a shell there may say before.
const MAX_BANNER: usize = 64 << 10;

/// How much of what ssh says on stderr is kept.
const MAX_WORDS: usize = 2048;

/// What runs there; a login without a terminal seldom has these directories in its path.
const COMMAND: &str = "PATH=\"$PATH:$HOME/.cargo/bin:$HOME/.local/bin:/usr/local/bin\" exec distfun node --stdio";

/// A running ssh. Dropping it ends it, and the node there.
pub(crate) struct Tunnel {
    child: Child,
    words: Arc<Mutex<Vec<u8>>>,
}

impl Tunnel {
    /// Starts ssh to `destination`, and waits until a node speaks there. Blocks.
    ///
    /// # Errors
    /// There is no ssh, it can't log in, or there is no distfun.
    pub(crate) fn start(destination: &str) -> Result<(Self, UnixStream), Trouble> {
        let command = env::var(SSH_VARIABLE).unwrap_or_else(|_| "ssh".into());
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or("ssh");
        let passing = |error: io::Error| Trouble::passing(format!("{program} can't be started: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(passing)?;
        let theirs = OwnedFd::from(theirs);
        let mut child = Command::new(program)
            .args(words)
            // Nobody is there to be asked.
            .args(["-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=5", "--", destination, COMMAND])
            .stdin(Stdio::from(theirs.try_clone().map_err(passing)?))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(passing)?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (theirs, mut stderr) = (said.clone(), child.stderr.take().expect("it is piped"));
        let listen = move || {
            let mut buffer = [0; 512];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                let mut words = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_WORDS.saturating_sub(words.len());
                words.extend(&buffer[..count.min(room)]);
            }
        };
        let heard = thread::Builder::new().name("distfun-ssh".into()).spawn(listen);
        let mut tunnel = Self { child, words: said };
        let listener = heard.map_err(passing)?;
        match await_greeting(&ours) {
            Ok(()) => Ok((tunnel, ours)),
            Err(error) => {
                let status = tunnel.end();
                let _ = listener.join();
                Err(tunnel.trouble(destination, &error, status))
            }
        }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        // It ends by itself when its node has; otherwise not in time.
        let limit = Instant::now() + Duration::from_millis(500);
        while Instant::now() < limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    fn trouble(&self, destination: &str, error: &io::Error, status: Option<ExitStatus>) -> Trouble {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&words).trim().replace(['\n', '\r'], "; ");
        let hint = match status.and_then(|status| status.code()) {
            Some(127) => {
                "; install distfun there (the package distfun-cli), where the login's path or ~/.cargo/bin has it"
            }
            Some(255) => "; `ssh HOST true` must work without being asked anything",
            _ => "",
        };
        let said = if said.is_empty() { error.to_string() } else { said };
        Trouble::passing(format!("no node by ssh at {destination}: {said}{hint}"))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what a shell there says first, up to the node's greeting.
fn await_greeting(mut stream: &UnixStream) -> io::Result<()> {
    let limit = Instant::now() + LOGIN_TIME;
    let mut said: Vec<u8> = Vec::new();
    // Byte by byte, so that nothing of what follows is taken.
    let mut byte = [0];
    while !said.ends_with(STDIO_GREETING) {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() || said.len() > MAX_BANNER {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "something answers that is no node"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before a node spoke")),
            Ok(_) => said.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no node spoke within {LOGIN_TIME:?}")));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.set_read_timeout(None)
}
