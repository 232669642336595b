//! One suite for every wire.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use super::{Listener, Wire, memory, tcp};

type Pair = (Arc<dyn Wire>, Arc<dyn Wire>);

async fn memory_pair() -> Pair {
    let (one, other) = memory::pair(10_000);
    (one, other)
}

async fn tcp_pair() -> Pair {
    let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = door.address().port();
    let (one, other) = tokio::join!(tcp::connect("127.0.0.1", port, Duration::from_secs(5)), door.accept());
    (one.unwrap(), other.unwrap())
}

#[cfg(unix)]
async fn local_pair() -> Pair {
    let directory = tempfile::tempdir().unwrap();
    let door = super::local::LocalDoor::bind(&directory.path().join("test.sock")).unwrap();
    let (one, other) = tokio::join!(super::local::connect(door.path()), door.accept());
    (one.unwrap(), other.unwrap())
}

#[cfg(feature = "authority")]
async fn tls_pair() -> Pair {
    crate::tls::tests::encrypted(tcp_pair().await).await
}

#[cfg(feature = "authority")]
async fn tls_in_memory_pair() -> Pair {
    crate::tls::tests::encrypted(memory_pair().await).await
}

async fn read(wire: &dyn Wire, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match wire.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| wire.poll_read_ready(context)).await?;
            }
            result => return result,
        }
    }
}

async fn write_all(wire: &dyn Wire, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let (one, other) = bytes.split_at(bytes.len() / 3);
        match wire.try_write_vectored(&[IoSlice::new(one), IoSlice::new(other)]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| wire.poll_write_ready(context)).await?;
            }
            written => bytes = &bytes[written?..],
        }
    }
    while let Err(error) = wire.try_flush() {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        poll_fn(|context| wire.poll_write_ready(context)).await?;
    }
    Ok(())
}

/// Reads to the end, `step` bytes at most at once.
async fn read_to_end(wire: &dyn Wire, step: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; step];
    loop {
        match read(wire, &mut buffer).await? {
            0 => return Ok(all),
            bytes => all.extend(&buffer[..bytes]),
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 253) as u8).collect()
}

async fn both_ways_at_once((one, other): Pair) {
    let sent = bytes(3 << 20);
    let echo = {
        let other = Arc::clone(&other);
        tokio::spawn(async move {
            let mut buffer = vec![0; 70_000];
            loop {
                match read(&*other, &mut buffer).await.unwrap() {
                    0 => return,
                    bytes => write_all(&*other, &buffer[..bytes]).await.unwrap(),
                }
            }
        })
    };
    let mut came = vec![0; sent.len()];
    let reading = async {
        let mut filled = 0;
        while filled < came.len() {
            filled += read(&*one, &mut came[filled..]).await.unwrap();
        }
    };
    let (written, ()) = tokio::join!(write_all(&*one, &sent), reading);
    written.unwrap();
    assert!(came == sent);
    one.shut();
    echo.await.unwrap();
}

async fn tiny_reads((one, other): Pair) {
    write_all(&*one, &bytes(2000)).await.unwrap();
    one.shut();
    assert_eq!(read_to_end(&*other, 1).await.unwrap(), bytes(2000));
}

async fn any_thread_writes((one, other): Pair) {
    let written = Arc::clone(&one);
    std::thread::spawn(move || written.try_write_vectored(&[IoSlice::new(b"hello"), IoSlice::new(b", you")]).unwrap())
        .join()
        .unwrap();
    let mut buffer = [0; 20];
    assert_eq!(read(&*other, &mut buffer).await.unwrap(), 10);
    assert_eq!(&buffer[..10], b"hello, you");
    assert!(!one.peer().is_empty() && !other.peer().is_empty());
}

async fn an_end_is_seen_by_both((one, other): Pair) {
    let waits = Arc::clone(&one);
    let waiting = tokio::spawn(async move { read_to_end(&*waits, 10).await });
    tokio::task::yield_now().await;
    one.shut();
    one.shut();
    assert_eq!(waiting.await.unwrap().unwrap(), []);
    assert_eq!(read_to_end(&*other, 10).await.unwrap(), []);
    assert!(write_all(&*one, b"more").await.is_err());
}

async fn a_lost_peer_is_seen((one, other): Pair) {
    write_all(&*other, b"last").await.unwrap();
    drop(other);
    assert_eq!(read_to_end(&*one, 10).await.unwrap(), b"last");
    // The first write may still go into the void.
    let sent = bytes(100_000);
    let mut result = Ok(());
    for _ in 0..1000 {
        result = write_all(&*one, &sent).await;
        if result.is_err() {
            break;
        }
    }
    assert!(result.is_err());
}

async fn who_waits_for_room_is_woken((one, other): Pair) {
    let sent = bytes(8 << 20);
    let write = {
        let sent = sent.clone();
        tokio::spawn(async move {
            write_all(&*one, &sent).await.unwrap();
            one.shut();
        })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!write.is_finished());
    assert!(read_to_end(&*other, 1 << 20).await.unwrap() == sent);
    write.await.unwrap();
}

macro_rules! suite {
    ($($wire:ident: $pair:ident, [$($test:ident),* $(,)?];)*) => {$(
        mod $wire {
            $(
                #[tokio::test]
                async fn $test() {
                    let test = super::$test(super::$pair().await);
                    tokio::time::timeout(std::time::Duration::from_secs(30), test).await.expect("it hangs");
                }
            )*
        }
    )*};
}

macro_rules! suites {
    ($($wire:ident: $pair:ident;)*) => {
        suite! {$(
            $wire: $pair, [
                both_ways_at_once,
                tiny_reads,
                any_thread_writes,
                an_end_is_seen_by_both,
                a_lost_peer_is_seen,
                who_waits_for_room_is_woken,
            ];
        )*}
    };
}

suites! {
    over_memory: memory_pair;
    over_tcp: tcp_pair;
}
#[cfg(unix)]
suites! {
    over_local_sockets: local_pair;
}
#[cfg(feature = "authority")]
suites! {
    over_tls: tls_pair;
    over_tls_in_memory: tls_in_memory_pair;
}

#[tokio::test]
async fn memory_can_be_frozen_and_cut() {
    let (one, other) = memory::pair(100);
    one.freeze(true);
    assert_eq!(other.try_read(&mut [0; 5]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(other.try_write_vectored(&[IoSlice::new(b"x")]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    other.freeze(false);
    write_all(&*one, b"x").await.unwrap();
    one.cut();
    assert_eq!(other.try_read(&mut [0; 5]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(one.try_read(&mut [0; 5]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

mod tcp_connections {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_address() {
        let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = door.address().port();
        drop(door);
        let error = tcp::connect("127.0.0.1", port, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().starts_with(&format!("no connection to 127.0.0.1:{port}: 127.0.0.1:{port}: ")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_name_is_tried_at_all_its_addresses() {
        // `localhost` may be ::1 first, where nobody listens.
        let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = door.address().port();
        let (one, other) = tokio::join!(tcp::connect("localhost", port, Duration::from_secs(5)), door.accept());
        assert_eq!(one.unwrap().peer(), door.place());
        other.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_that_names_it() {
        let door = tcp::TcpDoor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = tcp::TcpDoor::bind(door.address()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("can't listen at {}", door.address())), "{error}");
    }
}

#[cfg(unix)]
mod local_sockets {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::transport::local::{LocalDoor, connect, path_of};

    #[tokio::test]
    async fn the_file_is_ours_alone_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("distfun").join("a.sock");
        let door = LocalDoor::bind(&path).unwrap();
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LocalDoor::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(door);
        assert!(!path.exists());
        assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let door = LocalDoor::bind(&path).unwrap();
        let (one, other) = tokio::join!(connect(&path), door.accept());
        one.unwrap();
        other.unwrap();
    }

    #[tokio::test]
    async fn other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(LocalDoor::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        // A file that took the place of ours is not ours to remove.
        let path = directory.path().join("b.sock");
        let door = LocalDoor::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "new").unwrap();
        drop(door);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_others_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = LocalDoor::bind(&directory.path().join("a.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn names_are_names() {
        assert!(path_of("default").unwrap().ends_with("default.sock"));
        assert_eq!(path_of("/run/a/b").unwrap().to_str(), Some("/run/a/b"), "a path from the root is itself");
        for name in ["", "../a", "a/b", ".a", "a b", &"a".repeat(65)] {
            assert_eq!(path_of(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
