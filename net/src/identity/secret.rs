//! Files that are their owner's alone: checked before they are read, complete before they have their name.

use std::{
    fmt,
    fs::{self, DirEntry, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{COOKIE_VARIABLE, CREDENTIALS_VARIABLE};

/// How the name of a file begins that is not complete.
const UNFINISHED: &str = ".distfun-";

/// Nobody takes so long to complete one.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// What is kept in a file for its owner alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Secret {
    /// What the programs of one user know each other by.
    Cookie,
    /// A certificate, or what belongs to one.
    Credential,
}

impl Secret {
    fn variable(self) -> &'static str {
        match self {
            Self::Cookie => COOKIE_VARIABLE,
            Self::Credential => CREDENTIALS_VARIABLE,
        }
    }

    /// What the variable names.
    fn place(self) -> &'static str {
        match self {
            Self::Cookie => "file",
            Self::Credential => "directory",
        }
    }

    /// How to get another one instead of that at `path`.
    fn anew(self, path: &Path) -> String {
        match self {
            Self::Cookie => format!("`rm {}` to get a new one", quoted(path)),
            Self::Credential => "`distfun init` or `distfun join` to get a new one".into(),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cookie => "cookie",
            Self::Credential => "credential",
        })
    }
}

/// Reads a file that must be its owner's alone. None if there is no such file.
///
/// # Errors
/// If others may read it, it is not this user's, or no file. It is left as it is.
pub(crate) fn read(secret: Secret, path: &Path, max_bytes: usize) -> Result<Option<Vec<u8>>, IdentityError> {
    platform::check_homeless(path)?;
    platform::check_around(secret, path)?;
    let file = match platform::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(platform::not_opened(secret, path, cause)),
    };
    let metadata = file.metadata().map_err(|cause| IdentityError::io(secret, "look at", path, cause))?;
    if !metadata.is_file() {
        return Err(IdentityError::NotAFile { secret, path: path.to_owned() });
    }
    platform::check_private(secret, path, &metadata)?;
    let mut text = Vec::with_capacity(max_bytes + 1);
    file.take(max_bytes as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|cause| IdentityError::io(secret, "read", path, cause))?;
    Ok(Some(text))
}

/// Makes such a file, and the directories that it lies in. False if there is one.
pub(crate) fn create(secret: Secret, path: &Path, bytes: &[u8]) -> Result<bool, IdentityError> {
    match complete(secret, path, bytes)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(IdentityError::io(secret, "make", path, refused.error)),
    }
}

/// The same, in the place of one that may be there.
#[cfg(feature = "tls")]
pub(crate) fn replace(secret: Secret, path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let made = complete(secret, path, bytes)?.persist(path);
    made.map(drop).map_err(|refused| IdentityError::io(secret, "make", path, refused.error))
}

/// Adds a line to such a file, which is on the disk when this returns. Lines of processes that do so at once do not mix.
#[cfg(feature = "authority")]
pub(crate) fn append(secret: Secret, path: &Path, line: &str) -> Result<(), IdentityError> {
    let add = || {
        let mut file = platform::append(path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()
    };
    add().map_err(|cause| IdentityError::io(secret, "write", path, cause))
}

/// Makes a directory for such files, and sees that they can be written there.
#[cfg(feature = "authority")]
pub(crate) fn prepare(secret: Secret, directory: &Path) -> Result<(), IdentityError> {
    complete(secret, &directory.join("any"), b"").map(drop)
}

/// Under another name, to be given its own: nobody reads half of it.
fn complete(secret: Secret, path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile, IdentityError> {
    let failed = |cause| IdentityError::io(secret, "make", path, cause);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    platform::create_directory(directory).map_err(failed)?;
    platform::check_homeless(path)?;
    platform::check_around(secret, path)?;
    sweep(directory);
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

/// Removes what processes have left that were killed before it had its name.
fn sweep(directory: &Path) {
    let is_left = |entry: &DirEntry| {
        let made = entry.metadata().and_then(|found| found.modified()).ok();
        let age = made.and_then(|made| made.elapsed().ok());
        entry.file_name().to_string_lossy().starts_with(UNFINISHED) && age.is_some_and(|age| age > LEFT_AFTER)
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(is_left) {
        let _ = fs::remove_file(entry.path());
    }
}

/// A cookie or a credential can't be used. Files are left as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Others than the owner may read or write it.
    #[error(
        "the {secret} {} has mode {mode:04o}, so others may use it: run `chmod 600 {}`, or {} if others may have read it",
        .path.display(), quoted(.path), .secret.anew(.path)
    )]
    NotPrivate {
        /// Of what kind.
        secret: Secret,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is another user's.
    #[error(
        "the {secret} {} belongs to user {owner} and this process runs as user {user}: run `sudo chown {user} {}`, or set \
         {} to a {} of this user", .path.display(), quoted(.path), .secret.variable(), .secret.place()
    )]
    ForeignOwner {
        /// Of what kind.
        secret: Secret,
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is a symbolic link, which whoever made it may point elsewhere.
    #[error(
        "the {secret} {} is a symbolic link: set {} to the {} that it leads to, or `rm {}`",
        .path.display(), .secret.variable(), .secret.place(), quoted(.path)
    )]
    SymbolicLink {
        /// Of what kind.
        secret: Secret,
        /// The link.
        path: PathBuf,
    },
    /// It is a directory, or something else that is no file.
    #[error("the {secret} {} is not a file: set {} to a {}", .path.display(), .secret.variable(), .secret.place())]
    NotAFile {
        /// Of what kind.
        secret: Secret,
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
    /// Others may write to the directory of the credentials.
    #[error(
        "the credentials in {} can be changed by others than user {user}: run `chown {user} {}` and `chmod 700 {}`, and look \
         whether they are still as they were", .path.display(), quoted(.path), quoted(.path)
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Who we are.
        user: u32,
    },
    /// The system refuses.
    #[error(
        "can't {doing} the {secret} {}: set {} to a {} that this process may read and make",
        .path.display(), .secret.variable(), .secret.place()
    )]
    Io {
        /// Of what kind.
        secret: Secret,
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
    pub(crate) fn io(secret: Secret, doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { secret, doing, path: path.to_owned(), cause }
    }
}

/// The path as a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,\\".contains(c);
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(unix)]
pub(super) mod platform {
    use std::{
        fs::{DirBuilder, Metadata, OpenOptions},
        os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    };

    use rustix::{fs::OFlags, io::Errno, process::geteuid};

    use super::*;

    /// What the file may be for others.
    const OTHERS: u32 = 0o077;

    pub(in crate::identity) fn homeless_directory() -> PathBuf {
        format!("/tmp/distfun-{}", geteuid().as_raw()).into()
    }

    /// Anybody may have made the directory in `/tmp`: it must be ours, if the cookie is to be there.
    pub(in crate::identity) fn check_homeless(path: &Path) -> Result<(), IdentityError> {
        let directory = homeless_directory();
        if path.starts_with(&directory) { check_directory(&directory) } else { Ok(()) }
    }

    /// Who may write to a directory of credentials could bring old ones back, among them a list of who was revoked.
    pub(in crate::identity) fn check_around(secret: Secret, path: &Path) -> Result<(), IdentityError> {
        const OTHERS_WRITE: u32 = 0o022;
        let Some(directory) = path.parent().filter(|_| secret == Secret::Credential) else { return Ok(()) };
        let user = geteuid().as_raw();
        match directory.metadata() {
            Ok(found) if found.is_dir() && (found.uid() != user || found.mode() & OTHERS_WRITE != 0) => {
                Err(IdentityError::OpenDirectory { path: directory.to_owned(), user })
            }
            _ => Ok(()), // what else it may be is told by what is done with it
        }
    }

    pub(in crate::identity) fn check_directory(directory: &Path) -> Result<(), IdentityError> {
        let user = geteuid().as_raw();
        match directory.symlink_metadata() {
            Ok(found) if found.is_dir() && found.uid() == user && found.mode() & OTHERS == 0 => Ok(()),
            Ok(_) => Err(IdentityError::SharedDirectory { path: directory.to_owned(), user }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(IdentityError::io(Secret::Cookie, "look for", directory, cause)),
        }
    }

    /// Those that are missing, for this user alone.
    pub(in crate::identity) fn create_directory(directory: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)
    }

    pub(in crate::identity) fn open(path: &Path) -> io::Result<File> {
        // Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
    }

    #[cfg(feature = "authority")]
    pub(in crate::identity) fn append(path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
    }

    pub(in crate::identity) fn not_opened(secret: Secret, path: &Path, cause: io::Error) -> IdentityError {
        // What a system says of a link differs, and a file of others may not even be opened: look once more, for the text.
        let found = path.symlink_metadata();
        let user = geteuid().as_raw();
        match found {
            Ok(found) if found.is_symlink() => IdentityError::SymbolicLink { secret, path: path.to_owned() },
            Ok(found) if found.uid() != user && Errno::from_io_error(&cause) == Some(Errno::ACCESS) => {
                IdentityError::ForeignOwner { secret, path: path.to_owned(), owner: found.uid(), user }
            }
            _ => IdentityError::io(secret, "open", path, cause),
        }
    }

    pub(in crate::identity) fn check_private(
        secret: Secret,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), IdentityError> {
        let user = geteuid().as_raw();
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != user {
            return Err(IdentityError::ForeignOwner { secret, path: path.to_owned(), owner, user });
        }
        if mode & OTHERS != 0 {
            return Err(IdentityError::NotPrivate { secret, path: path.to_owned(), mode });
        }
        Ok(())
    }
}

/// Compiled, but not run by us, on systems other than Unix.
#[cfg(not(unix))]
pub(super) mod platform {
    use std::fs::{self, Metadata};

    use super::*;

    pub(in crate::identity) fn homeless_directory() -> PathBuf {
        std::env::temp_dir().join("distfun")
    }

    pub(in crate::identity) fn check_homeless(_path: &Path) -> Result<(), IdentityError> {
        Ok(())
    }

    pub(in crate::identity) fn check_around(_secret: Secret, _path: &Path) -> Result<(), IdentityError> {
        Ok(())
    }

    pub(in crate::identity) fn create_directory(directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)
    }

    pub(in crate::identity) fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }

    #[cfg(feature = "authority")]
    pub(in crate::identity) fn append(path: &Path) -> io::Result<File> {
        File::options().append(true).open(path)
    }

    pub(in crate::identity) fn not_opened(secret: Secret, path: &Path, cause: io::Error) -> IdentityError {
        IdentityError::io(secret, "open", path, cause)
    }

    pub(in crate::identity) fn check_private(
        _secret: Secret,
        _path: &Path,
        _metadata: &Metadata,
    ) -> Result<(), IdentityError> {
        Ok(())
    }
}
