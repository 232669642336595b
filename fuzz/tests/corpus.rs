//! What fuzzing has found so far, and some thousand inputs more, without a fuzzer.
//!
//! `FUZZ_RUNS` says how many for each target (300), `FUZZ_SEED` which ones. `REWRITE=1` writes the seeds to `corpus/`.

use std::{env, fs, path::PathBuf};

use distfun_fuzz::{TARGETS, Target};

/// What no target needs, sanitizers and all: the limit that `.ci/long fuzz` gives to libFuzzer.
const MAX_MEMORY_KIB: u64 = 256 << 10;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// Seeds and what is kept, in an order that does not depend on the file system.
fn known(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder(target.name)).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    let kept = paths.iter().map(|path| fs::read(path).unwrap());
    (target.seeds)().into_iter().chain(kept).collect()
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

/// An input like the known ones: some bytes of one changed, added, left out or taken from another.
fn like(known: &[Vec<u8>], state: &mut u64) -> Vec<u8> {
    let pick = |state: &mut u64| &known[random(state) % known.len()];
    let mut input = pick(state).clone();
    for _ in 0..=random(state) % 6 {
        let at = random(state) % (input.len() + 1);
        let len = (random(state) % 9).min(input.len() - at);
        let byte = [0, 1, 0x7f, 0x80, 0xff, random(state) as u8][random(state) % 6];
        match random(state) % 5 {
            0 if at < input.len() => input[at] = byte,
            1 if at < input.len() => input[at] ^= 1 << (random(state) % 8),
            2 => drop(input.drain(at..at + len)),
            3 => drop(input.splice(at..at, vec![byte; len + 1])),
            _ => {
                let other = pick(state);
                let from = random(state) % (other.len() + 1);
                let until = (from + random(state) % 64).min(other.len());
                drop(input.splice(at..at + len, other[from..until].iter().copied()));
            }
        }
    }
    input
}

fn check(target: &Target) {
    let known = known(target);
    let stand = |input: &[u8]| {
        let keep = KeepOnPanic(target.name, input);
        (target.check)(input);
        std::mem::forget(keep);
    };
    known.iter().for_each(|input| stand(input));
    let mut state = number("FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..number("FUZZ_RUNS", 300) {
        stand(&like(&known, &mut state));
    }
}

/// Writes down the input that a target could not stand: `corpus/` is the place for it.
struct KeepOnPanic<'a>(&'a str, &'a [u8]);

impl Drop for KeepOnPanic<'_> {
    fn drop(&mut self) {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{}", self.0));
        fs::write(&path, self.1).unwrap();
        eprintln!("the input is {}", path.display());
    }
}

macro_rules! targets {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            check(TARGETS.iter().find(|target| target.name == stringify!($name)).unwrap());
            check_memory();
        }
    )*

        #[test]
        fn no_target_is_forgotten() {
            assert_eq!([$(stringify!($name)),*].to_vec(), TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}
targets!(frame_reader, hello, machines, messages, npy, payload, schema_difference, session, shared_image, view);

/// The most that this process ever had, where the system says so.
fn check_memory() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.unwrap_or_default() <= MAX_MEMORY_KIB, "{peak:?} KiB, more than {MAX_MEMORY_KIB}");
}

/// Hand-made beginnings are kept beside what was found, for fuzzers to start from.
#[test]
fn seeds_are_kept() {
    for target in TARGETS {
        let folder = folder(target.name);
        if env::var_os("REWRITE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            for (index, seed) in (target.seeds)().iter().enumerate() {
                fs::write(folder.join(format!("seed-{index:02}")), seed).unwrap();
            }
        }
        assert!(folder.is_dir(), "{} has no corpus", target.name);
    }
}
