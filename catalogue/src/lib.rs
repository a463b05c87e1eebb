//! Cordon: catalogue.
