//! One session over one TLS connection, as events for the driver.

use std::time::Duration;

use certs::Role;
use certs::tls::{ClientTls, ConnectOptions};
use proto::v1;
use proto::v1::agent_service_client::AgentServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::actions::AttemptKey;

use super::event::Outcome;

/// Messages that the connection has not taken yet; at more, it is given up.
const OUTGOING_MAX: usize = 256;
/// Messages of the coordinator.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// HTTP/2 windows: what a coordinator may send ahead. Small, for an idle agent is to be small.
const WINDOW_BYTES: u32 = 128 * 1024;

/// What the driver hears.
pub enum Event {
    /// The stream is about to be opened: what is put into `outgoing` is said on it.
    Connected {
        connection: u64,
        outgoing: mpsc::Sender<v1::AgentMessage>,
        channel: Channel,
    },
    /// The session is over, or never was.
    Lost { connection: u64, reason: String },
    /// The coordinator said something.
    Received {
        connection: u64,
        message: v1::CoordinatorMessage,
    },
    /// An attempt has ended.
    Ended { key: AttemptKey, outcome: Outcome },
}

/// Holds one session; why it ended.
pub async fn converse(
    connection: u64,
    endpoint: &str,
    within: Duration,
    tls: &ClientTls,
    events: &mpsc::Sender<Event>,
) -> String {
    let options = ConnectOptions {
        connect_timeout: within,
        stream_window_bytes: Some(WINDOW_BYTES),
        connection_window_bytes: Some(WINDOW_BYTES),
        ..ConnectOptions::default()
    };
    let channel = match certs::tls::connect(endpoint, tls, Role::Coordinator, options).await {
        Ok(channel) => channel,
        Err(error) => return error.to_string(),
    };
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    // Hello goes into the channel before the call, for a coordinator need not answer before it has read it.
    let connected = Event::Connected {
        connection,
        outgoing,
        channel: channel.clone(),
    };
    if events.send(connected).await.is_err() {
        return "the agent has ended".to_owned();
    }
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut incoming = match client.session(ReceiverStream::new(messages)).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return explain(endpoint, &status),
    };
    loop {
        match incoming.message().await {
            Ok(Some(message)) => {
                if events
                    .send(Event::Received { connection, message })
                    .await
                    .is_err()
                {
                    return "the agent has ended".to_owned();
                }
            }
            Ok(None) => return format!("{endpoint} ended the session"),
            Err(status) => return explain(endpoint, &status),
        }
    }
}

fn explain(endpoint: &str, status: &tonic::Status) -> String {
    match certs::tls::explain(status) {
        Some(reason) => format!("{endpoint}: {reason}"),
        None => format!("{endpoint}: {:?}: {}", status.code(), status.message()),
    }
}
