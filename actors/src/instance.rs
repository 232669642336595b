//! What tells this run of the process from all others.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher, Hasher},
    io, process,
    sync::OnceLock,
    time::SystemTime,
};

/// Random, the same for the life of the process.
pub(crate) fn id() -> [u8; 16] {
    static ID: OnceLock<[u8; 16]> = OnceLock::new();
    *ID.get_or_init(|| {
        let mut id = [0; 16];
        for half in id.chunks_exact_mut(8) {
            // The standard library seeds each of these from the system's random numbers.
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u32(process::id());
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            hasher.write_u128(since.as_nanos());
            half.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        id
    })
}

/// BLAKE3 of the file this process was started from; of an own number if it can't be read, since then nothing is known to
/// be the same program.
pub(crate) fn program() -> [u8; 32] {
    static PROGRAM: OnceLock<[u8; 32]> = OnceLock::new();
    *PROGRAM.get_or_init(|| {
        // As it was started, whatever lies under its name by now.
        let path = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
        let hash = path.and_then(File::open).and_then(|mut file| {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut file, &mut hasher)?;
            Ok(hasher.finalize())
        });
        *hash.unwrap_or_else(|_| blake3::hash(&id())).as_bytes()
    })
}
