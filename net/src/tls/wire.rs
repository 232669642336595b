//! A wire within a wire.

use std::{
    fmt, io,
    io::{IoSlice, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use rustls::Connection;

use super::{Credentials, Facts, PROTOCOL};
use crate::{
    handshake::{MAX_HANDSHAKE_BYTES, read},
    transport::Wire,
};

/// What is encrypted and not sent yet, at most; and what is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Records of a handshake, and alerts, begin with these.
const FIRST_BYTES: [u8; 2] = [0x15, 0x16];

/// How a peer has begun.
pub(crate) enum Shaken {
    /// As TLS does, and it is what its certificate says.
    Encrypted { wire: Arc<dyn Wire>, facts: Facts },
    /// With something else, of which this much was read. Nothing was said that depends on a secret.
    Foreign(Vec<u8>),
}

/// Meets a peer, of which at most [`MAX_HANDSHAKE_BYTES`] are read before it is known.
///
/// # Errors
/// What rustls says, within [`io::Error`], or the wire.
pub(crate) async fn shake(wire: &Arc<dyn Wire>, credentials: &Credentials) -> io::Result<Shaken> {
    let connection = credentials.connection().map_err(invalid)?;
    let connection = match negotiate(wire, connection).await? {
        Ok(connection) => connection,
        Err(foreign) => return Ok(Shaken::Foreign(foreign)),
    };
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let facts =
        certificate.and_then(Facts::read).ok_or_else(|| invalid(rustls::CertificateError::InvalidPurpose.into()))?;
    Ok(Shaken::Encrypted { wire: TlsWire::around(wire.clone(), connection), facts })
}

/// Until both sides have the same keys. The inner error: it began as TLS does not.
pub(super) async fn negotiate(
    wire: &Arc<dyn Wire>,
    mut connection: Connection,
) -> io::Result<Result<Connection, Vec<u8>>> {
    let mut buffer = [0; MAX_HANDSHAKE_BYTES];
    let mut have = 0;
    loop {
        send(wire, &mut connection).await?;
        if !connection.is_handshaking() {
            // One that says nothing of what it speaks is let through by TLS.
            if connection.alpn_protocol() != Some(PROTOCOL) {
                return Err(invalid(rustls::Error::NoApplicationProtocol));
            }
            return Ok(Ok(connection));
        }
        if have == buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the handshake is too long"));
        }
        let got = read(wire, &mut buffer[have..]).await?;
        if got == 0 {
            let kind = if have == 0 { io::ErrorKind::NotConnected } else { io::ErrorKind::UnexpectedEof };
            return Err(kind.into());
        }
        if have == 0 && !FIRST_BYTES.contains(&buffer[0]) {
            return Ok(Err(buffer[..got].to_vec()));
        }
        let mut new = &buffer[have..have + got];
        have += got;
        while !new.is_empty() {
            if connection.read_tls(&mut new)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(error) = connection.process_new_packets() {
                // It says why, if there is room for a few bytes.
                let _ = connection.write_tls(&mut Raw(&**wire));
                return Err(invalid(error));
            }
        }
    }
}

async fn send(wire: &Arc<dyn Wire>, connection: &mut Connection) -> io::Result<()> {
    while connection.wants_write() {
        match connection.write_tls(&mut Raw(&**wire)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(again) if again.kind() == io::ErrorKind::WouldBlock => {
                std::future::poll_fn(|context| wire.poll_write_ready(context)).await?;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Encrypts what is written to a wire, and decrypts what is read.
///
/// Both directions are behind one lock, since rustls has them in one value. It is held for one write, or one read with
/// what decrypts it, neither of which waits.
pub(super) struct TlsWire {
    inner: Arc<dyn Wire>,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    /// Read, and not decrypted: these of it.
    incoming: Vec<u8>,
    begin: usize,
    end: usize,
}

impl TlsWire {
    pub(super) fn around(inner: Arc<dyn Wire>, mut connection: Connection) -> Arc<dyn Wire> {
        connection.set_buffer_limit(Some(BUFFER_BYTES));
        Arc::new(Self { inner, state: Mutex::new(State { connection, incoming: Vec::new(), begin: 0, end: 0 }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sends what is encrypted.
    fn flush(&mut self, wire: &dyn Wire) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Raw(wire)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Decrypts some of what was read.
    fn decrypt(&mut self, wire: &dyn Wire) -> io::Result<()> {
        let mut new = &self.incoming[self.begin..self.end];
        let taken = self.connection.read_tls(&mut new)?;
        if taken == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes behind the end of TLS"));
        }
        self.begin += taken;
        let processed = self.connection.process_new_packets();
        // An alert that says why, or an answer to a change of keys; what has no room now goes with what is written next.
        let sent = self.flush(wire);
        processed.map_err(invalid)?;
        match sent {
            Err(cause) if cause.kind() != io::ErrorKind::WouldBlock => Err(cause),
            _ => Ok(()),
        }
    }
}

impl Wire for TlsWire {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        loop {
            match state.connection.reader().read(buffer) {
                Err(again) if again.kind() == io::ErrorKind::WouldBlock => {}
                // It was cut off, which what is said in it shows as well.
                Err(cut) if cut.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if state.begin == state.end {
                let State { incoming, .. } = &mut *state;
                incoming.resize(BUFFER_BYTES, 0);
                let got = self.inner.try_read(incoming)?;
                if got == 0 {
                    return Ok(0);
                }
                (state.begin, state.end) = (0, got);
            }
            state.decrypt(&*self.inner)?;
        }
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state();
        state.flush(&*self.inner)?;
        let taken = state.connection.writer().write_vectored(slices)?;
        match state.flush(&*self.inner) {
            Err(cause) if cause.kind() != io::ErrorKind::WouldBlock => Err(cause),
            _ => Ok(taken),
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        self.state().flush(&*self.inner)
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.state();
        if state.begin < state.end {
            return Poll::Ready(Ok(()));
        }
        drop(state);
        self.inner.poll_read_ready(context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_write_ready(context)
    }

    fn shut(&self) {
        let mut state = self.state();
        state.connection.send_close_notify();
        let _ = state.flush(&*self.inner);
        self.inner.shut();
    }

    fn peer(&self) -> String {
        self.inner.peer()
    }
}

impl fmt::Debug for TlsWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsWire").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// A wire as rustls writes to it.
struct Raw<'w>(&'w dyn Wire);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
