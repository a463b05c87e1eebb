//! Accepting: TCP connections in, verified TLS streams out, for tonic's `serve_with_incoming`.
//!
//! One task accepts, one short task per handshake. A client that is slow or hostile costs at most one of
//! [`Limits::pending_max`] places for [`Limits::handshake`]; while all places are taken, new connections
//! wait in the kernel's backlog. When descriptors run out the loop waits instead of spinning.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::{ALPN_H2, ServerTls};
use crate::{
    leaf::{Leaf, Serial},
    spiffe::SpiffeId,
};

/// Connections that the kernel keeps while they wait to be accepted: a fleet that reconnects at once.
const BACKLOG: u32 = 4096;

/// Verified connections that wait for the server to take them.
const READY_MAX: usize = 64;

/// How long to wait after the system has no descriptors or no memory for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the TCP accept to the end of the handshake.
    pub handshake: Duration,
    /// Handshakes under way at once.
    pub pending_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshake: Duration::from_secs(5),
            pending_max: 256,
        }
    }
}

/// Who is on the other side, as every request carries it: `request.extensions().get::<Peer>()`.
///
/// All but the address is None on the enrolment listener, and only there.
#[derive(Clone, Debug)]
pub struct Peer {
    pub addr: SocketAddr,
    pub spiffe: Option<SpiffeId>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of its certificate.
    pub key_sha256: Option<[u8; 32]>,
    pub serial: Option<Serial>,
    pub not_before: Option<SystemTime>,
    pub not_after: Option<SystemTime>,
}

impl Peer {
    /// A peer with this certificate, which the handshake has verified.
    fn new(addr: SocketAddr, leaf: Option<Leaf>) -> Peer {
        let Some(leaf) = leaf else {
            return Peer {
                addr,
                spiffe: None,
                key_sha256: None,
                serial: None,
                not_before: None,
                not_after: None,
            };
        };
        Peer {
            addr,
            spiffe: Some(leaf.spiffe),
            key_sha256: Some(leaf.key_sha256),
            serial: Some(leaf.serial),
            not_before: Some(leaf.not_before),
            not_after: Some(leaf.not_after),
        }
    }
}

/// Binds a listener with a backlog for a whole fleet. IPv6 wildcards take IPv4 as well, where the system does so.
///
/// # Errors
/// As `bind` and `listen` give them; an address in use is `AddrInUse`.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    // A restart must not wait for the old connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG as i32)?;
    TcpListener::from_std(socket.into())
}

/// Accepts with the default limits. Dropping the stream stops accepting.
pub fn incoming(listener: TcpListener, tls: ServerTls) -> Incoming {
    incoming_with(listener, tls, Limits::default())
}

/// Accepts with limits of one's own, which is for tests.
pub fn incoming_with(listener: TcpListener, tls: ServerTls, limits: Limits) -> Incoming {
    let (ready, verified) = mpsc::channel(READY_MAX);
    tokio::spawn(accept_loop(listener, tls, limits, ready));
    Incoming { verified }
}

/// Verified connections. It never yields an error: one client's failure is not the listener's.
pub struct Incoming {
    verified: mpsc::Receiver<TlsStream>,
}

impl Stream for Incoming {
    type Item = io::Result<TlsStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.verified.poll_recv(cx).map(|next| next.map(Ok))
    }
}

async fn accept_loop(listener: TcpListener, tls: ServerTls, limits: Limits, ready: mpsc::Sender<TlsStream>) {
    let places = Arc::new(Semaphore::new(limits.pending_max));
    let acceptor = TlsAcceptor::from(tls.config);
    loop {
        let accept_one = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = ready.closed() => return,
            accepted = accept_one => accepted,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_if_exhausted(&error).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            // Held until the stream is handed over, so that a server that lags also limits what is taken.
            let _place = place;
            match timeout(limits.handshake, handshake(acceptor, stream, addr)).await {
                Ok(Ok(stream)) => {
                    // The listener may have been closed meanwhile; then the stream just closes too.
                    let _closed = ready.send(stream).await;
                }
                // What a client did wrong is the client's text: DEBUG and no higher.
                Ok(Err(error)) => tracing::debug!(%addr, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%addr, "a handshake took too long"),
            }
        });
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream, addr: SocketAddr) -> io::Result<TlsStream> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    // rustls refuses a client that offers other protocols only; one that offers none is for us to refuse.
    if session.alpn_protocol() != Some(ALPN_H2) {
        return Err(io::Error::other("the client did not ask for HTTP/2"));
    }
    let leaf = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(Leaf::parse)
        .transpose()
        .map_err(io::Error::other)?;
    let peer = Peer::new(addr, leaf);
    Ok(TlsStream { stream, peer })
}

async fn pause_if_exhausted(error: &io::Error) {
    let exhausted = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
    ];
    if error
        .raw_os_error()
        .is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
    {
        tracing::warn!(%error, "no descriptors or memory for another connection; accepting is paused");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    } else {
        tracing::debug!(%error, "a connection broke before it was accepted");
    }
}

/// A connection whose other side has been verified.
pub struct TlsStream {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    peer: Peer,
}

impl TlsStream {
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for TlsStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
