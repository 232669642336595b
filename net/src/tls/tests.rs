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

#[tokio::test]
async fn who_is_revoked_is_refused_from_then_on() {
    let cluster = Cluster::new();
    let watched = Watched::new(cluster.files().clone(), Side::Node);
    let manager = cluster.good(Side::Manager);
    let node = cluster.good(Side::Node);
    let now = || Trust::Certificates(watched.now().unwrap().unwrap());
    let (ours, theirs) = meet(&manager, &now()).await;
    ours.unwrap();
    theirs.unwrap();
    let revoked = cluster.authority.revoke("a-manager", None).unwrap();
    assert_eq!(revoked.iter().map(|known| known.role).collect::<Vec<_>>(), [Side::Manager]);
    let (ours, theirs) = meet(&manager, &now()).await;
    assert!(theirs.unwrap_err().to_string().contains("was revoked"));
    assert!(ours.unwrap_err().to_string().contains("this machine's certificate was revoked"));
    // The other way round, by a Manager that has read the list; its certificate is a new one.
    cluster.authority.revoke("a-node", Some(Side::Node)).unwrap();
    let (ours, theirs) = meet(&cluster.good(Side::Manager), &node).await;
    assert!(ours.unwrap_err().to_string().contains("was revoked"));
    assert!(theirs.is_err());
    assert!(matches!(cluster.authority.revoke("a-node", None), Err(AuthorityError::Unknown { .. })));
    assert!(matches!(cluster.authority.revoke("nobody", None), Err(AuthorityError::Unknown { .. })));
    let issued = cluster.authority.issued().unwrap();
    assert_eq!(issued.iter().filter(|known| known.is_revoked).count(), 2);
}

/// A record that was lost, or brought back from an old copy, must not make anybody believed again.
#[test]
fn who_was_revoked_stays_so_whatever_becomes_of_the_record() {
    let cluster = Cluster::new();
    let list = || cluster.files().read_revoked(cluster.authority.certificate()).unwrap().unwrap();
    cluster.good(Side::Manager);
    let first = cluster.authority.revoke("a-manager", None).unwrap()[0].serial.clone();
    let record = cluster.files().dir().join("issued");
    std::fs::remove_file(&record).unwrap();
    assert!(matches!(cluster.authority.issued(), Err(AuthorityError::NoRecord { .. })));
    assert!(
        cluster.authority.issue_here(Side::Node, "a-node", LIFE).is_err(),
        "what can't be written down is not signed"
    );
    std::fs::write(&record, "").unwrap();
    std::fs::set_permissions(&record, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    cluster.good(Side::Node);
    let second = cluster.authority.revoke("a-node", None).unwrap()[0].serial.clone();
    assert_eq!(certificate::listed(&list()), [first, second].into());
}

/// Whatever a process was killed between, the next one goes on with it.
#[test]
fn what_was_interrupted_is_completed() {
    use std::fs;
    let cluster = Cluster::new();
    let files = cluster.files();
    cluster.good(Side::Node);
    let old = fs::read(files.revoked()).unwrap();
    let serial = cluster.authority.revoke("a-node", None).unwrap()[0].serial.clone();
    assert!(cluster.authority.is_published().unwrap());
    // Killed behind the record, before the list.
    fs::write(files.revoked(), &old).unwrap();
    assert!(!cluster.authority.is_published().unwrap());
    assert_eq!(cluster.authority.revoke("a-node", None).unwrap()[0].serial, serial);
    assert!(files.is_revoked(&serial).unwrap());
    assert!(matches!(cluster.authority.revoke("a-node", None), Err(AuthorityError::Unknown { .. })));
    // Killed when only the key was there.
    for path in [files.authority(), files.revoked(), files.dir().join("issued")] {
        fs::remove_file(path).unwrap();
    }
    let again = Authority::open(files.clone()).unwrap().unwrap();
    assert_eq!(again.cluster(), cluster.authority.cluster());
    assert!(again.is_published().unwrap() && again.issued().unwrap().is_empty());
}

/// A list from an old copy must not have the number of another that others know already.
#[test]
fn many_who_revoke_at_once_lose_nothing() {
    let cluster = Cluster::new();
    for number in 0..12 {
        cluster
            .authority
            .sign(&authority::Request::new().unwrap().der, Side::Node, &format!("m{number}"), LIFE)
            .unwrap();
    }
    let serials: std::collections::HashSet<String> = std::thread::scope(|scope| {
        let revoke = |number: i32| {
            let files = cluster.files().clone();
            scope.spawn(move || {
                let authority = Authority::open(files).unwrap().unwrap();
                authority.revoke(&format!("m{number}"), None).unwrap()[0].serial.clone()
            })
        };
        (0..12).map(revoke).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let list = cluster.files().read_revoked(cluster.authority.certificate()).unwrap().unwrap();
    assert_eq!(certificate::listed(&list), serials);
}

#[test]
fn credentials_that_others_can_put_back_are_refused() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let cluster = Cluster::new();
    cluster.good(Side::Node);
    for (mode, is_refused) in [(0o777, true), (0o720, true), (0o755, false), (0o700, false)] {
        fs::set_permissions(cluster.files().dir(), fs::Permissions::from_mode(mode)).unwrap();
        let loaded = Credentials::load(cluster.files(), Side::Node);
        assert_eq!(loaded.as_ref().is_err_and(|error| error.to_string().contains("chmod 700")), is_refused, "{mode:o}");
    }
}

#[test]
fn a_list_counts_only_if_the_authority_has_signed_it() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let read = |cluster: &Cluster| cluster.files().read_revoked(cluster.authority.certificate()).unwrap().unwrap();
    let first = list_number(&read(&cluster), cluster.authority.certificate()).unwrap();
    cluster.good(Side::Node);
    cluster.authority.revoke("a-node", None).unwrap();
    assert!(list_number(&read(&cluster), cluster.authority.certificate()).unwrap() > first);
    assert_eq!(list_number(&read(&other), cluster.authority.certificate()), None);
    let forged = CertificateRevocationListParams {
        this_update: SystemTime::now().into(),
        next_update: (SystemTime::now() + LIFE).into(),
        crl_number: SerialNumber::from(9),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(1),
            revocation_time: SystemTime::now().into(),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let forged = forged.signed_by(other.authority.issuer()).unwrap();
    assert_eq!(list_number(forged.der(), cluster.authority.certificate()), None);
}

#[test]
fn machines_learn_from_each_other_who_was_revoked() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let list = |files: &Files| files.revocations().unwrap().unwrap();
    let ann = machine(&cluster.dir, "ann");
    assert_eq!(ann.learn(&list(cluster.files())).unwrap(), Learned::Nothing, "it is in no cluster");
    std::fs::create_dir(ann.dir()).unwrap();
    std::fs::copy(cluster.files().authority(), ann.authority()).unwrap();
    assert!(ann.revocations().unwrap().is_none());
    assert_eq!(ann.learn(&list(cluster.files())).unwrap(), Learned::Newer, "any is better than none");
    assert_eq!(list(&ann), list(cluster.files()));
    let old = list(&ann);
    cluster.good(Side::Node);
    let serial = cluster.authority.revoke("a-node", None).unwrap()[0].serial.clone();
    assert_eq!(cluster.files().learn(&old).unwrap(), Learned::IsOlder);
    assert_eq!(ann.learn(&list(cluster.files())).unwrap(), Learned::Newer);
    assert_eq!(ann.learn(&list(cluster.files())).unwrap(), Learned::Nothing);
    assert!(certificate::listed(&list(&ann).into()).contains(&serial));
    for worthless in [&list(other.files())[..], b"", &old[..old.len() - 1], &[&old[..], b"x"].concat()] {
        assert_eq!(ann.learn(worthless).unwrap(), Learned::Nothing);
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

/// Waits for machines to join, on loopback.
struct Waiting {
    admission: Arc<Admission>,
    task: tokio::task::JoinHandle<Vec<Joining>>,
}

impl Waiting {
    async fn of(cluster: &Cluster, role: Side, uses: usize, ttl: Duration) -> Self {
        let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let terms = Terms { role, uses, ttl, life: LIFE };
        let authority = Authority::open(cluster.files().clone()).unwrap().unwrap();
        let admission = Admission::new(authority, door.place(), terms).unwrap();
        let serving = admission.clone();
        let task = tokio::spawn(async move {
            let said = std::sync::Mutex::new(Vec::new());
            serving.serve(&door, |joining| said.lock().unwrap().push(joining)).await;
            said.into_inner().unwrap()
        });
        Self { admission, task }
    }

    fn token(&self) -> Token {
        self.admission.token().clone()
    }
}

fn machine(dir: &TempDir, name: &str) -> Files {
    Files::at(dir.path().join(name))
}

#[tokio::test]
async fn a_machine_joins_once_by_a_token_and_is_known_then() {
    let cluster = Cluster::new();
    let waiting = Waiting::of(&cluster, Side::Node, 1, Duration::from_secs(60)).await;
    // As it is written and read.
    let token: Token = waiting.token().text().parse().unwrap();
    assert_eq!(token, waiting.token());
    assert!(!format!("{token:?}").contains(&token.text()[token.text().len() - 32..]), "it keeps its secret");
    let ann = machine(&cluster.dir, "ann");
    let facts = join(&token, "ann", &ann, false).await.unwrap();
    assert_eq!((&*facts.name, facts.role), ("ann", Side::Node));
    let said = waiting.task.await.unwrap();
    assert!(matches!(&said[..], [Joining::Joined { name, .. }] if name == "ann"), "{said:?}");
    let node = Trust::Certificates(Arc::new(Credentials::load(&ann, Side::Node).unwrap().unwrap()));
    let (manager, node) = meet(&cluster.good(Side::Manager), &node).await;
    assert_eq!(manager.unwrap().1.machine.unwrap().name, "ann");
    node.unwrap();
    // Nobody waits any more.
    let again = join(&token, "eve", &machine(&cluster.dir, "eve"), false).await;
    assert!(matches!(again, Err(JoinError::Unreachable { .. })), "{again:?}");
}

#[tokio::test]
async fn tokens_are_used_up_and_grow_old() {
    let cluster = Cluster::new();
    let waiting = Waiting::of(&cluster, Side::Manager, 3, Duration::from_secs(60)).await;
    let token = waiting.token();
    // Many at once, and no more than may.
    let tries = (0..12).map(|number| {
        let (token, files) = (token.clone(), machine(&cluster.dir, &format!("m{number}")));
        tokio::spawn(async move { join(&token, &format!("m{number}"), &files, false).await.is_ok() })
    });
    let mut joined = 0;
    for one in tries.collect::<Vec<_>>() {
        joined += usize::from(one.await.unwrap());
    }
    assert_eq!(joined, 3);
    assert_eq!(cluster.authority.issued().unwrap().len(), 3);
    waiting.task.await.unwrap();

    let waiting = Waiting::of(&cluster, Side::Node, 1, Duration::from_millis(300)).await;
    let token = waiting.token();
    waiting.task.await.unwrap();
    assert!(join(&token, "late", &machine(&cluster.dir, "late"), false).await.is_err());
    assert_eq!(cluster.authority.issued().unwrap().len(), 3);
}

#[tokio::test]
async fn guesses_are_refused_and_few() {
    let cluster = Cluster::new();
    let waiting = Waiting::of(&cluster, Side::Node, 1, Duration::from_secs(60)).await;
    let guess = |byte: u8| Token { secret: [byte; 16], ..waiting.token() };
    let mut said = Vec::new();
    for byte in 0..8 {
        let error = join(&guess(byte), "eve", &machine(&cluster.dir, "eve"), false).await.unwrap_err();
        said.push(error);
    }
    let refused = said.iter().filter(|error| matches!(error, JoinError::Refused { .. })).count();
    assert_eq!(refused, 5, "an address has five in a minute: {said:?}");
    assert!(said[0].to_string().contains("not one that is valid now"), "{}", said[0]);
    assert!(cluster.authority.issued().unwrap().is_empty());
    assert!(!machine(&cluster.dir, "eve").dir().exists(), "nothing is left of it");
    waiting.task.abort();
}

#[tokio::test]
async fn the_secret_is_shown_to_the_authority_only() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let waiting = Waiting::of(&other, Side::Node, 1, Duration::from_secs(60)).await;
    // Somebody who sits at the address, and even has a copy of the certificate.
    let token = Token { address: waiting.token().address, ..Waiting::of(&cluster, Side::Node, 1, LIFE).await.token() };
    let error = join(&token, "ann", &machine(&cluster.dir, "ann"), false).await.unwrap_err();
    assert!(matches!(error, JoinError::OtherAuthority { .. }), "{error}");
    std::fs::copy(cluster.files().authority(), other.files().authority()).unwrap();
    let error = join(&token, "ann", &machine(&cluster.dir, "ann"), false).await.unwrap_err();
    assert!(error.to_string().contains("another authority"), "{error}");
    let said = waiting.admission.clone();
    waiting.task.abort();
    assert_eq!(said.left(), 1);
}

#[tokio::test]
async fn a_machine_of_another_cluster_stays_in_it_unless_told() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let ann = machine(&cluster.dir, "ann");
    let waiting = Waiting::of(&cluster, Side::Node, 2, Duration::from_secs(60)).await;
    join(&waiting.token(), "ann", &ann, false).await.unwrap();
    join(&waiting.token(), "ann", &ann, false).await.expect("it may join anew, as for a new certificate");
    let waiting = Waiting::of(&other, Side::Manager, 2, Duration::from_secs(60)).await;
    let error = join(&waiting.token(), "ann", &ann, false).await.unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    assert_eq!(ann.cluster().unwrap().unwrap(), cluster.authority.cluster());
    join(&waiting.token(), "ann", &ann, true).await.unwrap();
    assert_eq!(ann.cluster().unwrap().unwrap(), other.authority.cluster());
    assert!(Credentials::load(&ann, Side::Node).unwrap().is_none(), "what the old one gave is gone");
    // Not so an authority, which others depend on.
    let error = join(&waiting.token(), "bob", cluster.files(), true).await.unwrap_err();
    assert!(matches!(error, JoinError::IsAuthority { .. }), "{error}");
}

#[test]
fn only_whole_tokens_are_read() {
    let token = Token { address: "[::1]:2719".into(), fingerprint: [7; 32], id: [1; 4], secret: [0xab; 16] };
    let text = token.text();
    assert_eq!(text.parse(), Ok(token.clone()));
    assert_eq!(format!(" {text}\n").parse(), Ok(token));
    for end in 0..text.len() {
        assert!(text[..end].parse::<Token>().is_err(), "{}", &text[..end]);
    }
    for bad in ["dfj2.", "", "dfj1.x.", "DFJ1."] {
        assert!(format!("{bad}{}", &text[5..].replace(':', "")).parse::<Token>().is_err());
    }
    let error = text[1..].parse::<Token>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("abab"), "it is not shown");
}
