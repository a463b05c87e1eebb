//! What an isolation must know of the host: its coordinators' addresses, its resolvers, its links.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::actions::ActionError;

/// All names together must resolve within this time.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// Addresses let through, at most; a name that resolves to more is not a coordinator's.
const ADDRESSES_MAX: usize = 64;

/// Links guarded, at most.
const LINKS_MAX: usize = 256;

/// The addresses of the coordinators' agent listeners, resolved now: afterwards there may be no DNS.
///
/// # Errors
/// `unresolvable` when not one of them has an address: an isolation would cut the agent off.
pub async fn resolve(coordinators: &[String]) -> Result<BTreeSet<SocketAddr>, ActionError> {
    let lookups = coordinators.iter().map(|name| async move {
        match tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(name)).await {
            Ok(Ok(addresses)) => Ok(addresses.collect::<Vec<_>>()),
            Ok(Err(error)) => Err(format!("{name}: {error}")),
            Err(_) => Err(format!("{name}: no answer within {RESOLVE_WITHIN:?}")),
        }
    });
    let (mut addresses, mut failures) = (BTreeSet::new(), Vec::new());
    for looked_up in futures::future::join_all(lookups).await {
        match looked_up {
            Ok(found) => addresses.extend(found.into_iter().map(plain)),
            Err(failure) => failures.push(failure),
        }
    }
    if addresses.is_empty() {
        let message = format!(
            "not one coordinator of this agent's list has an address, so isolation would strand the host ({}); \
             mend `coordinators` in agent.toml, or its DNS",
            if failures.is_empty() {
                "the list is empty".to_owned()
            } else {
                failures.join("; ")
            }
        );
        return Err(ActionError::new("unresolvable", message));
    }
    Ok(addresses.into_iter().take(ADDRESSES_MAX).collect())
}

/// The resolvers that programs on this host ask, other than itself.
pub fn resolvers() -> BTreeSet<IpAddr> {
    // Where the host runs a resolver of its own, the second file says whom that one asks.
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| parse_resolvers(&text))
        .collect()
}

/// Every link of this network namespace but loopback.
///
/// # Errors
/// `io`.
pub fn links() -> Result<BTreeSet<String>, ActionError> {
    // Of the calling thread: /proc/net is the main thread's, and /sys is of whoever mounted it.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")
        .map_err(|error| ActionError::io("reading /proc/thread-self/net/dev", &error))?;
    Ok(parse_links(&text))
}

fn parse_resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().split('%').next()?.parse::<IpAddr>().ok())
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .take(8)
        .collect()
}

fn parse_links(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .filter(|name| name != "lo")
        .take(LINKS_MAX)
        .collect()
}

/// The address as packets carry it: no scope, and IPv4 inside IPv6 is IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_other_than_the_host_itself() {
        let text = "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n nameserver fe80::1%eth0\nsearch example\n";
        let expected: Vec<IpAddr> = ["10.0.0.2", "fe80::1"]
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        assert_eq!(parse_resolvers(text), expected);
    }

    #[test]
    fn links_other_than_loopback() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 2\n  eth0: 3 4\nveth.1: 5\n";
        assert_eq!(
            parse_links(text),
            BTreeSet::from(["eth0".to_owned(), "veth.1".to_owned()])
        );
    }

    #[tokio::test]
    async fn no_coordinator_no_isolation() {
        assert_eq!(
            resolve(&[]).await.map_err(|error| error.code),
            Err("unresolvable")
        );
        let addresses = resolve(&["127.0.0.1:7401".to_owned(), "[::1]:7401".to_owned()])
            .await
            .expect("resolve");
        assert_eq!(addresses.len(), 2);
    }
}
