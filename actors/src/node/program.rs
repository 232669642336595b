//! A program that a Manager has brought: checked before anything of it runs, then ready to be started for each slot.

use std::{
    env,
    ffi::OsString,
    fs::{File, Permissions},
    io::{self, Read, Seek, Write},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::Path,
};

use distfun_net::message;
use rustix::{
    fs::{MemfdFlags, SealFlags, StatVfsMountFlags},
    io::Errno,
};

use super::{
    brought::Refused,
    needs::{self, Unfit},
};
use crate::host::{self, cpu};

/// Largest program that is taken.
pub(super) const MAX_PROGRAM_BYTES: u64 = 512 << 20;

/// What a program gets of this process's environment; nothing of a Manager's travels.
const ENVIRONMENT: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    // Which GPUs there are must be the same for it as for this process, and where their libraries are.
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "VK_LOADER_DRIVERS_SELECT",
    "VK_LOADER_DRIVERS_DISABLE",
    "NODEVICE_SELECT",
    "VK_ICD_FILENAMES",
    "XDG_RUNTIME_DIR",
];

/// Checks what a Manager says of its program, before it is sent.
///
/// # Errors
/// It can't run here; the text has both sides' facts, and the remedy.
pub(super) fn check_facts(program: &message::Program) -> Result<(), Unfit> {
    let ours = host::target();
    if program.target != ours {
        return Err(format!("the program is built for {}, and this node is {ours}; build it for that", program.target));
    }
    if program.bytes > MAX_PROGRAM_BYTES {
        let (bytes, most) = (program.bytes, MAX_PROGRAM_BYTES);
        return Err(format!(
            "the program has {bytes} bytes, more than the {most} that are taken; build it with --release, or strip it"
        ));
    }
    let missing: Vec<_> =
        program.cpu_features.iter().filter(|feature| !cpu::has(feature)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the program is built for CPUs with {}, which this one has not; build it without -C target-cpu=native, or with features \
         that all machines have",
        missing.join(", ")
    ))
}

/// Makes a program of a file whose hash is right.
///
/// # Errors
/// It can't run here; the text has both sides' facts, and the remedy.
pub(super) fn prepare(mut file: File, facts: &message::Program, max_memory: Option<u64>) -> Result<Program, Refused> {
    let unreadable = |error: io::Error| Refused::for_now(format!("the program can't be read here: {error}"));
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(unreadable)?;
    needs::read(&bytes)?.check()?;
    drop(bytes);
    if may_not_run(&file) {
        file = in_memory(&mut file).map_err(|error| Refused {
            reason: format!(
                "the program can't be run from its directory, nor from memory: {error}; give the node another --cache"
            ),
            is_passing: host::is_passing(&error),
        })?;
    }
    let environment = ENVIRONMENT.iter().filter_map(|name| Some(((*name).to_owned(), env::var_os(name)?)));
    let environment: Vec<(String, OsString)> = environment.collect();
    let start = host::Program {
        path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        args: facts.args.clone(),
        environment: Some(environment),
        dir: Some("/".into()),
        log_level: facts.log_level,
        max_memory,
    };
    Ok(Program { start, _file: file })
}

/// A program that can run here.
#[derive(Debug)]
pub(super) struct Program {
    /// By the number of its file, which is why that is kept.
    pub(super) start: host::Program,
    _file: File,
}

/// Whether the file lies where nothing may be run from.
fn may_not_run(file: &File) -> bool {
    let executable = || file.set_permissions(Permissions::from_mode(0o500));
    executable().is_err()
        || rustix::fs::fstatvfs(file).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// The same bytes in memory, where they can be run and nobody can change them.
fn in_memory(file: &mut File) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let create = |flags| rustix::fs::memfd_create("distfun-program", flags);
    // Linux before 6.3 does not know that a file may be promised to be run.
    let copy = match create(flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => create(flags)?,
        other => other?,
    };
    let mut copy: File = copy.into();
    file.rewind()?;
    io::copy(file, &mut copy)?;
    copy.flush()?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    // Opened again for reading: what is open for writing can't be run.
    File::open(Path::new("/proc/self/fd").join(copy.as_raw_fd().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> message::Program {
        host::executable().unwrap().message().unwrap_or_else(|| message::Program {
            digest: [0; 32],
            bytes: 1000,
            args: Vec::new(),
            version: "0.1.0".into(),
            target: host::target(),
            cpu_features: Vec::new(),
            log_level: 0,
        })
    }

    #[test]
    fn facts_that_do_not_fit_are_refused_with_both_sides() {
        check_facts(&facts()).unwrap();
        let why = |program| check_facts(&program).unwrap_err();
        let other = why(message::Program { target: "aarch64-macos".into(), ..facts() });
        assert!(other.contains("built for aarch64-macos, and this node is "), "{other}");
        let features = vec!["sse2".into(), "avx1024".into()];
        let other = why(message::Program { cpu_features: features, ..facts() });
        assert!(other.contains("avx1024"), "{other}");
        let other = why(message::Program { bytes: 1 << 40, ..facts() });
        assert!(other.contains("1099511627776 bytes"), "{other}");
    }

    #[test]
    fn a_program_in_memory_runs_and_cannot_be_changed() {
        let mut file = File::open("/bin/true").unwrap();
        let copy = in_memory(&mut file).unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert!(std::process::Command::new(&path).status().unwrap().success());
        assert!(File::options().write(true).open(&path).and_then(|mut file| file.write_all(b"x")).is_err());
    }
}
