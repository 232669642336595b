//! What a cache does where there is no disk to speak of: full, read-only, not allowed, or limited.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    os::unix::{fs::MetadataExt, fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use distfun_net::blob::{BlobCache, CacheError, CacheLimits, Finished};

const MIB: u64 = 1 << 20;

/// In a child, the directory it is to use.
const CHILD: &str = "DISTFUN_BLOB_CACHE_TEST";

/// A small filesystem of its own, with a cache's directory in it.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }

    fn blobs(&self) -> PathBuf {
        self.0.path().join("blobs")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn open(dir: impl Into<PathBuf>) -> BlobCache {
    BlobCache::open(dir, CacheLimits::default()).unwrap()
}

fn put(cache: &BlobCache, bytes: &[u8]) -> Result<(), CacheError> {
    let mut receiving = cache.receive(*blake3::hash(bytes).as_bytes(), bytes.len() as u64)?;
    receiving.append(bytes)?;
    match receiving.finish()? {
        Finished::There(_) => Ok(()),
        Finished::Again(_) => panic!("it was what it said"),
    }
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_full_disk_is_an_error_before_anything_is_sent_and_leaves_nothing() {
    let Some(mount) = Mount::tmpfs("size=8m,mode=700") else {
        return println!("skipped: a tmpfs can't be mounted here");
    };
    let cache = open(mount.blobs());
    let error = cache.receive([1; 32], 64 * MIB).unwrap_err();
    let CacheError::Full { needed, free: Some(free), .. } = &error else { panic!("{error}") };
    assert!(*needed == 64 * MIB && *free <= 8 * MIB, "{error}");
    assert!(error.to_string().contains("name another directory with DISTFUN_CACHE"), "{error}");
    assert_eq!(count(&mount.blobs()), 0);
    // What was reserved for it is free again, and what nobody uses makes room for what is wanted now.
    put(&cache, &vec![1; 5 << 20]).unwrap();
    put(&cache, &vec![2; 5 << 20]).unwrap();
    assert_eq!((count(&mount.blobs()), cache.counts().evicted_count), (1, 1));
}

#[test]
fn a_read_only_filesystem_is_named() {
    let Some(mount) = Mount::tmpfs("size=8m,mode=700") else {
        return println!("skipped: a tmpfs can't be mounted here");
    };
    let cache = open(mount.blobs());
    put(&cache, b"before").unwrap();
    let done = Command::new("mount").args(["-o", "remount,ro"]).arg(mount.0.path()).status();
    assert!(done.unwrap().success());
    let error = put(&cache, b"after").unwrap_err();
    assert!(matches!(error, CacheError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("read-only filesystem"), "{error}");
    // What is there can be used.
    let found = open(mount.blobs()).lookup(blake3::hash(b"before").as_bytes());
    assert!(matches!(found, distfun_net::blob::Found::Whole(_)), "{found:?}");
}

/// Runs the test of this name in a child that a shell starts after `prepare`, as this user.
fn in_child(test: &str, prepare: &str, dir: &Path, user: Option<u32>) -> bool {
    let script = format!("{prepare} || exit 1\n[ -x \"$0\" ] || exit 77\nexec \"$0\" --exact {test} --nocapture");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(env::current_exe().expect("this program")).env(CHILD, dir);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let status = command.status().expect("a shell");
    assert!(status.success() || status.code() == Some(77), "{test}: {status}");
    status.success()
}

#[test]
fn missing_permission_is_named() {
    let Some(dir) = env::var_os(CHILD) else {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        let mut user = None;
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            // Nothing is ever forbidden to root.
            user = Some(65534);
            std::os::unix::fs::chown(&blobs, user, None).unwrap();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&blobs, fs::Permissions::from_mode(0o500)).unwrap();
        if !in_child("missing_permission_is_named", ":", &blobs, user) {
            println!("skipped: another user can't run this program");
        }
        return;
    };
    let error = put(&open(PathBuf::from(dir)), b"blob").unwrap_err();
    assert!(matches!(error, CacheError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("since permission is missing"), "{error}");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    let Some(dir) = env::var_os(CHILD) else {
        let dir = tempfile::tempdir().unwrap();
        let name = "a_limit_on_the_size_of_files_is_an_error_and_no_signal";
        assert!(in_child(name, "ulimit -f 2048", &dir.path().join("blobs"), None));
        return;
    };
    let cache = open(PathBuf::from(dir));
    let error = cache.receive([1; 32], 8 * MIB).unwrap_err();
    assert!(
        matches!(error, CacheError::FileLimit { needed, limit } if needed == 8 * MIB && limit <= 2 * MIB),
        "{error}"
    );
    assert_eq!(count(cache.dir()), 0);
    put(&cache, b"small").unwrap();
}

/// A process that is killed in the middle of a transfer leaves what the next one goes on with.
#[test]
fn a_killed_process_leaves_what_can_be_resumed() {
    let bytes = vec![3; 1 << 20];
    let digest = *blake3::hash(&bytes).as_bytes();
    if let Some(dir) = env::var_os(CHILD) {
        let cache = open(PathBuf::from(dir));
        let mut receiving = cache.receive(digest, MIB).unwrap();
        receiving.append(&bytes[..100_000]).unwrap();
        let _beside = cache.receive(digest, MIB).unwrap();
        assert_eq!(count(cache.dir()), 2);
        // The first signal that can't be caught: nothing is dropped.
        let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        unreachable!("killed");
    }
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "a_killed_process_leaves_what_can_be_resumed"]).env(CHILD, &blobs);
    assert!(!child.output().unwrap().status.success());
    assert_eq!(count(&blobs), 2);
    let cache = open(&blobs);
    assert_eq!(count(&blobs), 1, "what can't be resumed is swept");
    let mut receiving = cache.receive(digest, MIB).unwrap();
    assert_eq!(receiving.written(), 100_000);
    receiving.append(&bytes[100_000..]).unwrap();
    assert!(matches!(receiving.finish().unwrap(), Finished::There(_)));
}
