//! Items that want more memory than their process may have.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use distfun::{BuildError, Ending, FailureCause, Isolation, SettingsError, distribute, node};

use super::bare;
use crate::support::{END_WITHIN, eventually, within};

const LIMIT: u64 = 256 << 20;

/// Has so many mebibytes for itself, and says how many.
fn hungry(mebibytes: usize) -> usize {
    let memory = vec![1u8; mebibytes << 20];
    memory.iter().step_by(4096).map(|byte| usize::from(*byte)).sum::<usize>() >> 8
}

/// Has another process take it, of which the limit on what may be asked for knows nothing.
fn delegating(mebibytes: usize) -> bool {
    let script = format!("dd if=/dev/zero of=/dev/null bs={mebibytes}M count=1 2>/dev/null");
    Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success())
}

#[test]
fn who_wants_too_much_fails_alone_and_says_why() {
    within(|| {
        let node = node::start_programs(bare().slots(2).max_memory(LIMIT)).unwrap();
        for is_here in [true, false] {
            let dfun = match is_here {
                true => distribute!(hungry).slots(2).isolation(Isolation::Process).max_memory(LIMIT),
                false => distribute!(hungry).slots(0).machines([node.address()]),
            };
            let error = dfun.build().unwrap().map([10, 100, 4096, 20]).wait().unwrap_err();
            assert_eq!((error.failed.len(), error.failed[0].index), (1, 2), "{error}");
            assert_eq!(error.finished(), &[(0, 10), (1, 100), (3, 20)]);
            let FailureCause::Poisoned { deaths: 3, .. } = &error.failed[0].cause else { panic!("{error}") };
            let text = error.to_string();
            assert!(text.contains("wanted more than the 268435456 bytes of memory that max_memory allows"), "{text}");
        }
    });
}

/// Processes that die before they are what they should be, whatever is done.
#[test]
fn processes_that_never_start_end_the_call_with_their_last_words() {
    within(|| {
        let node = node::start_programs(bare().slots(2).max_memory(1 << 16)).unwrap();
        for is_here in [true, false] {
            let dfun = match is_here {
                true => distribute!(hungry).slots(2).isolation(Isolation::Process).max_memory(1 << 16),
                false => distribute!(hungry).slots(0).machines([node.address()]),
            };
            let start = Instant::now();
            let error = dfun.build().unwrap().map([1, 2]).wait().unwrap_err();
            assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
            assert_eq!(error.ending, Ending::NoWorkers);
            let text = error.to_string();
            // The loader of programs has its own words for it.
            assert!(text.contains("memory") || text.contains("failed to map"), "{text}");
            assert!(text.contains("its process"), "{text}");
        }
    });
}

/// Where this user may make groups in the memory controller, as root often may; elsewhere it shows nothing.
#[test]
fn what_a_function_starts_counts_too_where_there_are_groups() {
    within(|| {
        let dfun = distribute!(delegating).slots(1).isolation(Isolation::Process).max_memory(LIMIT);
        let dfun = dfun.endaftercall(false).build().unwrap();
        assert_eq!(dfun.map([10]).wait().unwrap(), [true]);
        let groups = groups();
        if groups.is_empty() {
            return println!("skipped: this user can't make groups in the memory controller");
        }
        assert_eq!(dfun.map([1000]).wait().unwrap(), [false], "it is killed, and the function sees that");
        dfun.finished().unwrap();
        // Those of other tests among them.
        eventually(END_WITHIN, "nothing is left", || groups.iter().all(|group| !group.exists()));
    });
}

/// Of hosts of this process.
fn groups() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let old = own.lines().find(|line| line.split(':').nth(1) == Some("memory"));
    let (line, mount) = match old {
        Some(line) => (line, "/sys/fs/cgroup/memory"),
        None => (own.lines().find(|line| line.starts_with("0::")).unwrap_or("0::/"), "/sys/fs/cgroup"),
    };
    let dir = PathBuf::from(format!("{mount}{}", line.rsplit_once(':').unwrap().1));
    let prefix = format!("distfun-{}-", std::process::id());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).map(|entry| entry.path()).collect()
}

#[test]
fn a_limit_of_memory_on_threads_is_refused() {
    let error = distribute!(hungry).max_memory(LIMIT).build().err();
    let Some(BuildError::Settings(SettingsError::MemoryOnThreads { by })) = error else { panic!("{error:?}") };
    assert_eq!(by, ".max_memory()");
}
