//! The bytes of a command in the log: the engine's own encoding.

/// Encodes an entry, once: the same bytes go to the log and to every peer.
pub(super) fn encode(entry: &engine::Entry) -> Vec<u8> {
    entry.encode()
}

/// Decodes an entry.
pub(super) fn decode(bytes: &[u8]) -> Result<engine::Entry, String> {
    engine::Entry::decode(bytes).map_err(|e| e.to_string())
}
