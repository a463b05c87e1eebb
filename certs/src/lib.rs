//! Identities: CAs, issuing, SPIFFE names, and TLS that knows one role per listener.
//!
//! | module | noun |
//! |---|---|
//! | `spiffe` | [`SpiffeId`], [`Role`]: who a certificate speaks for |
//! | `leaf` | [`Leaf`]: what an end-entity certificate says, every rule of ours checked |
//! | `csr` | certificate requests: a proof that a key is held, and nothing more |
//! | `issue` | [`IssuingCa`]: one per role; composes all of a certificate but the key |
//! | `identity` | [`Identity`]: a key and its chain, in memory and in a folder |
//! | `roots` | [`Roots`]: the CAs that someone believes |
//! | `document` | signatures of documents from elsewhere, by keys that are none of ours |
//! | `files` | key files: 0600 in 0700, made exclusively, replaced in one step |
//! | `init` | the offline birth of a cluster: the only way to a first operator |
//! | `tls` | TLS 1.3, both sides |
//!
//! What holds: every key is ECDSA P-256; a certificate has exactly one name, a URI of the strict grammar; its
//! common name is never read; nobody is trusted on first use; there is no switch that trusts more.
//!
//! What is deliberately absent: CRLs and OCSP (the cluster replicates a denylist, consulted through
//! [`tls::DenialHook`]); session resumption; DNS names in certificates; other key types; an RPC or a
//! default that makes an operator.

pub mod csr;
pub mod document;
pub mod files;
pub mod identity;
pub mod init;
pub mod issue;
pub mod leaf;
pub mod roots;
pub mod spiffe;
pub mod tls;

pub use self::{
    csr::{CsrError, PrivateKey, key_sha256_of_csr, new_key_and_csr},
    files::FileError,
    identity::{Identity, IdentityError},
    issue::{
        AGENT_VALIDITY, CA_VALIDITY, COORDINATOR_VALIDITY, IssueError, IssuingCa, OPERATOR_VALIDITY, Validity,
    },
    leaf::{Leaf, LeafError, Serial},
    roots::{Roots, RootsError},
    spiffe::{Role, SpiffeError, SpiffeId},
};
