//! What shared data asks of the machine: how much memory, and what it does when there is not enough.
//!
//! Each test runs its body in a process of its own, since limits, memory and deaths by signal are a process's.
//! `cargo test --release -p distfun-core --test shared_memory -- --ignored --nocapture` prints the figures of
//! `docs/PERFORMANCE.md`.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Instant,
};

use distfun_core::shared_data::{SharedData, SharedDataBuilder, SharedDataError, Storage};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2, Ix2, array};

const MIB: usize = 1 << 20;

/// In a child, the directory it is to use.
const CHILD: &str = "DISTFUN_SHARED_MEMORY_TEST";

fn child() -> Option<PathBuf> {
    env::var_os(CHILD).map(PathBuf::from)
}

/// Runs the test of this name in a child that is started by a shell after `prepare`.
fn in_child(test: &str, prepare: &str, dir: &Path) {
    let script = format!("set -e; {prepare}\nexec \"$0\" --exact {test} --nocapture --include-ignored");
    let mut command = Command::new("sh");
    let exe = env::current_exe().expect("this program");
    let status = command.args(["-c", &script]).arg(exe).env(CHILD, dir).status().expect("a shell");
    assert!(status.success(), "{test}: {status}");
}

/// `mib` MiB, written in place; the last thing the writer does is to call `done`.
fn filled<'a>(mib: usize, storage: Option<Storage>, done: impl FnOnce() + 'a) -> SharedDataBuilder<'a> {
    let fill = |mut view: ArrayViewMut2<'_, f64>| {
        let elements = view.as_slice_mut().expect("row-major");
        elements.iter_mut().enumerate().for_each(|(index, x)| *x = index as f64);
        done();
    };
    let builder = SharedData::builder().array_with("w", (mib, MIB / 8), fill).expect("a new key");
    match storage {
        Some(storage) => builder.storage(storage),
        None => builder,
    }
}

fn read(shared: &SharedData) -> f64 {
    let view: ArrayView2<'_, f64> = shared.array("w").expect("an array");
    let elements = view.as_slice().expect("row-major");
    assert_eq!(elements[elements.len() - 1], (elements.len() - 1) as f64);
    elements.iter().step_by(8).sum()
}

/// This process's proportional share of the memory it has mapped, in MiB.
fn share_mib() -> f64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux tells it");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

#[test]
fn data_is_in_memory_once_while_it_is_built_and_read() {
    let Some(_) = child() else {
        return in_child("data_is_in_memory_once_while_it_is_built_and_read", "", &env::temp_dir());
    };
    const SIZE: f64 = 256.0;
    for storage in [Storage::Memory, Storage::File] {
        let before = share_mib();
        let mut building = 0.0;
        let shared = filled(SIZE as usize, Some(storage), || building = share_mib() - before).build().unwrap();
        black_box(read(&shared));
        let reading = share_mib() - before;
        for share in [building, reading] {
            assert!((SIZE * 0.98..=SIZE * 1.02).contains(&share), "{storage:?}: {share} MiB for {SIZE}");
        }
        drop(shared);
        assert!(share_mib() - before < SIZE * 0.02, "all of it is given back");
    }
}

/// A directory that is a small filesystem of its own.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()).output();
        done.is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_directory_is_an_error_and_no_signal() {
    let Some(dir) = child() else {
        let Some(mount) = Mount::tmpfs("size=8m") else { return println!("skipped: a tmpfs can't be mounted here") };
        in_child("a_full_directory_is_an_error_and_no_signal", "", mount.0.path());
        assert_eq!(fs::read_dir(mount.0.path()).unwrap().count(), 0);
        return;
    };
    let build = |mib| filled(mib, Some(Storage::File), || ()).dir(&dir).build();
    let error = build(64).unwrap_err();
    let SharedDataError::NoSpace { needed, free: Some(free), .. } = &error else { panic!("{error}") };
    assert!(*needed > 64 << 20 && (1 << 20..64 << 20).contains(free), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("shared data needs 64.0 MiB in ") && text.contains(dir.to_str().unwrap()), "{text}");
    // What was allocated for it is free again.
    assert!(read(&build(6).unwrap()) > 0.0);
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    let Some(_) = child() else {
        let name = "a_limit_on_the_size_of_files_is_an_error_and_no_signal";
        return in_child(name, "ulimit -f 8192", &env::temp_dir());
    };
    for storage in [Storage::Memory, Storage::File] {
        let error = filled(64, Some(storage), || ()).build().unwrap_err();
        assert!(matches!(&error, SharedDataError::FileLimit { needed, .. } if *needed > 64 << 20), "{error}");
        let small = array![[1.0]];
        let shared = SharedData::builder().array("w", &small).unwrap().storage(storage).build().unwrap();
        assert_eq!(shared.array::<f64, Ix2>("w").unwrap(), small);
    }
}

/// A control group with a limit on memory. Removed when dropped.
struct Group(PathBuf);

impl Group {
    fn with_limit(bytes: usize) -> Option<Self> {
        let name = format!("distfun-test-{}", process::id());
        let tops = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        tops.into_iter().find_map(|(top, limit)| {
            let folder = Path::new(top).join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            let is_there = group.0.join(limit).exists() && group.0.join("cgroup.procs").exists();
            (is_there && fs::write(group.0.join(limit), bytes.to_string()).is_ok()).then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_control_group_with_less_memory_than_the_data_is_survived() {
    let Some(_) = child() else {
        let Some(group) = Group::with_limit(96 * MIB) else { return println!("skipped: no control group can be made") };
        let join = format!("echo $$ > {}/cgroup.procs", group.0.display());
        return in_child("a_control_group_with_less_memory_than_the_data_is_survived", &join, &env::temp_dir());
    };
    let small = filled(8, None, || ()).build().unwrap();
    assert_eq!(small.storage(), Storage::Memory);
    let medium = filled(64, None, || ()).build().unwrap();
    assert_eq!(medium.storage(), Storage::File, "it is more than half of what is left");
    drop(medium);

    let error = filled(256, Some(Storage::Memory), || ()).build().unwrap_err();
    let SharedDataError::TooLarge { needed, available } = &error else { panic!("{error}") };
    assert!(*needed > 256 << 20 && (40 << 20..96 << 20).contains(available), "{error}");
    let large = filled(256, None, || ()).build().unwrap();
    assert_eq!(large.storage(), Storage::File);
    assert!(read(&large) > 0.0 && read(&small) > 0.0);
}

fn milliseconds<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64() * 1e3, result)
}

/// Nanoseconds per turn, the median of several runs.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    const TURNS: u32 = 100_000;
    let mut runs: Vec<f64> = (0..15).map(|_| milliseconds(|| (0..TURNS).for_each(|_| work())).0).collect();
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2] * 1e6 / f64::from(TURNS)
}

#[test]
#[ignore = "prints figures, for a machine that does nothing else"]
fn figures() {
    if child().is_none() {
        return in_child("figures", "", &env::temp_dir());
    }
    println!("MiB   storage  build ms  first pass ms  later ms  share MiB  drop ms");
    for (mib, rounds) in [(64, 9), (1024, 5)] {
        for storage in [Storage::Memory, Storage::File].into_iter().cycle().take(2 * rounds) {
            let before = share_mib();
            let (build, shared) = milliseconds(|| filled(mib, Some(storage), || ()).build().unwrap());
            let (first, _) = milliseconds(|| black_box(read(&shared)));
            let (later, _) = milliseconds(|| black_box(read(&shared)));
            let share = share_mib() - before;
            let (end, ()) = milliseconds(|| drop(shared));
            println!("{mib:<5} {storage:<8?} {build:8.1} {first:14.1} {later:9.1} {share:10.1} {end:8.1}");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/npy/f8.npy");
    let weights = array![1.0, 2.0, 3.0];
    let builder =
        || SharedData::builder().array("weights", &weights).unwrap().value("name", &"text".to_owned()).unwrap();
    let (plain, mapped) = (builder().build().unwrap(), builder().npy("mapped", path).unwrap().build().unwrap());
    let ask = nanoseconds(|| {
        black_box(black_box(&plain).array::<f64, ndarray::Ix1>("weights").unwrap());
    });
    let value = nanoseconds(|| {
        black_box(black_box(&plain).value::<String>("name").unwrap());
    });
    let unchanged = [&plain, &mapped].map(|shared| nanoseconds(|| black_box(shared).check_unchanged().unwrap()));
    println!(
        "array() {ask:.0} ns, value() {value:.0} ns, check_unchanged() {:.0} ns, with a NumPy file {:.0} ns",
        unchanged[0], unchanged[1]
    );
    for storage in [Storage::Memory, Storage::File] {
        let (time, view) = milliseconds(|| {
            for _ in 0..100 {
                let shared = builder().storage(storage).build().unwrap();
                let view: ArrayView1<'_, f64> = shared.array("weights").unwrap();
                black_box(view.sum());
            }
        });
        let () = view;
        println!("a small one, {storage:?}: {:.0} us from builder to drop", time * 10.0);
    }
}

#[test]
fn programs_that_are_started_meanwhile_are_no_harm() {
    use std::{
        os::unix::{fs::MetadataExt, process::CommandExt},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    if child().is_none() {
        return in_child("programs_that_are_started_meanwhile_are_no_harm", "", &env::temp_dir());
    }
    let uid = fs::metadata("/proc/self").expect("this process").uid();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Asking for a user makes std fork, so that the child has all mappings until it becomes `true`.
                let _ = Command::new("true").uid(uid).status();
            }
        });
        for _ in 0..300 {
            let built = filled(1, Some(Storage::Memory), || ()).build();
            is_over.store(built.is_err(), Ordering::Relaxed);
            built.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
