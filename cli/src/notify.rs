//! Tells a service manager how the node stands (`sd_notify(3)`), if one has started it.

use std::{env, ffi::OsString, io};

/// Where a service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Says `state`, as in `READY=1`; nothing where there is no service manager, and where it does not listen.
pub(crate) fn notify(state: &str) {
    if let Some(place) = env::var_os(VARIABLE) {
        let _ = send(&place, state);
    }
}

#[cfg(target_os = "linux")]
fn send(place: &OsString, state: &str) -> io::Result<()> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    };

    // A name that begins with @ is no file.
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send(_: &OsString, _: &str) -> io::Result<()> {
    Ok(())
}
