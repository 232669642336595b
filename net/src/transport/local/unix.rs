//! Unix domain sockets.

use std::{
    env, fs,
    io::{self, IoSlice},
    net::Shutdown,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
};

use rustix::{fs::FlockOperation, process::geteuid};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::check_name;
use crate::transport::{Listener, Wire};

/// A connected socket.
#[derive(Debug)]
pub struct LocalWire {
    stream: UnixStream,
    peer: String,
}

impl LocalWire {
    fn trusted(stream: UnixStream, path: &Path) -> io::Result<Arc<dyn Wire>> {
        let credentials = stream.peer_cred()?;
        let (uid, own) = (credentials.uid(), geteuid().as_raw());
        if uid != own && uid != 0 {
            let text =
                format!("the other side of {} is user {uid}; only user {own} and root are trusted", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let process = credentials.pid().map_or(String::new(), |pid| format!(" (process {pid})"));
        Ok(Arc::new(Self { stream, peer: format!("{}{process}", path.display()) }))
    }
}

/// One end of a pair of sockets, whose other end was handed to somebody who is trusted: `peer` says to whom.
///
/// # Errors
/// The runtime has no room for it.
pub fn of_pair(end: std::os::unix::net::UnixStream, peer: String) -> io::Result<Arc<dyn Wire>> {
    end.set_nonblocking(true)?;
    Ok(Arc::new(LocalWire { stream: UnixStream::from_std(end)?, peer }))
}

impl Wire for LocalWire {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(slices)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(context)
    }

    fn shut(&self) {
        // It fails if the other side was first.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }
}

/// Where the socket of this name is: `$XDG_RUNTIME_DIR/distfun/NAME.sock`, or `/tmp/distfun-UID/NAME.sock` if there is no
/// such directory. A path from the root is itself.
///
/// # Errors
/// The name is none that a file should have.
pub fn path_of(name: &str) -> io::Result<PathBuf> {
    if name.starts_with('/') {
        return Ok(name.into());
    }
    check_name(name)?;
    let directory = match env::var_os("XDG_RUNTIME_DIR").filter(|directory| Path::new(directory).is_dir()) {
        Some(directory) => Path::new(&directory).join("distfun"),
        None => PathBuf::from(format!("/tmp/distfun-{}", geteuid().as_raw())),
    };
    Ok(directory.join(format!("{name}.sock")))
}

/// Connects to the socket at `path`.
///
/// # Errors
/// Nobody listens there, or someone else does.
pub async fn connect(path: &Path) -> io::Result<Arc<dyn Wire>> {
    let stream = UnixStream::connect(path).await.map_err(|error| named(error, "no connection to", path))?;
    LocalWire::trusted(stream, path)
}

/// A listening socket, whose file is removed when it is dropped.
#[derive(Debug)]
pub struct LocalDoor {
    listener: UnixListener,
    path: PathBuf,
    /// Tells our file from one that took its place.
    identity: (u64, u64),
}

impl LocalDoor {
    /// Listens at `path`, whose directory is made if there is none. It has to be ours alone. A socket file that nobody
    /// listens at is what a process that was killed left there; it is replaced.
    ///
    /// # Errors
    /// The directory can be written to by others, somebody listens there already, or the system says no.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        own_directory(directory)?;
        // Of two processes that both find an old file, the second would remove the first one's new one.
        let lock = fs::File::open(directory)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(|error| named(error, "can't listen at", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let identity = identity(path)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Listener for LocalDoor {
    async fn accept(&self) -> io::Result<Arc<dyn Wire>> {
        let (stream, _) = self.listener.accept().await?;
        LocalWire::trusted(stream, &self.path)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for LocalDoor {
    fn drop(&mut self) {
        // As long as the listener is open nobody else takes the file for an old one.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the directory, or checks that the one that is there is ours alone: in `/tmp` anyone may have made it.
fn own_directory(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(named(error, "can't make the directory", directory));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    let own = geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
        let text = format!(
            "{} has to be a directory of user {own} that nobody else can write to; remove it, or chmod 700 it",
            directory.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(error, "can't look at", path)),
        Ok(found) if !found.file_type().is_socket() => {
            let text = format!("{} is there and is no socket; choose another name", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener that has too many waiting is one.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| named(error, "can't remove", path))
        }
        _ => {
            let text = format!("another process listens at {}; stop it, or choose another name", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn named(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
