//! Ending live TCP connections that the isolation has cut, so that the host's own programs learn of it
//! (sock_diag(7), `SOCK_DESTROY`).
//!
//! Their peers learn nothing: even the reset would be a packet that leaves an isolated host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::ruleset::Spec;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID_BYTES: usize = 48;
/// `struct inet_diag_msg` up to and with its socket id.
const MESSAGE_BYTES: usize = 4 + ID_BYTES;

const TCP: u8 = 6;
/// Every state but TIME_WAIT (6), CLOSE (7) and LISTEN (10): tcp_states.h.
const LIVE_STATES: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10 | 1);

/// Connections looked at, at most.
const CONNECTIONS_MAX: usize = 200_000;

/// A connection, as the kernel names it.
struct Connection {
    family: u8,
    id: [u8; ID_BYTES],
    local: IpAddr,
    peer: SocketAddr,
}

/// Ends every live TCP connection of this network namespace that `spec` does not let through.
/// Gives how many the isolation has cut, and how many of those could not be ended: the rules stop their
/// packets all the same.
///
/// # Errors
/// The kernel lists no connections.
pub fn cut(spec: &Spec) -> std::io::Result<(u64, u64)> {
    let socket = open()?;
    let (mut cut, mut left) = (0, 0);
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let family = u8::try_from(family.as_raw()).map_err(|_| Errno::AFNOSUPPORT)?;
        for connection in list(&socket, family)? {
            if connection.is_allowed(spec) {
                continue;
            }
            match destroy(&socket, &connection) {
                Ok(()) => cut += 1,
                // It ended by itself meanwhile.
                Err(Errno::NOENT) => {}
                Err(_) => {
                    cut += 1;
                    left += 1;
                }
            }
        }
    }
    Ok((cut, left))
}

impl Connection {
    fn is_allowed(&self, spec: &Spec) -> bool {
        let inside = self.peer.ip().is_loopback() || self.peer.ip() == self.local;
        inside
            || spec.coordinators.contains(&self.peer)
            || (self.peer.port() == 53 && spec.resolvers.contains(&self.peer.ip()))
    }
}

fn open() -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        Some(netlink::SOCK_DIAG),
    )?)
}

fn list(socket: &OwnedFd, family: u8) -> rustix::io::Result<Vec<Connection>> {
    send(
        socket,
        &request(
            SOCK_DIAG_BY_FAMILY,
            NLM_F_REQUEST | NLM_F_DUMP,
            family,
            &[0; ID_BYTES],
        ),
        SendFlags::empty(),
    )?;
    let mut connections = Vec::new();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let (count, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        for (kind, body) in messages(&buffer[..count]) {
            match kind {
                NLMSG_DONE => return Ok(connections),
                NLMSG_ERROR => return Err(error_of(body).err().unwrap_or(Errno::PROTO)),
                _ if connections.len() < CONNECTIONS_MAX => connections.extend(parse(body)),
                _ => {}
            }
        }
    }
}

fn destroy(socket: &OwnedFd, connection: &Connection) -> rustix::io::Result<()> {
    let message = request(
        SOCK_DESTROY,
        NLM_F_REQUEST | NLM_F_ACK,
        connection.family,
        &connection.id,
    );
    send(socket, &message, SendFlags::empty())?;
    let mut buffer = [0u8; 4096];
    let (count, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let answer = messages(&buffer[..count])
        .into_iter()
        .find(|(kind, _)| *kind == NLMSG_ERROR);
    answer.map_or(Err(Errno::PROTO), |(_, body)| error_of(body))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, id: &[u8; ID_BYTES]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + 8 + ID_BYTES);
    let length = (HEADER_BYTES + 8 + ID_BYTES) as u32;
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0u8; 8]);
    message.extend([family, TCP, 0, 0]);
    message.extend(LIVE_STATES.to_ne_bytes());
    message.extend(id);
    message
}

/// The messages of one datagram, each its type and its body.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut messages = Vec::new();
    while let Some((header, _)) = bytes.split_at_checked(HEADER_BYTES) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = bytes.get(HEADER_BYTES..length) else {
            break;
        };
        messages.push((kind, body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// `struct nlmsgerr` starts with a negative errno, or 0.
fn error_of(body: &[u8]) -> rustix::io::Result<()> {
    let code = body
        .first_chunk::<4>()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw_os_error(-code))
    }
}

/// `struct inet_diag_msg`.
fn parse(body: &[u8]) -> Option<Connection> {
    let id: [u8; ID_BYTES] = body.get(4..MESSAGE_BYTES)?.try_into().ok()?;
    let family = body[0];
    let address = |bytes: &[u8]| -> Option<IpAddr> {
        if i32::from(family) == i32::from(AddressFamily::INET.as_raw()) {
            Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into())
        } else {
            Some(IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical())
        }
    };
    let port = u16::from_be_bytes([id[2], id[3]]);
    let (local, peer) = (address(&id[4..20])?, address(&id[20..36])?);
    Some(Connection {
        family,
        id,
        local,
        peer: SocketAddr::new(peer, port),
    })
}
