//! This machine's credentials, for and from other machines.

use std::path::PathBuf;

use distfun_net::handshake::{Side, Trust};
#[cfg(feature = "tls")]
use distfun_net::{
    identity::default_credentials,
    tls::{CredentialsError, Files, Learned, Watched},
};

#[cfg(feature = "tls")]
use crate::remote_node::with_source;

/// What this machine has to show as a Manager or as a node. Its files are looked at for every connection.
#[derive(Debug)]
pub(crate) struct Own {
    #[cfg(feature = "tls")]
    watched: Watched,
}

/// Without the feature `tls` there are none, and no connection that needs them.
#[cfg(feature = "tls")]
impl Own {
    /// Those of a directory, or of the usual one.
    pub(crate) fn of(role: Side, dir: Option<PathBuf>) -> Self {
        Self { watched: Watched::new(Files::at(dir.unwrap_or_else(default_credentials)), role) }
    }

    /// What to show; none if there is nothing.
    pub(crate) fn trust(&self) -> Result<Option<Trust>, String> {
        let now = self.watched.now().map_err(|error| with_source(&error))?;
        if let Some(own) = now.as_ref().filter(|own| self.is_revoked(&own.facts().serial)) {
            let name = &own.facts().name;
            let anew = match self.watched.files().authority_key().exists() {
                true => "run `distfun init` here",
                false => "to come back it has to join anew",
            };
            return Err(format!("the certificate of this machine, {name}, was revoked: {anew}"));
        }
        Ok(now.map(Trust::Certificates))
    }

    /// How a machine comes by a manager's certificate that has none.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.watched.files().cluster() {
            Ok(None) => {
                "run `distfun init` on this machine, once, then `distfun token`, and on the other the `distfun join …` that \
                 it says"
            }
            _ => {
                "run `distfun token --role manager` on the machine of `distfun init`, and on this one the `distfun join …` \
                 that it says"
            }
        }
    }

    /// The list of revoked certificates, for others.
    pub(crate) fn revocations(&self) -> Option<Vec<u8>> {
        self.watched.files().revocations().inspect_err(unlearned).ok().flatten()
    }

    /// Keeps the list that another machine has sent, if it is newer; ours, if that is newer.
    pub(crate) fn learn(&self, list: &[u8]) -> Option<Vec<u8>> {
        match self.watched.files().learn(list).inspect_err(unlearned) {
            Ok(Learned::IsOlder) => self.revocations(),
            _ => None,
        }
    }

    /// Whether the certificate of a peer has been revoked since it came.
    pub(crate) fn is_revoked(&self, serial: &str) -> bool {
        self.watched.is_revoked(serial).inspect_err(unlearned).unwrap_or(false)
    }
}

#[cfg(feature = "tls")]
fn unlearned(error: &CredentialsError) {
    tracing::warn!(error = with_source(error), "the list of revoked certificates can't be used");
}

#[cfg(not(feature = "tls"))]
impl Own {
    pub(crate) fn of(_: Side, _: Option<PathBuf>) -> Self {
        Self {}
    }

    pub(crate) fn trust(&self) -> Result<Option<Trust>, String> {
        Ok(None)
    }

    pub(crate) fn remedy(&self) -> &'static str {
        ""
    }

    pub(crate) fn revocations(&self) -> Option<Vec<u8>> {
        None
    }

    pub(crate) fn learn(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    pub(crate) fn is_revoked(&self, _: &str) -> bool {
        false
    }
}
