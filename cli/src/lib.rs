//! Cordon: cli.
