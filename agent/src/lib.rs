//! Cordon: agent.
