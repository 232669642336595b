//! What an executable needs of the machine it runs on, read from its file: nothing of it runs for that.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use object::{
    Endianness, FileKind,
    elf::{FileHeader64, PT_INTERP, VER_NEED_CURRENT},
    read::elf::{Dyn, FileHeader, ProgramHeader},
};

/// Of a dynamically linked program; a static one needs nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The program that loads it.
    pub(super) interpreter: Option<PathBuf>,
    /// Names of libraries.
    pub(super) libraries: Vec<String>,
    /// Versions of symbols, by library: `libc.so.6` needs `GLIBC_2.34` and others.
    pub(super) versions: BTreeMap<String, Vec<String>>,
}

/// Why a program can't run here, in words that say what to do.
pub(super) type Unfit = String;

type Header = FileHeader64<Endianness>;

/// Reads what `bytes`, a whole executable, need.
///
/// # Errors
/// It is no executable for machines like this one.
pub(super) fn read(bytes: &[u8]) -> Result<Needs, Unfit> {
    if FileKind::parse(bytes) != Ok(FileKind::Elf64) {
        return Err("it is no executable for 64-bit Linux".into());
    }
    let unreadable = |error: object::Error| format!("its executable can't be read: {error}");
    let header = Header::parse(bytes).map_err(unreadable)?;
    let endian = header.endian().map_err(unreadable)?;
    let machine = header.e_machine(endian);
    if Some(machine) != own_machine() {
        return Err(format!(
            "it is built for another processor (ELF machine {machine}); build it for {}",
            std::env::consts::ARCH
        ));
    }
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes).map_err(unreadable)? {
        if segment.p_type(endian) == PT_INTERP {
            let name = segment.data(endian, bytes).map_err(|()| "its loader's name lies outside of it".to_owned())?;
            let name = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
            needs.interpreter = Some(name.into());
        }
    }
    let sections = header.sections(endian, bytes).map_err(unreadable)?;
    if let Some((dynamic, link)) = sections.dynamic(endian, bytes).map_err(unreadable)? {
        let strings = sections.strings(endian, bytes, link).map_err(unreadable)?;
        for entry in dynamic {
            if entry.tag32(endian) == Some(object::elf::DT_NEEDED) {
                let name = entry.string(endian, strings).map_err(unreadable)?;
                needs.libraries.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    if let Some((mut all, link)) = sections.gnu_verneed(endian, bytes).map_err(unreadable)? {
        let strings = sections.strings(endian, bytes, link).map_err(unreadable)?;
        while let Some((need, mut auxiliary)) = all.next().map_err(unreadable)? {
            if need.vn_version.get(endian) != VER_NEED_CURRENT {
                continue;
            }
            let library = String::from_utf8_lossy(need.file(endian, strings).map_err(unreadable)?).into_owned();
            let versions = needs.versions.entry(library).or_default();
            while let Some(one) = auxiliary.next().map_err(unreadable)? {
                versions.push(String::from_utf8_lossy(one.name(endian, strings).map_err(unreadable)?).into_owned());
            }
        }
    }
    Ok(needs)
}

/// The ELF number of this machine's architecture.
fn own_machine() -> Option<u16> {
    match std::env::consts::ARCH {
        "x86_64" => Some(object::elf::EM_X86_64),
        "aarch64" => Some(object::elf::EM_AARCH64),
        "riscv64" => Some(object::elf::EM_RISCV),
        "powerpc64" => Some(object::elf::EM_PPC64),
        "s390x" => Some(object::elf::EM_S390),
        _ => None,
    }
}

impl Needs {
    /// That this machine has all of it.
    ///
    /// # Errors
    /// Names what is missing, and what there is.
    pub(super) fn check(&self) -> Result<(), Unfit> {
        const STATIC: &str = "or build it without need of any: RUSTFLAGS=\"-C target-feature=+crt-static\" cargo build \
                              --target x86_64-unknown-linux-gnu";
        let Some(interpreter) = &self.interpreter else { return Ok(()) };
        if !interpreter.exists() {
            return Err(format!(
                "its loader {} is not on this machine; install its libc, {STATIC}",
                interpreter.display()
            ));
        }
        let dirs = library_dirs();
        for library in &self.libraries {
            let Some(found) = dirs.iter().map(|dir| dir.join(library)).find(|path| path.exists()) else {
                return Err(format!(
                    "it needs the library {library}, which is not on this machine; install it, {STATIC}"
                ));
            };
            if let Some(versions) = self.versions.get(library) {
                check_versions(library, &found, versions, STATIC)?;
            }
        }
        Ok(())
    }
}

/// That the library at `path` has all of `versions`.
fn check_versions(library: &str, path: &Path, versions: &[String], remedy: &str) -> Result<(), Unfit> {
    let Some(there) = fs::read(path).ok().and_then(|bytes| defined_versions(&bytes)) else { return Ok(()) };
    let mut missing: Vec<&String> = versions.iter().filter(|version| !there.contains(version)).collect();
    missing.sort_by_key(|version| numbers(version));
    let Some(newest) = missing.pop() else { return Ok(()) };
    let prefix = newest.split('_').next().unwrap_or_default();
    let has =
        there.iter().filter(|version| version.split('_').next() == Some(prefix)).max_by_key(|version| numbers(version));
    let has = has.map_or("none", String::as_str);
    Err(format!(
        "it needs {newest} of {library}, and this machine has up to {has}; build it on a machine as old as this one, {remedy}"
    ))
}

/// `GLIBC_2.34` as numbers to be compared.
fn numbers(version: &str) -> Vec<u32> {
    let numbers = version.rsplit('_').next().unwrap_or_default();
    numbers.split('.').filter_map(|number| number.parse().ok()).collect()
}

/// The versions of symbols that a library has; none if that can't be read.
fn defined_versions(bytes: &[u8]) -> Option<Vec<String>> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (mut all, link) = sections.gnu_verdef(endian, bytes).ok()??;
    let strings = sections.strings(endian, bytes, link).ok()?;
    let mut versions = Vec::new();
    while let Some((_, mut auxiliary)) = all.next().ok()? {
        if let Some(name) = auxiliary.next().ok()? {
            versions.push(String::from_utf8_lossy(name.name(endian, strings).ok()?).into_owned());
        }
    }
    Some(versions)
}

/// Where the loader looks for libraries.
fn library_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    let configured = fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten();
    for file in configured.map(|entry| entry.path()).chain(["/etc/ld.so.conf".into()]) {
        let text = fs::read_to_string(file).unwrap_or_default();
        dirs.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from));
    }
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    for root in ["/lib", "/usr/lib"] {
        dirs.extend([root.into(), format!("{root}64").into(), PathBuf::from(root).join(&triple)]);
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this() -> Vec<u8> {
        fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn what_runs_here_can_run_here() {
        let needs = read(&this()).unwrap();
        needs.check().unwrap();
        if needs.interpreter.is_some() {
            assert!(needs.libraries.iter().any(|library| library.starts_with("libc.so")), "{needs:?}");
            assert!(needs.versions.values().flatten().any(|version| version.starts_with("GLIBC_2.")), "{needs:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let mut needs = read(&this()).unwrap();
        needs.interpreter =
            Some("/lib64/ld-linux-x86-64.so.2".into()).filter(|path: &PathBuf| path.exists()).or(needs.interpreter);
        needs.versions.entry("libc.so.6".into()).or_default().push("GLIBC_9.99".into());
        let why = needs.check().unwrap_err();
        assert!(why.contains("needs GLIBC_9.99 of libc.so.6, and this machine has up to GLIBC_2."), "{why}");
        assert!(why.contains("crt-static"), "{why}");
        needs.libraries.insert(0, "libquantum.so.7".into());
        let why = needs.check().unwrap_err();
        assert!(why.contains("needs the library libquantum.so.7"), "{why}");
        needs.interpreter = Some("/lib/ld-musl-quantum.so.1".into());
        assert!(needs.check().unwrap_err().contains("ld-musl-quantum"), "no loader");
    }

    #[test]
    fn what_is_no_executable_for_this_machine_is_refused() {
        let mut other = this();
        other[18] = 0xf3 ^ u8::from(std::env::consts::ARCH == "riscv64"); // e_machine
        other[19] = 0;
        for (bytes, expected) in [
            (&b"#!/bin/sh\n"[..], "no executable"),
            (b"", "no executable"),
            (b"\x7fELF", "no executable"),
            (&this()[..100], "can't be read"),
            (&other, "another processor"),
        ] {
            let why = read(bytes).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}
