//! A failed handshake in words: what happened, and what to do about it.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::verify::RefusedPeer;

/// Most links of a chain of causes that are followed.
const CAUSES_MAX: usize = 16;

/// Looks through an error's causes for a TLS failure and explains it; None when there is none.
///
/// It works on the `io::Error` of a handshake as on the `tonic::Status` of a first call, where the
/// refusal of a client's certificate appears.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    for _ in 0..CAUSES_MAX {
        let here = cause?;
        if let Some(tls) = here.downcast_ref::<rustls::Error>() {
            return Some(in_words(tls));
        }
        // An io::Error that wraps another gives that one's causes as its own, so look inside first.
        cause = match here
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => here.source(),
        };
    }
    None
}

fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => format!(
            "the other side's certificate is refused: {}",
            certificate_in_words(reason)
        ),
        rustls::Error::AlertReceived(alert) => alert_in_words(*alert),
        rustls::Error::NoApplicationProtocol => {
            "the other side does not speak HTTP/2: it is not a listener of Cordon".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "the client showed no certificate".to_owned(),
        rustls::Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the other side does not speak TLS 1.3, and nothing older is allowed".to_owned(),
        rustls::Error::InvalidMessage(_) => "the other side does not speak TLS: check the port".to_owned(),
        other => other.to_string(),
    }
}

fn certificate_in_words(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; renew it, or check this machine's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check this machine's clock".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it was issued by a CA that is not trusted here (another cluster, or another role's port)"
                .to_owned()
        }
        CertificateError::Revoked => "it has been revoked".to_owned(),
        CertificateError::Other(other) => match other.0.downcast_ref::<RefusedPeer>() {
            Some(refused) => refused.to_string(),
            None => other.0.to_string(),
        },
        other => other.to_string(),
    }
}

/// An alert is the other side's word on our certificate.
fn alert_in_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "the server says that this certificate has expired or is not valid yet: renew it, or check the clocks".to_owned()
        }
        AlertDescription::CertificateRevoked => "the server says that this certificate has been revoked".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the server does not trust the CA of this certificate: it is of another cluster, or for another port".to_owned()
        }
        AlertDescription::CertificateRequired => "the server asks for a certificate, and none was shown".to_owned(),
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate | AlertDescription::AccessDenied => {
            "the server refuses this certificate: it is not for this port, or it breaks a rule".to_owned()
        }
        AlertDescription::NoApplicationProtocol => "the server refuses the protocol: it is not a listener of Cordon".to_owned(),
        AlertDescription::ProtocolVersion => "the server does not speak TLS 1.3".to_owned(),
        other => format!("the other side broke the handshake off ({other:?})"),
    }
}
