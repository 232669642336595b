//! The cookie: the secret by which the programs of one user know each other.
//!
//! It is a file of 64 hexadecimal digits (32 random bytes) and a line end, so that it can be copied over whatever
//! carries text. Only its owner may read it: who has the cookie may run code as that user. On Windows the profile
//! directory keeps others out, and nothing else is checked.

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rand::{TryRng, rngs::SysRng};

#[cfg(all(test, unix))]
mod tests;

/// Names the cookie file, before all other places.
pub const COOKIE_VARIABLE: &str = "DISTFUN_COOKIE";

/// Size of the secret in bytes.
pub(crate) const COOKIE_BYTES: usize = 32;

/// A file with more than the digits and a line end is not a cookie; no more of it is read than shows that.
const MAX_FILE_BYTES: usize = 2 * COOKIE_BYTES + 2;

/// Times that a file is looked for and made, while others remove it.
const MAX_TRIES: usize = 8;

/// Where the cookie is unless told otherwise: `DISTFUN_COOKIE`, else `distfun/cookie` in `XDG_STATE_HOME`, in
/// `HOME/.local/state`, or in the local application data on Windows; without a home, `/tmp/distfun-<uid>/cookie`.
#[must_use]
pub fn default_path() -> PathBuf {
    path_from(|name| env::var_os(name))
}

fn path_from(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let given = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative state directory would be another one in each working directory; XDG says to ignore it.
    let directory = |name| given(name).filter(|path| path.is_absolute());
    given(COOKIE_VARIABLE).unwrap_or_else(|| {
        let state = if cfg!(windows) {
            directory("LOCALAPPDATA")
        } else {
            directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))
        };
        let home = state.map_or_else(platform::homeless_directory, |state| state.join("distfun"));
        home.join("cookie")
    })
}

/// The secret that two programs of one user share. It never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie([u8; COOKIE_BYTES]);

impl Cookie {
    /// A cookie of these bytes, as for tests.
    #[must_use]
    pub fn from_bytes(bytes: [u8; COOKIE_BYTES]) -> Self {
        Self(bytes)
    }

    /// A new cookie, in no file.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn random() -> io::Result<Self> {
        random_bytes().map(Self)
    }

    /// Reads the cookie; makes the file, and the directories that it lies in, if there is none. Processes that do so at
    /// once agree on one.
    ///
    /// # Errors
    /// If others may read the file, or it is not this user's, or not a cookie. It is left as it is.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        platform::check_homeless(path)?;
        for _ in 0..MAX_TRIES {
            if let Some(cookie) = Self::load(path)? {
                return Ok(cookie);
            }
            if let Some(cookie) = Self::create(path)? {
                return Ok(cookie);
            }
        }
        Err(IdentityError::io("read", path, io::ErrorKind::NotFound.into()))
    }

    /// Reads the cookie. None if there is no such file.
    ///
    /// # Errors
    /// As [`load_or_create`](Self::load_or_create).
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let file = match platform::open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(platform::not_opened(path, cause)),
        };
        let metadata = file.metadata().map_err(|cause| IdentityError::io("look at", path, cause))?;
        if !metadata.is_file() {
            return Err(IdentityError::NotAFile { path: path.to_owned() });
        }
        platform::check_private(path, &metadata)?;
        let mut text = Vec::with_capacity(MAX_FILE_BYTES + 1);
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|cause| IdentityError::io("read", path, cause))?;
        let cookie = parse(&text).ok_or_else(|| IdentityError::Malformed { path: path.to_owned() })?;
        Ok(Some(Self(cookie)))
    }

    /// Makes the file. None if another made it in the meantime.
    fn create(path: &Path) -> Result<Option<Self>, IdentityError> {
        let failed = |cause| IdentityError::io("make", path, cause);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        platform::create_directory(directory).map_err(failed)?;
        platform::check_homeless(path)?;
        let cookie = Self::random().map_err(failed)?;
        // Complete under another name and then given its own, which fails if that is taken: nobody reads half a cookie.
        let mut file = tempfile::Builder::new().prefix(".cookie-").tempfile_in(directory).map_err(failed)?;
        file.write_all(text(&cookie.0).as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(Some(cookie)),
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(refused) => Err(failed(refused.error)),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; COOKIE_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// Bytes that nobody can guess, from the system itself: a generator within the process would repeat after a fork.
pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn text(secret: &[u8; COOKIE_BYTES]) -> String {
    let digits = secret.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).chain(['\n']).collect()
}

fn parse(text: &[u8]) -> Option<[u8; COOKIE_BYTES]> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.len() != 2 * COOKIE_BYTES {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let mut secret = [0; COOKIE_BYTES];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(secret)
}

/// The cookie can't be used. Files are left as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Others than the owner may read or write it.
    #[error(
        "the cookie {} has mode {mode:04o}, so others may use it: run `chmod 600 {}`, or `rm {}` to get a new one if \
         others may have read it", .path.display(), quoted(.path), quoted(.path)
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is another user's.
    #[error(
        "the cookie {} belongs to user {owner} and this process runs as user {user}: run `sudo chown {user} {}`, or set \
         {COOKIE_VARIABLE} to a file of this user", .path.display(), quoted(.path)
    )]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is a symbolic link, which whoever made it may point elsewhere.
    #[error(
        "the cookie {} is a symbolic link: set {COOKIE_VARIABLE} to the file that it leads to, or `rm {}`",
        .path.display(), quoted(.path)
    )]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
    /// It is a directory, or something else that is no file.
    #[error("the cookie {} is not a file: set {COOKIE_VARIABLE} to a file", .path.display())]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// It has no cookie in it.
    #[error(
        "the cookie {} is not 64 hexadecimal digits: run `rm {}`, and the next start makes a new one",
        .path.display(), quoted(.path)
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The directory that is used without a home is not this user's alone.
    #[error(
        "{} is not a directory of user {user} alone: run `rm -r {}`, or set {COOKIE_VARIABLE} to a file elsewhere",
        .path.display(), quoted(.path)
    )]
    SharedDirectory {
        /// The directory.
        path: PathBuf,
        /// Who we are.
        user: u32,
    },
    /// The system refuses.
    #[error("can't {doing} the cookie {}: set {COOKIE_VARIABLE} to a file that this process may read and make", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl IdentityError {
    fn io(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), cause }
    }
}

/// The path as a shell reads it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,\\".contains(c);
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(unix)]
mod platform {
    use std::{
        fs::{DirBuilder, Metadata, OpenOptions},
        os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    };

    use rustix::{fs::OFlags, io::Errno, process::geteuid};

    use super::*;

    /// What the file may be for others.
    const OTHERS: u32 = 0o077;

    pub(super) fn homeless_directory() -> PathBuf {
        format!("/tmp/distfun-{}", geteuid().as_raw()).into()
    }

    /// Anybody may have made the directory in `/tmp`: it must be ours, if the cookie is to be there.
    pub(super) fn check_homeless(path: &Path) -> Result<(), IdentityError> {
        let directory = homeless_directory();
        if path.parent() == Some(&directory) { check_directory(&directory) } else { Ok(()) }
    }

    pub(super) fn check_directory(directory: &Path) -> Result<(), IdentityError> {
        let user = geteuid().as_raw();
        match directory.symlink_metadata() {
            Ok(found) if found.is_dir() && found.uid() == user && found.mode() & OTHERS == 0 => Ok(()),
            Ok(_) => Err(IdentityError::SharedDirectory { path: directory.to_owned(), user }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(IdentityError::io("look for", directory, cause)),
        }
    }

    /// Those that are missing, for this user alone.
    pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        // Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
    }

    pub(super) fn not_opened(path: &Path, cause: io::Error) -> IdentityError {
        // What a system says of a link differs, and a file of others may not even be opened: look once more, for the text.
        let found = path.symlink_metadata();
        let user = geteuid().as_raw();
        match found {
            Ok(found) if found.is_symlink() => IdentityError::SymbolicLink { path: path.to_owned() },
            Ok(found) if found.uid() != user && Errno::from_io_error(&cause) == Some(Errno::ACCESS) => {
                IdentityError::ForeignOwner { path: path.to_owned(), owner: found.uid(), user }
            }
            _ => IdentityError::io("open", path, cause),
        }
    }

    pub(super) fn check_private(path: &Path, metadata: &Metadata) -> Result<(), IdentityError> {
        let user = geteuid().as_raw();
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != user {
            return Err(IdentityError::ForeignOwner { path: path.to_owned(), owner, user });
        }
        if mode & OTHERS != 0 {
            return Err(IdentityError::NotPrivate { path: path.to_owned(), mode });
        }
        Ok(())
    }
}

/// Compiled, but not run by us, on systems other than Unix.
#[cfg(not(unix))]
mod platform {
    use std::fs::{self, Metadata};

    use super::*;

    pub(super) fn homeless_directory() -> PathBuf {
        env::temp_dir().join("distfun")
    }

    pub(super) fn check_homeless(_path: &Path) -> Result<(), IdentityError> {
        Ok(())
    }

    pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }

    pub(super) fn not_opened(path: &Path, cause: io::Error) -> IdentityError {
        IdentityError::io("open", path, cause)
    }

    pub(super) fn check_private(_path: &Path, _metadata: &Metadata) -> Result<(), IdentityError> {
        Ok(())
    }
}
