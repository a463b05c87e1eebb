//! Cordon: engine.
