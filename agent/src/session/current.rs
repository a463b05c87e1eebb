//! The connection that the session stands on, for whoever else has something to send.

use tokio::sync::watch;
use tonic::transport::Channel;

/// Clones share the same view.
#[derive(Clone, Debug)]
pub struct Current {
    channel: watch::Sender<Option<Channel>>,
}

impl Default for Current {
    fn default() -> Self {
        Current {
            channel: watch::Sender::new(None),
        }
    }
}

impl Current {
    /// The session stands on this from now on, or on nothing.
    pub fn set(&self, channel: Option<Channel>) {
        self.channel.send_replace(channel);
    }

    /// Waits until there is one.
    pub async fn get(&self) -> Channel {
        let mut receiver = self.channel.subscribe();
        loop {
            if let Some(channel) = receiver.borrow_and_update().clone() {
                return channel;
            }
            if receiver.changed().await.is_err() {
                // The sender lives in `self`, so this does not happen; never is the honest answer.
                return std::future::pending().await;
            }
        }
    }
}
