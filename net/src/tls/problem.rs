//! What to say of a TLS handshake that failed.

use rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible};

use crate::handshake::Side;

const JOIN: &str = "`distfun join`, with what `distfun token` says on the machine of `distfun init`";

/// What is wrong with a peer that should be a `wanted`, behind its name; or with us, in its eyes.
pub(crate) fn problem(error: &Error, wanted: Side) -> String {
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer | Bad::BadSignature => {
                format!("has a certificate of another authority: if it is yours, run {JOIN}, there")
            }
            Bad::Expired | Bad::ExpiredContext { .. } => {
                format!(
                    "has a certificate whose time is over: run {JOIN}, there; if it is not, look at this machine's clock"
                )
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "has a certificate that is not valid yet: look at the clocks of both machines".into()
            }
            Bad::Revoked => "has a certificate that was revoked".into(),
            Bad::InvalidPurpose
            | Bad::InvalidPurposeContext { .. }
            | Bad::NotValidForName
            | Bad::NotValidForNameContext { .. } => {
                format!("has a certificate, but not that of a {wanted}")
            }
            other => format!("has a certificate that can't be believed: {other:?}"),
        },
        Error::NoCertificatesPresented => format!("shows no certificate: run {JOIN}, there"),
        Error::AlertReceived(alert) => match alert {
            Alert::UnknownCA | Alert::DecryptError => {
                format!("does not know the authority of this machine's certificate: run {JOIN}, on one of the two")
            }
            Alert::CertificateExpired => {
                format!(
                    "finds this machine's certificate out of its time: run {JOIN}, here; or look at the clocks of both"
                )
            }
            Alert::CertificateRevoked => "knows that this machine's certificate was revoked".into(),
            Alert::CertificateRequired => {
                format!("wants to see a certificate, and this machine has none: run {JOIN}, here")
            }
            Alert::UnsupportedCertificate | Alert::BadCertificate | Alert::AccessDenied => {
                "does not believe this machine's certificate, or not in this role".into()
            }
            Alert::NoApplicationProtocol => "has TLS, and is no distfun".into(),
            other => format!("refused the connection: {other:?}"),
        },
        Error::NoApplicationProtocol => "has TLS, and is no distfun".into(),
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            "knows other kinds of signatures".into()
        }
        Error::PeerIncompatible(_) => "has TLS, and of another version, or another kind".into(),
        other => format!("does not speak TLS as distfun does: {other}"),
    }
}

/// The same, where it came through a wire.
pub(crate) fn within(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
