//! The other process: this program once more, as a node or as the far end of a hand-written loop.
//!
//! A bench that needs one runs in a child that has a cookie and a cache of its own; what is left of them goes with it.

use std::{
    env,
    io::{BufRead, BufReader, IoSlice, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
};

use distfun::{node, prelude::*};
use tokio::net::{TcpListener, TcpStream};

const ROLE: &str = "BENCH_ROLE";

/// Runs `bench`, or what this process was started as.
pub(crate) fn with_peers(bench: fn()) -> ExitCode {
    distfun::init();
    match env::var(ROLE).as_deref() {
        Ok("node") => serve_node(),
        Ok("daemon") => serve_programs(),
        Ok("echo") => serve_echo(),
        Ok("tls node") => super::tls::serve_node(),
        Ok("tls echo") => super::tls::serve_echo(),
        Ok(_) => bench(),
        Err(_) => return in_child(),
    }
    ExitCode::SUCCESS
}

/// The same in a process of which the environment says where its cookie and cache are.
fn in_child() -> ExitCode {
    let place: PathBuf = env::temp_dir().join(format!("distfun-bench-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a directory for temporary files");
    let program = env::current_exe().expect("a program");
    let status = Command::new(program)
        .args(env::args_os().skip(1))
        .env(ROLE, "bench")
        .env("DISTFUN_COOKIE", place.join("cookie"))
        .env("DISTFUN_CACHE", place.join("cache"))
        .env("DISTFUN_CREDENTIALS", place.join("credentials"))
        .status();
    let _ = std::fs::remove_dir_all(&place);
    if status.expect("the program runs").success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Another process of this program. It ends with this.
pub(crate) struct Peer {
    /// Where it listens.
    pub(crate) address: String,
    child: Child,
    /// It ends when this closes.
    _stdin: ChildStdin,
}

impl Peer {
    pub(crate) fn node() -> Self {
        Self::start("node")
    }

    /// A node that knows nothing.
    #[allow(dead_code, reason = "not all benches need one")]
    pub(crate) fn daemon() -> Self {
        Self::start("daemon")
    }

    pub(crate) fn echo() -> Self {
        Self::start("echo")
    }

    pub(super) fn start(role: &str) -> Self {
        let mut child = Command::new(env::current_exe().expect("a program"))
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut address).expect("it says where it listens");
        let stdin = child.stdin.take().expect("it is piped");
        Self { address: address.trim().to_owned(), child, _stdin: stdin }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn tell(address: &str) {
    println!("{address}");
    std::io::stdout().flush().expect("somebody reads it");
}

/// A node, wherever it listens.
pub(super) fn offering() -> node::NodeConfig {
    node::config()
        .slots(super::SLOTS)
        .offer(function!(super::square))
        .offer(function!(super::nodes::scaled))
        .offer(function!(super::nodes::same))
        .offer(function!(super::nodes::with_shared))
        .offer(function!(super::sums))
}

fn serve_node() {
    let node = node::start(offering().listen("127.0.0.1:0")).expect("a node starts");
    tell(node.address());
    let _ = std::io::stdin().read(&mut [0]);
}

fn serve_programs() {
    let config = node::config().listen("127.0.0.1:0").slots(1);
    let node = node::start_programs(config).expect("a node starts");
    tell(node.address());
    let _ = std::io::stdin().read(&mut [0]);
}

pub(super) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// What goes before each message of the hand-written loops: how many bytes follow, and how many are to come back.
pub(crate) type Header = [u64; 2];

/// Sends back as many bytes as each message asks for, from the memory that it was read into. A task reads and a task
/// writes, so that both ways are busy.
fn serve_echo() {
    end_with_parent();
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        tell(&listener.local_addr().expect("it is bound").to_string());
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("an open socket");
            // A connection ends with an error: the other side closes it.
            let _ = echo(&stream).await;
        }
    });
}

async fn echo(stream: &TcpStream) -> std::io::Result<()> {
    let (full, mut filled) = tokio::sync::mpsc::unbounded_channel::<(usize, Vec<f64>)>();
    let (empty, mut emptied) = tokio::sync::mpsc::unbounded_channel::<Vec<f64>>();
    let reads = async {
        loop {
            let mut header: Header = [0; 2];
            read(stream, bytemuck::bytes_of_mut(&mut header)).await?;
            let count = header[0] as usize / size_of::<f64>();
            let mut buffer = emptied.try_recv().unwrap_or_default();
            buffer.resize(count.max(buffer.len()), 0.0);
            read(stream, bytemuck::cast_slice_mut(&mut buffer[..count])).await?;
            let _ = full.send((header[1] as usize, buffer));
        }
    };
    let writes = async {
        while let Some((bytes, buffer)) = filled.recv().await {
            let header: Header = [bytes as u64, 0];
            write(stream, bytemuck::bytes_of(&header), &bytemuck::cast_slice(&buffer)[..bytes]).await?;
            let _ = empty.send(buffer);
        }
        Ok(())
    };
    tokio::select! {
        end = reads => end,
        end = writes => end,
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Connects to an echo.
pub(crate) async fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("an open socket");
    stream
}

/// Fills `target`.
pub(crate) async fn read(stream: &TcpStream, mut target: &mut [u8]) -> std::io::Result<()> {
    while !target.is_empty() {
        match stream.try_read(target) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => target = &mut target[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a header and what follows it, with one call as far as there is room.
pub(crate) async fn write(stream: &TcpStream, header: &[u8], body: &[u8]) -> std::io::Result<()> {
    let mut slices = [IoSlice::new(header), IoSlice::new(body)];
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match stream.try_write_vectored(left) {
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
