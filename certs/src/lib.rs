//! Cordon: certs.
