//! Dialling: one verified HTTP/2 connection as a tonic channel.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use super::{ALPN_H2, ClientTls, stream::ClientStream};
use crate::{leaf::Leaf, spiffe::Role};

/// How to dial and how to notice that the other side is gone.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// For the name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How often to ping, also while idle. Servers of ours allow this rate.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered before the connection counts as dead.
    pub keepalive_timeout: Duration,
    /// The id that the server's certificate must have, where one is known: a peer is one certain member.
    pub expect_id: Option<String>,
    /// HTTP/2 flow control window of a stream, in bytes; None for hyper's default.
    pub stream_window_bytes: Option<u32>,
    /// HTTP/2 flow control window of the connection, in bytes; None for hyper's default.
    pub connection_window_bytes: Option<u32>,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            expect_id: None,
            stream_window_bytes: None,
            connection_window_bytes: None,
        }
    }
}

/// Connects to `host:port` and returns once TLS stands and the server is known to have the role.
///
/// The channel is one HTTP/2 connection. When it breaks, the next call dials the same endpoint again with
/// what `tls` shows by then; a caller with several endpoints gives the channel up instead.
///
/// In TLS 1.3 a client is done before the server has judged its certificate, so a refusal by the server
/// shows up on the first call, as a transport error: [`super::explain()`] puts it into words.
///
/// # Errors
/// What failed, with the endpoint.
pub async fn connect(
    endpoint: &str,
    tls: &ClientTls,
    expect: Role,
    options: ConnectOptions,
) -> Result<Channel, ConnectError> {
    let uri = format!("http://{endpoint}");
    let channel = Endpoint::from_shared(uri)
        .and_then(|channel| {
            // gRPC over TLS says so in its `:scheme`; the dialling below is ours, so tonic need not know.
            let origin = format!("https://{endpoint}").parse().unwrap_or_default();
            channel.origin(origin).user_agent("cordon")
        })
        .map_err(|_| ConnectError::Endpoint(endpoint.to_owned()))?
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes);
    // The first connection is dialled here, because tonic would wrap its error beyond recognition.
    let first = dial(endpoint, tls, expect, &options).await?;
    let connector = Connector {
        first: Some(first),
        target: Arc::new(Target {
            endpoint: endpoint.to_owned(),
            tls: tls.clone(),
            expect,
            options,
        }),
    };
    channel
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Http2 {
            endpoint: endpoint.to_owned(),
            source,
        })
}

/// Connects to `host:port` without speaking HTTP/2 yet.
///
/// # Errors
/// What failed, with the endpoint.
pub async fn dial(
    endpoint: &str,
    tls: &ClientTls,
    expect: Role,
    options: &ConnectOptions,
) -> Result<ClientStream, ConnectError> {
    let dialled = timeout(
        options.connect_timeout,
        dial_patiently(endpoint, tls, expect, options),
    )
    .await;
    dialled.unwrap_or_else(|_| {
        Err(ConnectError::Timeout {
            endpoint: endpoint.to_owned(),
            after: options.connect_timeout,
        })
    })
}

async fn dial_patiently(
    endpoint: &str,
    tls: &ClientTls,
    expect: Role,
    options: &ConnectOptions,
) -> Result<ClientStream, ConnectError> {
    let has_port = endpoint
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port {
        return Err(ConnectError::Endpoint(endpoint.to_owned()));
    }
    let tcp = async {
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    let tcp = tcp.await.map_err(|source| ConnectError::Tcp {
        endpoint: endpoint.to_owned(),
        source,
    })?;
    // The verifier takes the expected role from where others put a DNS name.
    let role =
        ServerName::try_from(expect.as_str()).map_err(|_| ConnectError::Endpoint(endpoint.to_owned()))?;
    *tls.refusal.lock() = None;
    let stream = TlsConnector::from(tls.config.clone())
        .connect(role, tcp)
        .await
        .map_err(|source| ConnectError::Tls {
            endpoint: endpoint.to_owned(),
            source,
        })?;
    check_server(stream.get_ref().1, endpoint, options)?;
    Ok(ClientStream::new(stream, tls.refusal.clone()))
}

fn check_server(
    session: &rustls::ClientConnection,
    endpoint: &str,
    options: &ConnectOptions,
) -> Result<(), ConnectError> {
    if session.alpn_protocol() != Some(ALPN_H2) {
        return Err(ConnectError::NotHttp2(endpoint.to_owned()));
    }
    let Some(expected) = &options.expect_id else {
        return Ok(());
    };
    let found = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(|der| Leaf::parse(der).ok())
        .map(|leaf| leaf.spiffe);
    match found {
        Some(found) if found.id() == expected => Ok(()),
        found => Err(ConnectError::Id {
            endpoint: endpoint.to_owned(),
            expected: expected.clone(),
            found: found.map_or_else(String::new, |found| found.id().to_owned()),
        }),
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{0}` is not an endpoint: write `host:port`, e.g. `10.0.0.1:7400` or `[fd00::1]:7400`")]
    Endpoint(String),
    #[error("cannot reach {endpoint}: {source}")]
    Tcp {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    #[error("{endpoint} did not answer within {} ms", after.as_millis())]
    Timeout { endpoint: String, after: Duration },
    #[error("no secure connection to {endpoint}: {}", super::explain(source).unwrap_or_else(|| source.to_string()))]
    Tls {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} does not speak HTTP/2: it is not a listener of Cordon")]
    NotHttp2(String),
    #[error("{endpoint} is `{found}`, where `{expected}` was expected")]
    Id {
        endpoint: String,
        expected: String,
        found: String,
    },
    #[error("{endpoint} broke off: {source}")]
    Http2 {
        endpoint: String,
        #[source]
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// Whether trying the same endpoint again later can help: nothing was refused, it was only not there.
    pub fn is_transient(&self) -> bool {
        match self {
            ConnectError::Tcp { .. } | ConnectError::Timeout { .. } | ConnectError::Http2 { .. } => true,
            // A handshake that the network broke is not one that was refused.
            ConnectError::Tls { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            ConnectError::Endpoint(_) | ConnectError::NotHttp2(_) | ConnectError::Id { .. } => false,
        }
    }
}

struct Target {
    endpoint: String,
    tls: ClientTls,
    expect: Role,
    options: ConnectOptions,
}

/// Hands tonic the connection that stands already, and dials when it asks again.
struct Connector {
    first: Option<ClientStream>,
    target: Arc<Target>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ClientStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _endpoint: Uri) -> Self::Future {
        if let Some(first) = self.first.take() {
            return Box::pin(std::future::ready(Ok(TokioIo::new(first))));
        }
        let target = self.target.clone();
        Box::pin(async move {
            dial(&target.endpoint, &target.tls, target.expect, &target.options)
                .await
                .map(TokioIo::new)
        })
    }
}
