//! Certificates that are taken back.

use super::*;

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
    assert!(Watched::new(files.clone(), Side::Node).is_revoked(&serial).unwrap());
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
