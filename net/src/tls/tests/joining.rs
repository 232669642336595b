//! How machines come by their certificates, and who does not.

use super::*;

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
