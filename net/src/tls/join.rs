//! How a machine gets its certificate.
//!
//! ```text
//! joining   →  "dfjoin", a zero byte, 1
//!           ←  the authority's certificate (PEM, its length before it)          authority
//! joining: is its hash that of the token? Then TLS, in which the authority shows that it has the key.
//! joining   →  id and secret of the token, a name, a request with a new key
//!           ←  a certificate, and the list of revoked ones; or why not           authority
//! ```
//!
//! Lengths are two bytes, or four for the last, little-endian; what is in TLS is postcard. The authority listens only while
//! somebody waits for machines to join.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    ClientConnection, RootCertStore, ServerConnection,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    CredentialsError, Facts, Files,
    authority::{Authority, AuthorityError, Request, check_name, join_name},
    certificate::{cluster, fingerprint, is_self_signed, list_number},
    credentials::{ServerBuilder, client, server},
    files::pem,
    problem::{problem, within},
    token::Token,
    wire::{TlsWire, negotiate},
};
use crate::{
    gate::{Gate, GateLimits},
    handshake::{Side, read, write},
    identity::{Secret, random_bytes, secret},
    transport::{Listener, Wire, tcp},
};

const GREETING: [u8; 8] = *b"dfjoin\0\x01";

/// What one that joins may take, from its first byte to its last.
const JOIN_TIME: Duration = Duration::from_secs(5);

/// What one that joins says at most.
const MAX_REQUEST_BYTES: usize = 4096;

/// What it is told at most.
const MAX_ANSWER_BYTES: usize = 2 << 20;

/// How long to wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Asks<'b> {
    id: [u8; 4],
    secret: [u8; 16],
    name: &'b str,
    request: &'b [u8],
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Joined { certificate: String, revoked: String },
    Refused { why: String },
}

/// A token that machines may use.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What those that join may be.
    pub role: Side,
    /// How many may.
    pub uses: usize,
    /// For how long.
    pub ttl: Duration,
    /// How long their certificates are valid.
    pub life: Duration,
}

/// What happens while machines join.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Joining {
    /// A machine has its certificate.
    Joined {
        /// Its name.
        name: String,
        /// Where it is.
        peer: String,
    },
    /// Something else came.
    Refused {
        /// Where it is.
        peer: String,
        /// Why it was refused.
        why: String,
    },
}

/// Lets machines join, who have the token.
pub struct Admission {
    authority: Authority,
    terms: Terms,
    token: Token,
    config: Arc<rustls::ServerConfig>,
    until: Instant,
    left: AtomicUsize,
    gate: Gate,
    /// Held while a use is counted and what it is for is signed.
    signing: Mutex<()>,
}

impl Admission {
    /// A new token, for machines that reach this one at `address`.
    ///
    /// # Errors
    /// The authority can't sign.
    pub fn new(authority: Authority, address: String, terms: Terms) -> Result<Arc<Self>, AuthorityError> {
        let token =
            Token { address, fingerprint: *authority.fingerprint(), id: random_bytes()?, secret: random_bytes()? };
        let (certificate, key) = authority.for_joining(terms.ttl + Duration::from_secs(3600))?;
        let config = server(ServerBuilder::Anybody, vec![certificate], key);
        let config = config.ok_or(AuthorityError::Signing(rcgen::Error::CouldNotParseCertificate))?;
        let gate = Gate::new(GateLimits { spares_loopback: false, ..GateLimits::default() });
        Ok(Arc::new(Self {
            until: Instant::now() + terms.ttl,
            left: terms.uses.into(),
            authority,
            terms,
            token,
            config,
            gate,
            signing: Mutex::default(),
        }))
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// How many more may join.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Lets machines in until the token is used up or too old, and says what happens.
    ///
    /// # Cancel safety
    /// Those that are being let in when it is dropped are not.
    pub async fn serve(self: &Arc<Self>, door: &impl Listener, said: impl Fn(Joining)) {
        let mut guests = tokio::task::JoinSet::new();
        while self.left.load(Ordering::Relaxed) > 0 && Instant::now() < self.until {
            let left = self.until.saturating_duration_since(Instant::now());
            tokio::select! {
                peer = timeout(left, door.accept()) => match peer {
                    Ok(Ok(wire)) => {
                        let admission = self.clone();
                        guests.spawn(async move { admission.let_in(wire).await });
                    }
                    Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(_) => break,
                },
                Some(done) = guests.join_next() => done.into_iter().for_each(&said),
            }
        }
        while let Some(done) = guests.join_next().await {
            done.into_iter().for_each(&said);
        }
    }

    async fn let_in(&self, wire: Arc<dyn Wire>) -> Joining {
        let peer = wire.peer();
        let address = peer.parse::<SocketAddr>().map_or(IpAddr::V6(Ipv6Addr::LOCALHOST), |peer| peer.ip());
        let pass = match self.gate.enter(address, Instant::now()) {
            Ok(pass) => pass,
            Err(turned) => {
                wire.shut();
                return Joining::Refused { peer, why: turned.to_string() };
            }
        };
        let signed = OnceLock::new();
        let met = tokio::select! {
            met = timeout(JOIN_TIME, self.meet(&wire, &signed)) => met.unwrap_or_else(|_| Err("it was too slow".into())),
            () = pass.evicted() => Err("others wanted its place".into()),
        };
        // Who has a certificate has joined, whatever became of the connection then.
        match signed.into_inner().map_or(met.and(Err("it has shown nothing".into())), Ok) {
            Ok(name) => {
                pass.succeeded();
                Joining::Joined { name, peer }
            }
            Err(why) => {
                pass.failed(Instant::now());
                wire.shut();
                Joining::Refused { peer, why }
            }
        }
    }

    /// Meets one that wants to join; its name is in `signed` from the moment on that it has a certificate.
    async fn meet(&self, wire: &Arc<dyn Wire>, signed: &OnceLock<String>) -> Result<(), String> {
        let mut greeting = [0; GREETING.len()];
        read_exactly(wire, &mut greeting).await.map_err(|cause| cause.to_string())?;
        if greeting != GREETING {
            return Err("it does not want to join".into());
        }
        let authority = std::fs::read(self.authority.files().authority()).map_err(|cause| cause.to_string())?;
        let length = u16::try_from(authority.len()).map_err(|_| "the authority's certificate is too long")?;
        let hello = [&length.to_le_bytes()[..], &authority].concat();
        write(wire, &hello).await.map_err(|cause| cause.to_string())?;
        let connection = ServerConnection::new(self.config.clone()).map_err(|error| error.to_string())?;
        let connection = match negotiate(wire, connection.into()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) => return Err("it does not speak TLS".into()),
            Err(error) => {
                return Err(within(&error).map_or_else(|| error.to_string(), |inner| problem(inner, Side::Node)));
            }
        };
        let wire = TlsWire::around(wire.clone(), connection);
        let mut length = [0; 2];
        read_exactly(&wire, &mut length).await.map_err(|cause| cause.to_string())?;
        let length = usize::from(u16::from_le_bytes(length));
        if length > MAX_REQUEST_BYTES {
            return Err("it says too much".into());
        }
        let mut asks = vec![0; length];
        read_exactly(&wire, &mut asks).await.map_err(|cause| cause.to_string())?;
        let (answer, end) = match self.answer(&asks) {
            Ok((answer, name)) => {
                let _ = signed.set(name);
                (answer, Ok(()))
            }
            Err(why) => (Answer::Refused { why: why.clone() }, Err(why)),
        };
        let answer = postcard::to_stdvec(&answer).map_err(|error| error.to_string())?;
        let length = u32::try_from(answer.len()).map_err(|_| "the list of revoked certificates is too long")?;
        let answer = [&length.to_le_bytes()[..], &answer].concat();
        write(&wire, &answer).await.map_err(|cause| cause.to_string())?;
        // It closes when it has read all.
        let mut rest = [0; 1];
        let _ = read(&wire, &mut rest).await;
        end
    }

    fn answer(&self, asks: &[u8]) -> Result<(Answer, String), String> {
        let (asks, _) = postcard::take_from_bytes::<Asks<'_>>(asks).map_err(|_| "it can't be understood")?;
        let Token { id, secret, .. } = &self.token;
        // Hashes of both, so that the time it takes says nothing.
        let shown = Sha256::new().chain_update(asks.id).chain_update(asks.secret).finalize();
        if shown != Sha256::new().chain_update(id).chain_update(secret).finalize() {
            return Err("the token is not one that is valid now: run `distfun token` again".into());
        }
        check_name(asks.name).map_err(|error| error.to_string())?;
        if self.authority.own_names().iter().any(|own| own == asks.name) {
            return Err(format!(
                "{} is the name of this machine itself: take another one, by `distfun join --name`",
                asks.name
            ));
        }
        let _signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 || Instant::now() >= self.until {
            return Err("the token is used up: run `distfun token` again".into());
        }
        let revoked = std::fs::read_to_string(self.authority.files().revoked()).map_err(|cause| cause.to_string())?;
        // Before anything is signed: what fails from here on costs a use, and nothing is signed twice for one.
        self.left.store(left - 1, Ordering::Relaxed);
        let Terms { role, life, .. } = self.terms;
        let certificate =
            self.authority.sign(asks.request, role, asks.name, life).map_err(|error| error.to_string())?;
        Ok((Answer::Joined { certificate, revoked }, asks.name.to_owned()))
    }
}

/// Makes this machine, by the name of `name`, part of the cluster of a token. With `replaces`, one of another cluster may
/// become part of this.
///
/// # Errors
/// The authority can't be reached, is not that of the token, or refuses; or files can't be written. Nothing is changed
/// then, and the secret has been shown to nobody but the authority of the token.
pub async fn join(token: &Token, name: &str, files: &Files, replaces: bool) -> Result<Facts, JoinError> {
    check_name(name)?;
    let known = files.cluster().or_else(|error| if replaces { Ok(None) } else { Err(error) })?;
    let is_other = known.as_ref().is_some_and(|known| *known != token.cluster());
    if is_other && files.authority_key().exists() {
        return Err(JoinError::IsAuthority { dir: files.dir().to_owned() });
    }
    if is_other && !replaces {
        return Err(JoinError::OtherCluster { cluster: known.unwrap_or_default(), dir: files.dir().to_owned() });
    }
    // Before the secret is shown, which can be done once.
    let _made = Prepared::of(files)?;
    let address = token.address.clone();
    let unreachable = |cause| JoinError::Unreachable { address: address.clone(), cause };
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let wire = tcp::connect(host, port.parse().unwrap_or(0), CONNECT_TIME).await.map_err(unreachable)?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let asked = timeout(JOIN_TIME, ask(&wire, token, name)).await;
    wire.shut();
    let (authority, request, answer) =
        asked.unwrap_or_else(|_| Err(JoinError::Unreachable { address: address.clone(), cause: late() }))?;
    let (certificate, revoked) = match answer {
        Answer::Joined { certificate, revoked } => (certificate, revoked),
        Answer::Refused { why } => return Err(JoinError::Refused { address, why }),
    };
    keep(files, &authority, &request.with(&certificate), &revoked, is_other)
}

/// A directory that can be written to. Removed again, if it is still empty.
struct Prepared<'f>(&'f Files);

impl<'f> Prepared<'f> {
    fn of(files: &'f Files) -> Result<Self, JoinError> {
        secret::prepare(Secret::Credential, files.dir()).map_err(CredentialsError::from)?;
        Ok(Self(files))
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.dir());
    }
}

async fn ask(wire: &Arc<dyn Wire>, token: &Token, name: &str) -> Result<(String, Request, Answer), JoinError> {
    let address = token.address.clone();
    let unreachable = |cause| JoinError::Unreachable { address: address.clone(), cause };
    write(wire, &GREETING).await.map_err(unreachable)?;
    let mut length = [0; 2];
    read_exactly(wire, &mut length).await.map_err(unreachable)?;
    let mut shown = vec![0; u16::from_le_bytes(length).into()];
    read_exactly(wire, &mut shown).await.map_err(unreachable)?;
    let authority =
        CertificateDer::from_pem_slice(&shown).ok().filter(|der| fingerprint(der) == Some(token.fingerprint));
    // Its key is known; that the rest is the authority's own word, its signature says.
    let authority =
        authority.filter(is_self_signed).ok_or_else(|| JoinError::OtherAuthority { address: address.clone() })?;
    let kept = pem("CERTIFICATE", &authority);

    let mut roots = RootCertStore::empty();
    let other = || JoinError::OtherAuthority { address: address.clone() };
    roots.add(authority).map_err(|_| other())?;
    let config = client(Arc::new(roots), None, None).ok_or_else(other)?;
    let server = ServerName::try_from(join_name(&cluster(&token.fingerprint))).map_err(|_| other())?;
    let tls = |error: rustls::Error| JoinError::Tls { address: address.clone(), problem: problem(&error, Side::Node) };
    let connection = ClientConnection::new(config, server).map_err(tls)?;
    let connection = match negotiate(wire, connection.into()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return Err(other()),
        Err(cause) => {
            return Err(match within(&cause) {
                Some(error) => tls(error.clone()),
                None => unreachable(cause),
            });
        }
    };
    let wire = TlsWire::around(wire.clone(), connection);
    let request = Request::new()?;
    let asks = Asks { id: token.id, secret: token.secret, name, request: &request.der };
    let asks = postcard::to_stdvec(&asks).map_err(|error| unreachable(io::Error::other(error)))?;
    let length = (asks.len() as u16).to_le_bytes();
    write(&wire, &[&length[..], &asks].concat()).await.map_err(unreachable)?;
    let mut length = [0; 4];
    read_exactly(&wire, &mut length).await.map_err(unreachable)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_ANSWER_BYTES {
        return Err(other());
    }
    let mut answer = vec![0; length];
    read_exactly(&wire, &mut answer).await.map_err(unreachable)?;
    wire.shut();
    let (answer, _) = postcard::take_from_bytes(&answer).map_err(|_| other())?;
    Ok((String::from_utf8_lossy(&kept).into_owned(), request, answer))
}

/// Writes what a machine has been given, once it is sure that it is whole.
fn keep(files: &Files, authority: &str, own: &str, revoked: &str, is_other: bool) -> Result<Facts, JoinError> {
    let facts = CertificateDer::from_pem_slice(own.as_bytes()).ok().and_then(|der| Facts::read(&der));
    let der = CertificateDer::from_pem_slice(authority.as_bytes()).ok();
    let list = PemObject::from_pem_slice(revoked.as_bytes()).ok();
    let is_whole = der.zip(list).is_some_and(|(der, list)| list_number(&list, &der).is_some());
    let Some(facts) = facts.filter(|_| is_whole) else {
        return Err(JoinError::Files(CredentialsError::Unfit { path: files.dir().to_owned() }));
    };
    let now = SystemTime::now();
    if now < facts.not_before || now >= facts.not_after {
        let is_over = now >= facts.not_after;
        return Err(JoinError::Files(CredentialsError::OutOfTime { path: files.own(facts.role), is_over }));
    }
    let put = |path: std::path::PathBuf, text: &str| {
        secret::replace(Secret::Credential, &path, text.as_bytes()).map_err(CredentialsError::from)
    };
    if is_other {
        // What the other cluster has given is of no use in this one.
        for role in [Side::Manager, Side::Node] {
            let _ = std::fs::remove_file(files.own(role));
        }
    }
    put(files.revoked(), revoked)?;
    put(files.authority(), authority)?;
    put(files.own(facts.role), own)?;
    Ok(facts)
}

async fn read_exactly(wire: &Arc<dyn Wire>, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(wire, buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => buffer = &mut buffer[got..],
        }
    }
    Ok(())
}

/// A machine has not become part of a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nobody is there, or not any more.
    #[error(
        "{address} does not answer: `distfun token` must still be waiting there, and its port be open to this machine; a token that \
         is used up, too old, or was shown wrongly too often needs another one"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Somebody else is there. The secret was not shown.
    #[error("{address} is not the authority of this token; its secret was not shown")]
    OtherAuthority {
        /// Where.
        address: String,
    },
    /// The authority could not show its key.
    #[error("{address} {problem}")]
    Tls {
        /// Where.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// The authority refuses.
    #[error("{address} refused: {why}")]
    Refused {
        /// Where.
        address: String,
        /// As it says.
        why: String,
    },
    /// This machine is part of another cluster.
    #[error("this machine is part of cluster {cluster} already ({}); to leave that, run `distfun join --replace` with the token", .dir.display())]
    OtherCluster {
        /// Its name.
        cluster: String,
        /// Where its credentials are.
        dir: std::path::PathBuf,
    },
    /// This machine is another cluster's authority, which all its machines depend on.
    #[error("this machine is the authority of another cluster; name another directory by --credentials than {}", .dir.display())]
    IsAuthority {
        /// Where its credentials are.
        dir: std::path::PathBuf,
    },
    /// A key or a name could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Files can't be read or written.
    #[error(transparent)]
    Files(#[from] CredentialsError),
}
