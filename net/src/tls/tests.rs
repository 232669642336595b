//! Who is let in, and above all who is not.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose as Purpose, Issuer, KeyPair,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tempfile::TempDir;

use super::{
    authority::{Authority, AuthorityError, LIFE},
    certificate::list_number,
    credentials::{Parts, node_name},
    join::{Admission, JoinError, Joining, Terms, join},
    token::Token,
    *,
};
use crate::{
    handshake::{
        HandshakeError, Hello, MAX_HANDSHAKE_BYTES, ManagerHello, NodeHello, Side, Trust, as_manager, as_node,
    },
    identity::Cookie,
    transport::{Listener, Wire, memory, tcp},
};

mod joining;
mod revoking;

type Pair = (Arc<dyn Wire>, Arc<dyn Wire>);

/// An authority of its own, in a directory that goes with it.
struct Cluster {
    dir: TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(Files::at(dir.path().join("credentials"))).unwrap();
        Self { dir, authority }
    }

    fn files(&self) -> &Files {
        self.authority.files()
    }

    /// As the authority gives them.
    fn good(&self, role: Side) -> Trust {
        self.authority.issue_here(role, &format!("a-{role}"), LIFE).unwrap();
        Trust::Certificates(Arc::new(Credentials::load(self.files(), role).unwrap().unwrap()))
    }

    /// A certificate as it would never give one; `shows` in a role.
    fn strange(&self, shows: Side, change: impl FnOnce(&mut CertificateParams)) -> Trust {
        let (certificate, key) = signed(self.authority.issuer(), &self.authority.cluster(), shows, change);
        self.shown(shows, certificate, key, None)
    }

    fn shown(
        &self,
        shows: Side,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        revoked: Option<CertificateRevocationListDer<'static>>,
    ) -> Trust {
        let authority = self.authority.certificate().clone();
        Trust::Certificates(Arc::new(Credentials::shown(Parts { authority, certificate, key, revoked }, shows)))
    }
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    cluster: &str,
    role: Side,
    change: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    params.subject_alt_names = vec![
        SanType::URI("distfun:strange".try_into().unwrap()),
        SanType::DnsName(node_name(cluster).try_into().unwrap()),
    ];
    params.serial_number = Some(SerialNumber::from_slice(&[0x42; 16]));
    params.extended_key_usages = vec![match role {
        Side::Manager => Purpose::ClientAuth,
        Side::Node => Purpose::ServerAuth,
    }];
    change(&mut params);
    let certificate = params.signed_by(&key, issuer).unwrap().der().clone();
    (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn hello() -> Hello {
    Hello { instance: [9; 16], program: "fit".into() }
}

async fn tcp_pair() -> Pair {
    let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (one, other) =
        tokio::join!(tcp::connect("127.0.0.1", door.address().port(), Duration::from_secs(5)), door.accept());
    (one.unwrap(), other.unwrap())
}

type Manager = Result<(Arc<dyn Wire>, NodeHello), HandshakeError>;
type Node = Result<(Arc<dyn Wire>, ManagerHello), HandshakeError>;

async fn meet(manager: &Trust, node: &Trust) -> (Manager, Node) {
    let (one, other) = tcp_pair().await;
    let greeting = hello();
    let both = async { tokio::join!(as_manager(one, manager, &greeting), as_node(other, node, pending())) };
    tokio::time::timeout(Duration::from_secs(6), both).await.expect("a handshake has 5 s")
}

/// The same two ends, with TLS between them.
pub(crate) async fn encrypted((one, other): Pair) -> Pair {
    let cluster = Cluster::new();
    let (manager, node) = (cluster.good(Side::Manager), cluster.good(Side::Node));
    let greeting = hello();
    let (one, other) = tokio::join!(as_manager(one, &manager, &greeting), as_node(other, &node, pending()));
    (one.unwrap().0, other.unwrap().0)
}

#[tokio::test]
async fn those_of_a_cluster_know_each_other() {
    let cluster = Cluster::new();
    let (manager, node) = meet(&cluster.good(Side::Manager), &cluster.good(Side::Node)).await;
    assert_eq!(manager.unwrap().1.machine.unwrap().name, "a-node");
    let (_, told) = node.unwrap();
    assert_eq!((&*told.machine.unwrap().name, &*told.program, told.instance), ("a-manager", "fit", [9; 16]));
}

/// Every pair of which neither side may believe the other, with what each says.
#[tokio::test]
async fn nobody_else_is_let_in() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let own = KeyPair::generate().unwrap();
    let own = Issuer::new(CertificateParams::default(), own);
    let over = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = ((now - 2 * day).into(), (now - day).into());
    };
    let early = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = ((now + day).into(), (now + 2 * day).into());
    };
    let no_purpose = |params: &mut CertificateParams| params.extended_key_usages.clear();
    let both = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![Purpose::ClientAuth, Purpose::ServerAuth];
    };
    let nameless = |params: &mut CertificateParams| params.subject_alt_names.clear();
    let joining = |params: &mut CertificateParams| {
        params.subject_alt_names.remove(1);
        let name = authority::join_name(&cluster.authority.cluster());
        params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
    };
    for (bad_side, good_side) in [(Side::Manager, Side::Node), (Side::Node, Side::Manager)] {
        let self_signed = signed(&own, &cluster.authority.cluster(), bad_side, |_| {});
        let wrong_role = signed(cluster.authority.issuer(), &cluster.authority.cluster(), good_side, |_| {});
        let cases = [
            ("another authority", other.good(bad_side), "authority"),
            ("its own authority", cluster.shown(bad_side, self_signed.0, self_signed.1, None), "another authority"),
            ("expired", cluster.strange(bad_side, over), "time is over"),
            ("not yet valid", cluster.strange(bad_side, early), "not valid yet"),
            ("another role", cluster.shown(bad_side, wrong_role.0, wrong_role.1, None), "but not that of a"),
            ("no purpose", cluster.strange(bad_side, no_purpose), "but not that of a"),
            ("two purposes", cluster.strange(bad_side, both), "but not that of a"),
            ("no name", cluster.strange(bad_side, nameless), "but not that of a"),
            ("a cookie", Trust::Cookie(Cookie::from_bytes([0; 32])), "without TLS"),
            ("no key at all", Trust::PeerChecked, "without TLS"),
        ];
        for (what, bad, said) in cases {
            let good = cluster.good(good_side);
            let (manager, node) = match bad_side {
                Side::Manager => meet(&bad, &good).await,
                Side::Node => meet(&good, &bad).await,
            };
            let outcome = format!("{what}: {manager:?} {node:?}");
            let (by_good, by_bad) = match bad_side {
                Side::Manager => (node.map(drop), manager.map(drop)),
                Side::Node => (manager.map(drop), node.map(drop)),
            };
            let error = by_good.expect_err(&outcome);
            assert!(error.to_string().contains(said), "{bad_side}, {what}: {error}");
            assert!(error.counts_against_peer(), "{outcome}");
            let error = by_bad.expect_err(&outcome);
            println!("{bad_side} with {what} hears: {error}");
        }
    }
    // A node is known by its name too, which who lets others join does not have.
    let (manager, node) = meet(&cluster.good(Side::Manager), &cluster.strange(Side::Node, joining)).await;
    assert!(manager.unwrap_err().to_string().contains("but not that of a node"));
    assert!(node.is_err());
    // And one that shows no certificate.
    let naked =
        Trust::Certificates(Arc::new(Credentials::without_certificate(cluster.authority.certificate().clone())));
    let (manager, node) = meet(&naked, &cluster.good(Side::Node)).await;
    assert!(node.unwrap_err().to_string().contains("shows no certificate"));
    assert!(manager.unwrap_err().to_string().contains("wants to see a certificate"));
}

/// Says in plain what a side with certificates would say within TLS.
#[tokio::test]
async fn certificates_are_not_to_be_claimed() {
    let cluster = Cluster::new();
    let (one, other) = tcp_pair().await;
    let claims = crate::handshake::claims_certificates(&hello());
    crate::handshake::write(&one, &claims).await.unwrap();
    let node = as_node(other, &cluster.good(Side::Node), pending()).await;
    assert!(matches!(node, Err(HandshakeError::WithoutTls { .. })), "{node:?}");
}

#[tokio::test]
async fn strangers_hear_that_they_are_wrong_and_cost_little() {
    let cluster = Cluster::new();
    let node = cluster.good(Side::Node);
    let junk = vec![0x16; 100_000];
    // A record of TLS that announces more than a handshake has, and its begin.
    let long = [&[0x16, 3, 1, 0x40, 0][..], &vec![1; 20_000]].concat();
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &junk, &long, &[0x17, 3, 3, 0, 1, 0], b"\x16", b""] {
        let (one, other) = memory::pair(1 << 20);
        let (one, other): Pair = (one, other);
        crate::handshake::write(&one, said).await.unwrap();
        if said.len() < 2 {
            one.shut();
        }
        let begun = SystemTime::now();
        let error = as_node(other.clone(), &node, pending()).await.unwrap_err();
        assert!(begun.elapsed().unwrap() < Duration::from_secs(5), "{error}");
        assert_eq!(error.counts_against_peer(), !said.is_empty(), "{error}");
        // What it has not read is still there.
        let mut rest = vec![0; 1 << 20];
        let mut left = 0;
        while let Ok(read @ 1..) = other.try_read(&mut rest) {
            left += read;
        }
        assert!(said.len() - left <= MAX_HANDSHAKE_BYTES, "{} bytes were read", said.len() - left);
    }
}

#[test]
fn files_that_can_not_be_used_are_named_with_what_helps() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let cluster = Cluster::new();
    let files = cluster.files();
    let load = || Credentials::load(files, Side::Node);
    assert!(load().unwrap().is_none(), "it has not been given one");
    cluster.good(Side::Node);
    assert_eq!(load().unwrap().unwrap().facts().name, "a-node");
    assert_eq!(fs::metadata(files.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    for path in [files.own(Side::Node), files.authority(), files.authority_key(), files.revoked()] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let good = fs::read(files.own(Side::Node)).unwrap();
    let said = |change: &dyn Fn()| {
        change();
        let said = load().unwrap_err().to_string();
        fs::write(files.own(Side::Node), &good).unwrap();
        fs::set_permissions(files.own(Side::Node), fs::Permissions::from_mode(0o600)).unwrap();
        said
    };
    let open = || fs::set_permissions(files.own(Side::Node), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(said(&open).contains("chmod 600"));
    let half = || fs::write(files.own(Side::Node), &good[..good.len() / 3]).unwrap();
    assert!(said(&half).contains("distfun join"));
    let manager = || {
        cluster.good(Side::Manager);
        fs::copy(files.own(Side::Manager), files.own(Side::Node)).map(drop).unwrap();
    };
    assert!(said(&manager).contains("does not fit the authority"));
    let old = || {
        cluster.authority.issue_here(Side::Node, "a-node", Duration::ZERO).unwrap();
    };
    assert!(said(&old).contains("not valid any more"));
    let headless = || fs::rename(files.authority(), files.dir().join("away")).unwrap();
    assert!(said(&headless).contains("ca.pem is missing"));
    fs::rename(files.dir().join("away"), files.authority()).unwrap();
    assert!(load().unwrap().is_some());
    assert!(matches!(Authority::create(files.clone()), Err(AuthorityError::ThereAlready { .. })));
    for bad in ["", "a b", "-x", "../x", "é", &"x".repeat(65)] {
        assert!(matches!(authority::check_name(bad), Err(AuthorityError::Name { .. })), "{bad}");
    }
}

#[test]
fn keys_show_nothing_of_themselves() {
    let cluster = Cluster::new();
    let Trust::Certificates(credentials) = cluster.good(Side::Manager) else { unreachable!() };
    let shown = format!("{credentials:?}");
    assert!(shown.contains("a-manager") && !shown.contains("key"), "{shown}");
}

fn machine(dir: &TempDir, name: &str) -> Files {
    Files::at(dir.path().join(name))
}
