//! What a side shows, and what it believes.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};

use super::{
    CredentialsError, Facts, Files, PROTOCOL,
    certificate::{cluster, fingerprint},
};
use crate::handshake::Side;

/// What one side shows the other, and what it believes of it. Keys never show themselves.
#[derive(Clone)]
pub struct Credentials {
    facts: Facts,
    cluster: String,
    config: Config,
}

#[derive(Clone)]
enum Config {
    Manager(Arc<ClientConfig>, ServerName<'static>),
    Node(Arc<ServerConfig>),
}

/// What credentials are made of.
pub(super) struct Parts {
    pub(super) authority: CertificateDer<'static>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) revoked: Option<CertificateRevocationListDer<'static>>,
}

impl Credentials {
    /// Those of this machine in a role. None if it has none.
    ///
    /// # Errors
    /// They can't be used: others may read them, a part is missing, their time is over.
    pub fn load(files: &Files, role: Side) -> Result<Option<Self>, CredentialsError> {
        let Some((certificate, key)) = files.read_own(role)? else { return Ok(None) };
        let missing = || CredentialsError::Missing { path: files.authority() };
        let authority = files.read_authority()?.ok_or_else(missing)?;
        // Without it, who was revoked would be let in.
        let missing = || CredentialsError::Missing { path: files.revoked() };
        let revoked = Some(files.read_revoked(&authority)?.ok_or_else(missing)?);
        let unfit = || CredentialsError::Unfit { path: files.own(role) };
        let facts = Facts::read(&certificate).filter(|facts| facts.role == role).ok_or_else(unfit)?;
        let now = SystemTime::now();
        if now < facts.not_before || now >= facts.not_after {
            let is_over = now >= facts.not_after;
            return Err(CredentialsError::OutOfTime { path: files.own(role), is_over });
        }
        Self::of(Parts { authority, certificate, key, revoked }, role).map(Some).ok_or_else(unfit)
    }

    /// Whatever the certificate says, as a peer shows it that does not care.
    #[cfg(test)]
    pub(super) fn shown(parts: Parts, role: Side) -> Self {
        let facts = Facts::read(&parts.certificate).unwrap_or_else(|| Facts::nobody(role));
        Self::with(facts, parts, role).expect("the parts belong together")
    }

    /// One that shows no certificate.
    #[cfg(test)]
    pub(super) fn without_certificate(authority: CertificateDer<'static>) -> Self {
        let cluster = cluster(&fingerprint(&authority).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let name = ServerName::try_from(node_name(&cluster)).unwrap();
        let config = Config::Manager(client(Arc::new(roots), None, None).unwrap(), name);
        Self { facts: Facts::nobody(Side::Manager), cluster, config }
    }

    /// None if the parts do not belong together.
    pub(super) fn of(parts: Parts, role: Side) -> Option<Self> {
        Self::with(Facts::read(&parts.certificate)?, parts, role)
    }

    fn with(facts: Facts, parts: Parts, role: Side) -> Option<Self> {
        let Parts { authority, certificate, key, revoked } = parts;
        let cluster = cluster(&fingerprint(&authority)?);
        let mut roots = RootCertStore::empty();
        roots.add(authority).ok()?;
        let roots = Arc::new(roots);
        let config = match role {
            Side::Manager => {
                let name = ServerName::try_from(node_name(&cluster)).ok()?;
                Config::Manager(client(roots, revoked, Some((certificate, key)))?, name)
            }
            Side::Node => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.with_crls(revoked).build().ok()?;
                Config::Node(server(ServerBuilder::Verified(verifier), vec![certificate], key)?)
            }
        };
        Some(Self { facts, cluster, config })
    }

    /// What this side's certificate says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn connection(&self) -> Result<rustls::Connection, rustls::Error> {
        Ok(match &self.config {
            Config::Manager(config, name) => ClientConnection::new(config.clone(), name.clone())?.into(),
            Config::Node(config) => ServerConnection::new(config.clone())?.into(),
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("facts", &self.facts)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// How a Manager knows that it speaks to a node.
pub(super) fn node_name(cluster: &str) -> String {
    format!("node.{cluster}.distfun")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What connects. None if certificate and key do not belong together.
pub(super) fn client(
    roots: Arc<RootCertStore>,
    revoked: Option<CertificateRevocationListDer<'static>>,
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Option<Arc<ClientConfig>> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).with_crls(revoked).build().ok()?;
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).ok()?;
    let builder = builder.with_webpki_verifier(verifier);
    let mut config = match own {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).ok()?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Every connection shows its certificate anew, so that one that is revoked is worth nothing at once.
    config.resumption = Resumption::disabled();
    Some(Arc::new(config))
}

/// Whom a server lets in.
pub(super) enum ServerBuilder {
    /// Those that the verifier believes.
    Verified(Arc<dyn rustls::server::danger::ClientCertVerifier>),
    /// Everybody, to ask for a token then.
    #[cfg(feature = "authority")]
    Anybody,
}

/// What is connected to. None if certificate and key do not belong together.
pub(super) fn server(
    builder: ServerBuilder,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Option<Arc<ServerConfig>> {
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).ok()?;
    let config = match builder {
        ServerBuilder::Verified(verifier) => config.with_client_cert_verifier(verifier),
        #[cfg(feature = "authority")]
        ServerBuilder::Anybody => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(chain, key).ok()?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
}

/// Credentials that are read again when their files have changed: renewed certificates and new lists of revoked ones hold
/// from the next connection on.
#[derive(Debug)]
pub struct Watched {
    files: Files,
    role: Side,
    last: Mutex<Option<Last>>,
    /// Who is on the list, and when the files were changed that say so.
    revoked: Mutex<([Option<SystemTime>; 3], HashSet<String>)>,
}

#[derive(Debug)]
struct Last {
    changed: [Option<SystemTime>; 3],
    credentials: Arc<Credentials>,
}

impl Watched {
    /// Credentials of these files, which are read when they are asked for.
    #[must_use]
    pub fn new(files: Files, role: Side) -> Self {
        Self { files, role, last: Mutex::default(), revoked: Mutex::default() }
    }

    /// Where they are.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// As the files say now. None if there are none.
    ///
    /// # Errors
    /// As for [`Credentials::load`].
    pub fn now(&self) -> Result<Option<Arc<Credentials>>, CredentialsError> {
        let changed = self.files.changed(self.role);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*last
            && known.changed == changed
            && !known.credentials.facts.left().is_zero()
        {
            return Ok(Some(known.credentials.clone()));
        }
        let credentials = Credentials::load(&self.files, self.role)?.map(Arc::new);
        *last = credentials.clone().map(|credentials| Last { changed, credentials });
        Ok(credentials)
    }

    /// Whether the certificate of this serial was revoked, as the list says now, whatever is with the other files.
    ///
    /// # Errors
    /// The list can't be read.
    pub fn is_revoked(&self, serial: &str) -> Result<bool, CredentialsError> {
        let changed = self.files.changed(self.role);
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked.0 != changed {
            *revoked = (changed, self.files.listed()?);
        }
        Ok(revoked.1.contains(serial))
    }
}
