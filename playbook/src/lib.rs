//! Cordon: playbook.
