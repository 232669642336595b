//! The directory of a cache, and the names in it.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{error::CacheError, platform};
use crate::message::Digest;

/// Where blobs are kept unless told otherwise: what `DISTFUN_CACHE` names, or `distfun/blobs` in `XDG_CACHE_HOME`, or
/// `.cache/distfun/blobs` in `HOME`, or `/tmp/distfun-<uid>/blobs`. Names that are no absolute paths count as not given,
/// and so do the second and third if they are on a network filesystem, as homes on clusters often are.
pub fn default_dir() -> PathBuf {
    let named = ["DISTFUN_CACHE", "XDG_CACHE_HOME", "HOME"].map(env::var_os);
    // What is not there yet will be made on the filesystem of what is.
    let is_network = |path: &Path| path.ancestors().find(|path| path.exists()).is_some_and(platform::is_network);
    pick_dir(named, platform::user(), &is_network)
}

fn pick_dir(named: [Option<OsString>; 3], user: u32, is_network: &dyn Fn(&Path) -> bool) -> PathBuf {
    let [cache, xdg, home] = named.map(|name| name.map(PathBuf::from).filter(|path| path.is_absolute()));
    let [xdg, home] = [xdg, home].map(|path| path.filter(|path| !is_network(path)));
    cache
        .or_else(|| xdg.map(|xdg| xdg.join("distfun/blobs")))
        .or_else(|| home.map(|home| home.join(".cache/distfun/blobs")))
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/distfun-{user}/blobs")))
}

/// A directory that only this user can use.
pub(super) struct Dir(PathBuf);

/// What a file in it is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    Part,
    Temporary,
}

impl Dir {
    pub(super) fn open(path: PathBuf) -> Result<Self, CacheError> {
        platform::make_dir(&path).map_err(|cause| CacheError::io("make", &path, cause))?;
        // Links are followed once, here, so that what is checked is what is used.
        let look = |path: &Path| fs::metadata(path).map_err(|cause| CacheError::io("look at", path, cause));
        let path = path.canonicalize().map_err(|cause| CacheError::io("look at", &path, cause))?;
        if platform::is_network(&path) {
            return Err(CacheError::Network { dir: path });
        }
        let parent = path.parent().map(look).transpose()?;
        match platform::not_private(&look(&path)?, parent.as_ref()) {
            Some(why) => Err(CacheError::NotPrivate { dir: path, why }),
            None => Ok(Self(path)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn entry(&self, digest: &Digest) -> PathBuf {
        self.0.join(hex(digest))
    }

    pub(super) fn part(&self, digest: &Digest) -> PathBuf {
        self.0.join(format!("{}.part", hex(digest)))
    }

    /// A name that no other process or thread uses.
    pub(super) fn temporary(&self, digest: &Digest) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (pid, number) = (process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.0.join(format!("{}.{pid}-{number}.tmp", hex(digest)))
    }
}

pub(super) fn hex(digest: &Digest) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}

/// Of which blob a file is, and what of it. None for names that are not ours.
pub(super) fn parse(name: &str) -> Option<(Digest, Kind)> {
    let (stem, rest) = name.split_at_checked(64)?;
    let digest = *blake3::Hash::from_hex(stem).ok()?.as_bytes();
    let kind = match rest {
        "" => Kind::Whole,
        ".part" => Kind::Part,
        _ if rest.starts_with('.') && rest.ends_with(".tmp") => Kind::Temporary,
        _ => return None,
    };
    (hex(&digest) == stem).then_some((digest, kind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_directory_is_the_first_that_is_named() {
        let pick = |names: [&str; 3]| {
            let named = names.map(|name| (!name.is_empty()).then(|| name.into()));
            pick_dir(named, 7, &|path| path.starts_with("/net"))
        };
        assert_eq!(pick(["/c", "/x", "/h"]), Path::new("/c"));
        assert_eq!(pick(["", "/x", "/h"]), Path::new("/x/distfun/blobs"));
        assert_eq!(pick(["here", "there", "/h"]), Path::new("/h/.cache/distfun/blobs"));
        assert_eq!(pick(["", "", ""]), Path::new("/tmp/distfun-7/blobs"));
        assert_eq!(pick(["", "/net/x", "/h"]), Path::new("/h/.cache/distfun/blobs"));
        assert_eq!(pick(["", "", "/net/h"]), Path::new("/tmp/distfun-7/blobs"));
        assert_eq!(pick(["/net/c", "", ""]), Path::new("/net/c"), "it is refused when it is opened");
    }

    #[test]
    fn names_tell_what_they_are() {
        let dir = Dir("/d".into());
        let digest = [0xab; 32];
        let kind = |path: PathBuf| parse(path.file_name().unwrap().to_str().unwrap());
        assert_eq!(kind(dir.entry(&digest)), Some((digest, Kind::Whole)));
        assert_eq!(kind(dir.part(&digest)), Some((digest, Kind::Part)));
        assert_eq!(kind(dir.temporary(&digest)), Some((digest, Kind::Temporary)));
        assert_ne!(dir.temporary(&digest), dir.temporary(&digest));
        let hex = hex(&digest);
        for other in ["", "notes.txt", &hex[1..], &format!("{hex}x"), &hex.to_uppercase(), &format!("{hex}.partx")] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_name_can_be_asked(name in ".*") {
            prop_assert_eq!(parse(&name), None);
        }
    }
}
