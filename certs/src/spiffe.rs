//! SPIFFE names: who a certificate speaks for.
//!
//! `spiffe://<trust-domain>/(agent|coordinator|operator)/<id>` and nothing else. A name that exists as a
//! [`SpiffeId`] has passed the grammar, so nobody downstream checks it again. The grammar is narrower
//! than SPIFFE's own: no percent escapes, no upper case, no second path segment, no query.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest id, in bytes. An id is also a host name label and a file name, and both stop here.
pub const ID_LENGTH_MAX: usize = 63;

/// Longest trust domain, in bytes.
pub const TRUST_DOMAIN_LENGTH_MAX: usize = 253;

/// What a certificate may be used for. Each role has its own issuing CA and its own listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A person at the `cordon` command.
    Operator,
    /// The program on an endpoint.
    Agent,
    /// A member of the cluster, both as server and towards its peers.
    Coordinator,
}

impl Role {
    /// Every role, in the order in which files and listeners name them.
    pub const ALL: [Role; 3] = [Role::Operator, Role::Agent, Role::Coordinator];

    /// The word in the name's path, which is also the stem of the CA's files.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Agent => "agent",
            Role::Coordinator => "coordinator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Role, SpiffeError> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| SpiffeError::Role(clip(text)))
    }
}

/// A parsed name. Cloning shares the text, because every request carries one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: Arc<str>,
    role: Role,
    id: Arc<str>,
}

impl SpiffeId {
    /// Puts a name together from its parts.
    ///
    /// # Errors
    /// When the trust domain or the id breaks the grammar.
    pub fn new(trust_domain: &str, role: Role, id: &str) -> Result<SpiffeId, SpiffeError> {
        check_trust_domain(trust_domain)?;
        check_id(id)?;
        Ok(SpiffeId {
            trust_domain: trust_domain.into(),
            role,
            id: id.into(),
        })
    }

    /// The fleet that the name belongs to, e.g. `cordon.internal`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The role that the name claims, which the issuing CA must match.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The last segment, `[a-z0-9-]{1,63}`.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.trust_domain, self.role, self.id)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<SpiffeId, SpiffeError> {
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| SpiffeError::Scheme(clip(text)))?;
        let mut parts = rest.split('/');
        let (Some(trust_domain), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SpiffeError::Shape(clip(text)));
        };
        check_trust_domain(trust_domain)?;
        SpiffeId::new(trust_domain, role.parse()?, id)
    }
}

/// Why a text is not a name of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    #[error("`{0}` is not a SPIFFE name: it must start with `spiffe://`")]
    Scheme(String),
    #[error("`{0}` must be `spiffe://<trust-domain>/<role>/<id>`, three parts and no more")]
    Shape(String),
    #[error("`{0}` is not a role: use `operator`, `agent` or `coordinator`")]
    Role(String),
    #[error("`{0}` is not an id: use 1 to 63 of a-z, 0-9 and `-`")]
    Id(String),
    #[error(
        "`{0}` is not a trust domain: use labels of a-z, 0-9 and `-`, joined by dots, at most 253 characters"
    )]
    TrustDomain(String),
}

/// Checks an id by itself, for those who name something before it has a certificate.
///
/// # Errors
/// [`SpiffeError::Id`] unless it is 1 to 63 of `a-z`, `0-9` and `-`.
pub fn check_id(id: &str) -> Result<(), SpiffeError> {
    if (1..=ID_LENGTH_MAX).contains(&id.len()) && id.bytes().all(is_label_byte) {
        Ok(())
    } else {
        Err(SpiffeError::Id(clip(id)))
    }
}

/// Checks a trust domain by itself.
///
/// # Errors
/// [`SpiffeError::TrustDomain`] unless it is dot-separated labels of `a-z`, `0-9` and `-`, at most 253 bytes.
pub fn check_trust_domain(domain: &str) -> Result<(), SpiffeError> {
    let labels_hold = domain
        .split('.')
        .all(|label| (1..=ID_LENGTH_MAX).contains(&label.len()) && label.bytes().all(is_label_byte));
    if labels_hold && domain.len() <= TRUST_DOMAIN_LENGTH_MAX {
        Ok(())
    } else {
        Err(SpiffeError::TrustDomain(clip(domain)))
    }
}

fn is_label_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

/// Error texts reach logs and terminals, and the text may come from an attacker's certificate.
fn clip(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_the_round_trip() {
        let text = "spiffe://cordon.internal/agent/web-01";
        let name: SpiffeId = text.parse().unwrap();
        assert_eq!(
            (name.trust_domain(), name.role(), name.id()),
            ("cordon.internal", Role::Agent, "web-01")
        );
        assert_eq!(name.to_string(), text);
    }

    #[test]
    fn everything_outside_the_grammar_is_refused() {
        let long = format!("spiffe://d/agent/{}", "a".repeat(64));
        for text in [
            "",
            "https://d/agent/a",
            "SPIFFE://d/agent/a",
            "spiffe://d/agent",
            "spiffe://d/agent/",
            "spiffe://d/agent/a/",
            "spiffe://d/agent/a/b",
            "spiffe://d//a",
            "spiffe:///agent/a",
            "spiffe://d/Agent/a",
            "spiffe://d/agents/a",
            "spiffe://d/agent/A",
            "spiffe://d/agent/a_b",
            "spiffe://d/agent/a%2f",
            "spiffe://d/agent/a?x=1",
            "spiffe://d/agent/a#f",
            "spiffe://d:80/agent/a",
            "spiffe://u@d/agent/a",
            "spiffe://d..e/agent/a",
            "spiffe://d./agent/a",
            "spiffe://d/agent/a\0",
            "spiffe://d/agent/ä",
            " spiffe://d/agent/a",
            "spiffe://d/agent/a\n",
            long.as_str(),
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?} was accepted");
        }
    }
}
