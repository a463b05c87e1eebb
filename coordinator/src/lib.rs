//! Cordon: coordinator.
