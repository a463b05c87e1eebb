//! Cordon: proto.
