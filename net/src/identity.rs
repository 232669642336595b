//! The cookie: the secret by which the programs of one user know each other.
//!
//! It is a file of 64 hexadecimal digits (32 random bytes) and a line end, so that it can be copied over whatever
//! carries text. Only its owner may read it: who has the cookie may run code as that user. On Windows the profile
//! directory keeps others out, and nothing else is checked. Keys of [`tls`](crate::tls) are kept like it.

use std::{
    env,
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
};

use rand::{TryRng, rngs::SysRng};

pub(crate) mod secret;
#[cfg(all(test, unix))]
mod tests;

pub use secret::{IdentityError, Secret};

use secret::platform;

pub use distfun_core::options::{COOKIE_VARIABLE, CREDENTIALS_VARIABLE};

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

/// Where credentials are unless told otherwise: `DISTFUN_CREDENTIALS`, else `credentials` where a cookie is that nothing
/// else names.
#[must_use]
pub fn default_credentials() -> PathBuf {
    credentials_from(|name| env::var_os(name))
}

fn path_from(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    given(&variable, COOKIE_VARIABLE).unwrap_or_else(|| home(&variable).join("cookie"))
}

fn credentials_from(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    given(&variable, CREDENTIALS_VARIABLE).unwrap_or_else(|| home(&variable).join("credentials"))
}

fn given(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The directory for what this user keeps.
fn home(variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    // A relative state directory would be another one in each working directory; XDG says to ignore it.
    let directory = |name| given(variable, name).filter(|path| path.is_absolute());
    let state = if cfg!(windows) {
        directory("LOCALAPPDATA")
    } else {
        directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))
    };
    state.map_or_else(platform::homeless_directory, |state| state.join("distfun"))
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
        Err(IdentityError::io(Secret::Cookie, "read", path, io::ErrorKind::NotFound.into()))
    }

    /// Reads the cookie. None if there is no such file.
    ///
    /// # Errors
    /// As [`load_or_create`](Self::load_or_create).
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(text) = secret::read(Secret::Cookie, path, MAX_FILE_BYTES)? else { return Ok(None) };
        let cookie = parse(&text).ok_or_else(|| IdentityError::Malformed { path: path.to_owned() })?;
        Ok(Some(Self(cookie)))
    }

    /// Makes the file. None if another made it in the meantime.
    fn create(path: &Path) -> Result<Option<Self>, IdentityError> {
        let cookie = Self::random().map_err(|cause| IdentityError::io(Secret::Cookie, "make", path, cause))?;
        let is_made = secret::create(Secret::Cookie, path, text(&cookie.0).as_bytes())?;
        Ok(is_made.then_some(cookie))
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
