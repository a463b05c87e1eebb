//! The limits of every listener (R60), and the tonic server that carries them.

use std::time::Duration;

use tonic::transport::Server;

/// A control message: everything but chunks of content.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// A chunk of content.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// A message that carries a chunk: the chunk and what frames it.
pub const CHUNK_MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + (64 << 10);
/// A message between coordinators: a forwarded entry or a chunk.
pub const PEER_MESSAGE_BYTES_MAX: usize = CHUNK_MESSAGE_BYTES_MAX;
/// A batch of replication messages, whose entries the sender bounds.
pub const RAFT_MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A message with a playbook in it.
pub const PLAYBOOK_MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Which party a listener is for: each has its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// People.
    Operator,
    /// Endpoints.
    Agent,
    /// Coordinators.
    Peer,
    /// Endpoints-to-be.
    Enroll,
}

/// A server with the bounds of its party.
pub fn server(party: Party) -> Server {
    let streams = match party {
        Party::Operator => 64,
        Party::Agent => 16,
        Party::Peer => 256,
        Party::Enroll => 4,
    };
    // A stream's window is what a sender may have under way, and so what a slow reader may cost.
    let (stream_window, connection_window) = match party {
        Party::Agent | Party::Enroll => (64 << 10, 256 << 10),
        Party::Operator => (256 << 10, 1 << 20),
        Party::Peer => (2 << 20, 8 << 20),
    };
    Server::builder()
        .max_concurrent_streams(streams)
        .concurrency_limit_per_connection(streams as usize)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_pending_accept_reset_streams(Some(16))
        .http2_max_local_error_reset_streams(Some(64))
        .http2_max_header_list_size(16 << 10)
        .max_frame_size(64 << 10)
        .tcp_nodelay(true)
}
