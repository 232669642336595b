//! What TLS costs: a node in another process, at an address of this machine that is not loopback, against a loop by hand
//! over the same rustls.

use std::{
    io::IoSlice,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use distfun::prelude::*;
use distfun_net::{
    handshake::Side,
    identity::default_credentials,
    tls::{
        Files,
        authority::{Authority, LIFE},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::TLS13,
    },
};

use super::{
    Case,
    nodes::{ARRAY, COUNT, WINDOW, at, same},
    peer::{self, Header, Peer, tell},
    timed,
};

/// An address of this machine that is not loopback. None where there is no network at all.
pub(crate) fn address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nobody is there, and nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| SocketAddr::new(ip, 0))
}

fn files() -> Files {
    Files::at(default_credentials())
}

/// What all processes of the bench show each other.
fn make_credentials() {
    if files().authority().exists() {
        return;
    }
    let authority = Authority::create(files()).expect("an authority");
    for role in [Side::Manager, Side::Node] {
        authority.issue_here(role, "bench", LIFE).expect("a certificate");
    }
}

/// A node and an echo within TLS.
fn peers() -> (Peer, Peer) {
    make_credentials();
    (Peer::start("tls node"), Peer::start("tls echo"))
}

pub(super) fn serve_node() {
    let listen = address().expect("it was there before").to_string();
    let node = distfun::node::start(peer::offering().listen(listen)).expect("a node starts");
    tell(node.address());
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}

pub(super) fn serve_echo() {
    let pem = std::fs::read(files().own(Side::Node)).expect("it was made");
    let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&pem).expect("its key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("it has that")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    peer::end_with_parent();
    peer::runtime().block_on(async {
        let listener = TcpListener::bind(address().expect("it was there before")).await.expect("a free port");
        tell(&listener.local_addr().expect("it is bound").to_string());
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("an open socket");
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let (reader, writer) = tokio::io::split(stream);
            // A connection ends with an error: the other side closes it.
            let _ = echo(reader, writer).await;
        }
    });
}

async fn echo(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let (full, mut filled) = tokio::sync::mpsc::unbounded_channel::<(usize, Vec<f64>)>();
    let (empty, mut emptied) = tokio::sync::mpsc::unbounded_channel::<Vec<f64>>();
    let reads = async {
        loop {
            let mut header: Header = [0; 2];
            from.read_exact(bytemuck::bytes_of_mut(&mut header)).await?;
            let count = header[0] as usize / size_of::<f64>();
            let mut buffer = emptied.try_recv().unwrap_or_default();
            buffer.resize(count.max(buffer.len()), 0.0);
            from.read_exact(bytemuck::cast_slice_mut(&mut buffer[..count])).await?;
            let _ = full.send((header[1] as usize, buffer));
        }
    };
    let writes = async {
        while let Some((bytes, buffer)) = filled.recv().await {
            let header: Header = [bytes as u64, 0];
            write(&mut to, bytemuck::bytes_of(&header), &bytemuck::cast_slice(&buffer)[..bytes]).await?;
            let _ = empty.send(buffer);
        }
        Ok(())
    };
    tokio::select! {
        end = reads => end,
        end = writes => end,
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), header: &[u8], body: &[u8]) -> std::io::Result<()> {
    let mut slices = [IoSlice::new(header), IoSlice::new(body)];
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let count = to.write_vectored(left).await?;
        IoSlice::advance_slices(&mut left, count);
    }
    to.flush().await
}

async fn connect(address: &str) -> TlsStream<tokio::net::TcpStream> {
    let pem = std::fs::read(files().authority()).expect("it was made");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("of an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("it has that")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let cluster = files().cluster().expect("it was made").expect("it was made");
    let name = ServerName::try_from(format!("node.{cluster}.distfun")).expect("a name");
    let stream = peer::connect(address).await;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("it is the echo")
}

/// Sends `messages`, each of which asks for as many bytes as its target has, with at most [`WINDOW`] on their way.
async fn exchange(stream: &mut TlsStream<tokio::net::TcpStream>, messages: &[&[f64]], targets: &mut [Vec<f64>]) {
    let (mut from, mut to) = tokio::io::split(stream);
    let window = tokio::sync::Semaphore::new(WINDOW);
    let wanted: Vec<u64> = targets.iter().map(|target| 8 * target.len() as u64).collect();
    let writes = async {
        for (message, wanted) in messages.iter().zip(wanted) {
            window.acquire().await.expect("it stays open").forget();
            let body: &[u8] = bytemuck::cast_slice(message);
            let header: Header = [body.len() as u64, wanted];
            write(&mut to, bytemuck::bytes_of(&header), body).await.expect("the echo reads");
        }
    };
    let reads = async {
        for target in targets {
            let mut header: Header = [0; 2];
            from.read_exact(bytemuck::bytes_of_mut(&mut header)).await.expect("the echo answers");
            from.read_exact(bytemuck::cast_slice_mut(target)).await.expect("the echo answers");
            window.add_permits(1);
        }
    };
    futures::future::join(writes, reads).await;
}

/// 64 arrays of a megabyte there and back within TLS, against the same by hand.
pub(crate) fn arrays() -> Case {
    let (node, echo) = peers();
    let distributed = at(&node, distribute!(same));
    let input: Vec<Vec<f64>> = (0..COUNT).map(|n| vec![n as f64; ARRAY]).collect();
    let copy = input.clone();
    let mut targets = vec![vec![0.0; ARRAY]; COUNT];
    let runtime = peer::runtime();
    let mut stream = runtime.block_on(connect(&echo.address));
    Case {
        name: "64 arrays of 1 MiB to a node and back in TLS, by hand",
        owe: 1.0 / 0.8,
        pairs: 31,
        ours: Box::new(move || {
            let (items, _node) = (input.clone(), &node);
            timed(|| distributed.map(items).wait().expect("no failures"))
        }),
        baseline: Box::new(move || {
            let (messages, _echo): (Vec<&[f64]>, _) = (copy.iter().map(Vec::as_slice).collect(), &echo);
            timed(|| runtime.block_on(exchange(&mut stream, &messages, &mut targets)))
        }),
        note: None,
    }
}

/// Tiny calls back to back within TLS, against a message there and one back.
pub(crate) fn call() -> Case {
    let (node, echo) = peers();
    let distributed = at(&node, distribute!(super::square));
    let runtime = peer::runtime();
    let mut stream = runtime.block_on(connect(&echo.address));
    let header: Header = [8, 8];
    Case {
        name: "a tiny call at a node back to back in TLS, by hand",
        owe: 2.0,
        pairs: 101,
        ours: Box::new(move || {
            let _node = &node;
            super::burst(200, || timed(|| distributed.map([3]).wait().expect("no failures")))
        }),
        baseline: Box::new(move || {
            let _echo = &echo;
            let mut ping = async || {
                write(&mut stream, bytemuck::bytes_of(&header), &[3; 8]).await.expect("the echo reads");
                stream.read_exact(&mut [0; 24]).await.expect("the echo answers");
            };
            super::burst(200, || timed(|| runtime.block_on(ping())))
        }),
        note: None,
    }
}
