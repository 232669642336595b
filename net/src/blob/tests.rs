//! The cache on a real directory.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    thread,
    time::Duration,
};

use distfun_core::shared_data::Storage;
use ndarray::{Array1, ArrayView1};
use proptest::prelude::*;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &tempfile::TempDir) -> BlobCache {
    with_budget(dir, 1 << 30)
}

fn with_budget(dir: &tempfile::TempDir, bytes: u64) -> BlobCache {
    BlobCache::open(dir.path().join("blobs"), CacheLimits { bytes }).unwrap()
}

/// A blob that fills whole blocks of the disk, so that budgets can be counted out.
fn blob(seed: u8) -> (Vec<u8>, Digest) {
    let bytes: Vec<u8> = (0..16 << 10).map(|index: u32| (index % 251) as u8 ^ seed).collect();
    let digest = *blake3::hash(&bytes).as_bytes();
    (bytes, digest)
}

const BLOB: u64 = 16 << 10;

fn put(cache: &BlobCache, (bytes, digest): &(Vec<u8>, Digest)) -> Result<Lease, CacheError> {
    let mut receiving = cache.receive(*digest, bytes.len() as u64)?;
    let from = receiving.written() as usize;
    for piece in bytes[from..].chunks(5000) {
        receiving.append(piece)?;
    }
    match receiving.finish()? {
        Finished::There(lease) => Ok(lease),
        Finished::Again(_) => panic!("it was what it said"),
    }
}

fn whole(cache: &BlobCache, digest: &Digest) -> Option<Lease> {
    match cache.lookup(digest) {
        Found::Whole(lease) => Some(lease),
        Found::Partial { .. } | Found::Missing => None,
    }
}

fn offset(cache: &BlobCache, digest: &Digest) -> Option<u64> {
    match cache.lookup(digest) {
        Found::Partial { offset } => Some(offset),
        Found::Whole(_) | Found::Missing => None,
    }
}

/// What is in it, whatever its name is by now.
fn read(lease: &Lease) -> Vec<u8> {
    let mut bytes = vec![0; lease.len() as usize];
    lease.file().unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn names(cache: &BlobCache) -> Vec<String> {
    let names = fs::read_dir(cache.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn what_is_put_is_found_again_by_this_process_and_the_next() {
    let dir = folder();
    let cache = open(&dir);
    let (bytes, digest) = blob(1);
    assert!(matches!(cache.lookup(&digest), Found::Missing));
    let lease = put(&cache, &(bytes.clone(), digest)).unwrap();
    assert_eq!((lease.len(), lease.digest()), (BLOB, &digest));
    assert_eq!(fs::read(lease.path()).unwrap(), bytes);
    let metadata = fs::metadata(lease.path()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o400);
    assert_eq!(fs::metadata(cache.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(names(&cache), [dir::hex(&digest)]);
    drop(lease);
    for cache in [cache, open(&dir)] {
        assert_eq!(fs::read(whole(&cache, &digest).unwrap().path()).unwrap(), bytes);
        assert_eq!(cache.counts().damaged_count, 0);
    }
}

#[test]
fn an_empty_blob_is_a_blob() {
    let dir = folder();
    let cache = open(&dir);
    let empty = (vec![], *blake3::hash(b"").as_bytes());
    assert!(put(&cache, &empty).unwrap().is_empty());
    assert!(whole(&open(&dir), &empty.1).is_some());
}

#[test]
fn a_transfer_that_was_cut_goes_on_where_it_was() {
    let (bytes, digest) = blob(2);
    for cut in [0, 1, 4096, 5000, bytes.len() - 1, bytes.len()] {
        let dir = folder();
        let cache = open(&dir);
        let mut receiving = cache.receive(digest, BLOB).unwrap();
        receiving.append(&bytes[..cut]).unwrap();
        assert!(matches!(cache.lookup(&digest), Found::Missing), "somebody is at it");
        match cut {
            1 => assert!(matches!(receiving.finish(), Err(CacheError::Incomplete { written: 1, total: BLOB }))),
            _ => drop(receiving),
        }
        let cache = open(&dir);
        assert_eq!(offset(&cache, &digest), (cut > 0).then_some(cut as u64));
        let receiving = cache.receive(digest, BLOB).unwrap();
        assert_eq!(receiving.written(), cut as u64);
        drop(receiving);
        assert_eq!(fs::read(put(&cache, &(bytes.clone(), digest)).unwrap().path()).unwrap(), bytes);
        assert_eq!(names(&cache), [dir::hex(&digest)]);
    }
}

#[test]
fn a_process_that_ended_between_hash_and_name_left_what_is_sent_again_or_used() {
    let dir = folder();
    let cache = open(&dir);
    let (bytes, digest) = blob(3);
    let part = cache.0.dir.part(&digest);
    fs::write(&part, &bytes).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o400)).unwrap();
    drop(put(&cache, &(bytes, digest)).unwrap());
    assert_eq!(names(&cache), [dir::hex(&digest)]);
}

#[test]
fn a_part_that_is_wrong_is_sent_once_more_and_no_more() {
    let dir = folder();
    let cache = open(&dir);
    let (bytes, digest) = blob(4);
    fs::write(cache.0.dir.part(&digest), [0; 100]).unwrap();
    let mut receiving = cache.receive(digest, BLOB).unwrap();
    assert_eq!(receiving.written(), 100);
    receiving.append(&bytes[100..]).unwrap();
    let Finished::Again(mut receiving) = receiving.finish().unwrap() else { panic!("the start was wrong") };
    assert_eq!(receiving.written(), 0);
    assert!(whole(&cache, &digest).is_none());
    receiving.append(&bytes).unwrap();
    let Finished::There(lease) = receiving.finish().unwrap() else { panic!("now it is right") };
    assert_eq!(fs::read(lease.path()).unwrap(), bytes);

    let (wrong, digest) = (vec![7; 100], [7; 32]);
    let mut receiving = cache.receive(digest, 100).unwrap();
    receiving.append(&wrong).unwrap();
    let Finished::Again(mut receiving) = receiving.finish().unwrap() else { panic!("it is wrong") };
    receiving.append(&wrong).unwrap();
    let error = receiving.finish().unwrap_err();
    assert!(matches!(error, CacheError::Mismatch { .. }), "{error}");
    assert_eq!(names(&cache).len(), 1);
}

#[test]
fn a_part_that_is_too_long_begins_anew() {
    let dir = folder();
    let cache = open(&dir);
    let (bytes, digest) = blob(5);
    fs::write(cache.0.dir.part(&digest), vec![0; bytes.len() + 1]).unwrap();
    assert_eq!(cache.receive(digest, BLOB).unwrap().written(), 0);
    drop(put(&cache, &(bytes, digest)).unwrap());
}

#[test]
fn pieces_follow_one_another() {
    let dir = folder();
    let cache = open(&dir);
    let mut receiving = cache.receive([1; 32], 100).unwrap();
    receiving.write_at(0, &[1; 40]).unwrap();
    receiving.write_at(20, &[2; 10]).unwrap();
    assert_eq!((receiving.written(), receiving.total()), (40, 100));
    for (offset, len) in [(41, 1), (40, 61), (u64::MAX, 1), (0, 101)] {
        let error = receiving.write_at(offset, &vec![0; len]).unwrap_err();
        assert_eq!(error.to_string(), format!("a piece of {len} bytes at {offset} does not belong behind 40 of 100"));
    }
    assert_eq!(receiving.written(), 40);
}

#[test]
fn a_flipped_byte_is_noticed_and_mended() {
    let dir = folder();
    let (bytes, digest) = blob(6);
    drop(put(&open(&dir), &(bytes.clone(), digest)).unwrap());
    let flip = |cache: &BlobCache| {
        let path = cache.0.dir.entry(&digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut wrong = bytes.clone();
        wrong[9000] ^= 1;
        fs::write(&path, wrong).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    };
    let cache = open(&dir);
    flip(&cache);
    assert!(matches!(cache.lookup(&digest), Found::Missing));
    assert_eq!(cache.counts().damaged_count, 1);
    assert!(names(&cache).is_empty());
    drop(put(&cache, &(bytes.clone(), digest)).unwrap());
    drop(whole(&cache, &digest).unwrap());

    // It has been found good, and then somebody writes to it.
    thread::sleep(Duration::from_millis(20));
    flip(&cache);
    assert!(whole(&cache, &digest).is_none());
    assert_eq!(cache.counts().damaged_count, 2);
    drop(put(&cache, &(bytes.clone(), digest)).unwrap());
    assert_eq!(fs::read(whole(&cache, &digest).unwrap().path()).unwrap(), bytes);
}

#[test]
fn a_blob_that_was_found_good_is_not_read_again() {
    let dir = folder();
    let cache = open(&dir);
    let (bytes, digest) = blob(7);
    let lease = put(&cache, &(bytes.clone(), digest)).unwrap();
    // The same file by all that it is known by, and yet another content: only who reads it would notice.
    let modified = fs::metadata(lease.path()).unwrap().modified().unwrap();
    fs::set_permissions(lease.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().write(true).open(lease.path()).unwrap();
    file.write_all_at(&[!bytes[0]], 0).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(modified)).unwrap();
    assert!(whole(&cache, &digest).is_some());
    assert!(whole(&open(&dir), &digest).is_none(), "another process reads it");
}

#[test]
fn the_longest_unused_goes_first_and_what_is_in_use_stays() {
    let dir = folder();
    let cache = with_budget(&dir, 3 * BLOB);
    let blobs: Vec<_> = (10..16).map(blob).collect();
    for blob in &blobs[..3] {
        drop(put(&cache, blob).unwrap());
    }
    let there = |cache: &BlobCache| -> Vec<usize> {
        (0..blobs.len()).filter(|index| cache.0.dir.entry(&blobs[*index].1).exists()).collect()
    };
    assert_eq!(there(&cache), [0, 1, 2]);
    drop(whole(&cache, &blobs[0].1));
    drop(put(&cache, &blobs[3]).unwrap());
    assert_eq!(there(&cache), [0, 2, 3], "1 is the longest unused");
    let leases = [whole(&cache, &blobs[2].1).unwrap(), whole(&cache, &blobs[0].1).unwrap()];
    drop(whole(&cache, &blobs[3].1));
    drop(put(&cache, &blobs[4]).unwrap());
    assert_eq!(there(&cache), [0, 2, 4], "0 and 2 are in use");
    let last = whole(&cache, &blobs[4].1).unwrap();
    let error = put(&cache, &blobs[5]).unwrap_err();
    assert!(matches!(error, CacheError::InUse { needed: BLOB, limit, in_use } if limit == 3 * BLOB && in_use == limit));
    drop(last);
    drop(put(&cache, &blobs[5]).unwrap());
    assert_eq!(there(&cache), [0, 2, 5]);
    assert_eq!(cache.counts().evicted_count, 3);

    // Another process sees the leases as well.
    let other = with_budget(&dir, BLOB);
    assert_eq!(there(&other), [0, 2]);
    drop(leases);
    let other = with_budget(&dir, BLOB);
    assert_eq!(there(&other), [0], "0 was used last");
}

#[test]
fn a_blob_that_is_too_large_is_refused_with_both_numbers() {
    let dir = folder();
    let cache = with_budget(&dir, 1000);
    let text = cache.receive([1; 32], 1001).unwrap_err().to_string();
    assert_eq!(text, "a blob of 1001 bytes is more than the cache may hold in all, which is 1000: raise its limit");
    assert!(cache.receive([1; 32], u64::MAX).is_err());
    assert!(names(&cache).is_empty());
}

#[test]
fn a_cache_that_got_a_smaller_budget_is_cut_to_it() {
    let dir = folder();
    let cache = open(&dir);
    for seed in 20..25 {
        drop(put(&cache, &blob(seed)).unwrap());
    }
    assert_eq!(names(&with_budget(&dir, 2 * BLOB)).len(), 2);
    assert!(whole(&cache, &blob(24).1).is_some() && whole(&cache, &blob(23).1).is_some());
}

#[test]
fn two_who_receive_the_same_blob_do_not_meet() {
    let dir = folder();
    let (first, second) = (open(&dir), open(&dir));
    let (bytes, digest) = blob(8);
    let mut one = first.receive(digest, BLOB).unwrap();
    one.append(&bytes[..100]).unwrap();
    let mut two = second.receive(digest, BLOB).unwrap();
    assert_eq!(two.written(), 0);
    two.append(&[9; 50]).unwrap();
    one.append(&bytes[100..]).unwrap();
    let Finished::There(lease) = one.finish().unwrap() else { panic!("it was right") };
    two.append(&[9; 10]).unwrap();
    assert_eq!(fs::read(lease.path()).unwrap(), bytes);
    drop(two);
    assert_eq!(names(&first), [dir::hex(&digest)], "what can't be resumed is gone");
    // Who receives it once more makes another file; the one in use stays what it is.
    let inode = |lease: &Lease| lease.file().unwrap().metadata().unwrap().ino();
    let again = put(&second, &(bytes.clone(), digest)).unwrap();
    assert_ne!(inode(&again), inode(&lease));
    assert_eq!(read(&lease), bytes);
}

#[test]
fn threads_with_two_caches_on_one_directory_all_get_what_they_want() {
    let dir = folder();
    // Room for half of it, so that everything is evicted and sent again all the time.
    let caches = [with_budget(&dir, 8 * BLOB), with_budget(&dir, 8 * BLOB)];
    let blobs: Vec<_> = (30..38).map(blob).collect();
    thread::scope(|scope| {
        for number in 0..4 {
            let (cache, blobs) = (&caches[number % 2], &blobs);
            scope.spawn(move || {
                for round in 0..40 {
                    let one = &blobs[(round * 3 + number) % blobs.len()];
                    let lease = match whole(cache, &one.1) {
                        Some(lease) => lease,
                        None => match put(cache, one) {
                            Ok(lease) => lease,
                            Err(CacheError::InUse { .. }) => continue,
                            Err(error) => panic!("{error:?}"),
                        },
                    };
                    assert_eq!(read(&lease), one.0);
                }
            });
        }
    });
    assert_eq!(caches.each_ref().map(|cache| cache.counts().damaged_count), [0, 0]);
    assert!(names(&caches[0]).iter().all(|name| name.len() == 64), "{:?}", names(&caches[0]));
}

#[test]
fn what_processes_left_that_are_gone_is_swept() {
    let dir = folder();
    let cache = open(&dir);
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    let make = |path: PathBuf, is_old: bool| {
        fs::write(&path, "x").unwrap();
        if is_old {
            fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }
    };
    make(cache.0.dir.part(&[1; 32]), true);
    make(cache.0.dir.part(&[2; 32]), false);
    make(cache.0.dir.temporary(&[3; 32]), false);
    make(cache.dir().join("notes.txt"), true);
    make(cache.0.dir.part(&[5; 32]), true);
    let at_it = cache.receive([5; 32], 10).unwrap();
    let beside_it = cache.receive([5; 32], 10).unwrap();
    let busy_name = names(&cache).into_iter().find(|name| name.starts_with("0505") && name.ends_with(".tmp")).unwrap();
    open(&dir);
    let part = |byte| format!("{}.part", dir::hex(&[byte; 32]));
    assert_eq!(names(&cache), [part(2), busy_name, part(5), "notes.txt".to_owned()]);
    drop((at_it, beside_it));
    assert_eq!(names(&cache).len(), 3, "a part from before can be resumed");
}

#[test]
fn shared_data_is_mapped_once_and_keeps_its_blob() {
    let dir = folder();
    let x: Array1<f64> = Array1::from_shape_fn(BLOB as usize / 8 - 16, |index| index as f64);
    let sent = SharedData::builder().array("x", &x).unwrap().value("n", &7u32).unwrap().build().unwrap();
    let bytes = sent.image().bytes(0..u64::MAX).to_vec();
    let digest = sent.digest().unwrap();
    let cache = with_budget(&dir, 2 * BLOB);
    let lease = put(&cache, &(bytes, digest)).unwrap();
    let shared = cache.shared_data(&lease).unwrap();
    drop(lease);
    assert_eq!(shared.storage(), Storage::File);
    assert_eq!(shared.digest(), Some(digest));
    assert_eq!(shared.value::<u32>("n").unwrap(), &7);
    let view: ArrayView1<'_, f64> = shared.array("x").unwrap();
    assert_eq!(view, x);

    let again = cache.shared_data(&whole(&cache, &digest).unwrap()).unwrap();
    assert_eq!(again.array::<f64, ndarray::Ix1>("x").unwrap().as_ptr(), view.as_ptr());
    drop(again);
    for other in [&cache, &with_budget(&dir, 2 * BLOB)] {
        for seed in 40..43 {
            drop(put(other, &blob(seed)).unwrap());
        }
        assert!(cache.0.dir.entry(&digest).exists(), "it is in use");
    }
    fs::remove_file(cache.0.dir.entry(&digest)).unwrap();
    assert_eq!(view, x, "it is there as long as somebody has it");
    drop(shared);
    assert!(!cache.0.slots.is_in_use(&digest));
}

#[test]
fn a_blob_that_is_no_shared_data_is_an_error() {
    let dir = folder();
    let cache = open(&dir);
    let lease = put(&cache, &blob(9)).unwrap();
    let error = cache.shared_data(&lease).unwrap_err();
    assert_eq!(error.to_string(), "shared data is damaged: it does not start like shared data");
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    let dir = folder();
    let open = |path: PathBuf| BlobCache::open(path, CacheLimits::default()).map(drop);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let inner = dir.path().join("a/b");
    open(inner.clone()).unwrap();
    mode(&inner, 0o750);
    let error = open(inner.clone()).unwrap_err().to_string();
    assert!(error.ends_with("/a/b: others may use it (`chmod 700` it)"), "{error}");
    mode(&inner, 0o700);
    mode(&dir.path().join("a"), 0o777);
    assert!(matches!(open(inner.clone()), Err(CacheError::NotPrivate { .. })));
    mode(&dir.path().join("a"), 0o1777);
    open(inner).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(open(dir.path().join("file")).is_err());
    if let Err(error) = open("/proc/nowhere".into()) {
        assert!(error.to_string().starts_with("could not make /proc/nowhere"), "{error}");
    }
}

#[test]
fn handles_cross_threads() {
    fn holds<T: Send + Sync + 'static>() {}
    holds::<BlobCache>();
    holds::<Lease>();
    holds::<Receiving>();
    holds::<CacheError>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_cuts_end_in_the_whole_blob(cuts in prop::collection::vec(0usize..6000, 0..6)) {
        let dir = folder();
        let (bytes, digest) = blob(50);
        for cut in cuts {
            let mut receiving = open(&dir).receive(digest, BLOB).unwrap();
            let from = receiving.written() as usize;
            receiving.append(&bytes[from..(from + cut).min(bytes.len())]).unwrap();
        }
        let lease = put(&open(&dir), &(bytes.clone(), digest)).unwrap();
        prop_assert_eq!(fs::read(lease.path()).unwrap(), bytes);
    }
}
