//! Links, addresses and bridges over rtnetlink, in the network namespace of the calling thread. A fresh
//! machine may lack `ip`, so the kernel is asked directly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};

/// Why the network could not be built.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] std::io::Error),
    /// The kernel refused something.
    #[error("cannot {what}: {source}")]
    Refused {
        what: String,
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that should be there is not.
    #[error("there is no link {0} in this network namespace")]
    Missing(String),
}

/// A way to change the network namespace in which it was opened.
pub struct Network {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Network {
    /// Opens it for the namespace of the calling thread. Needs a tokio runtime.
    pub fn open() -> Result<Network, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
        Ok(Network {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Makes a bridge with these addresses and sets it up.
    pub async fn make_bridge(&self, name: &str, addresses: &[(IpAddr, u8)]) -> Result<(), NetworkError> {
        let refused = refused(format!("make the bridge {name}"));
        self.handle
            .link()
            .add(LinkBridge::new(name).build())
            .execute()
            .await
            .map_err(refused)?;
        self.configure(name, addresses).await
    }

    /// Makes a pair of links: `outside` becomes a port of the bridge, `inside` appears in the network
    /// namespace of the process `pid`.
    pub async fn make_cable(
        &self,
        bridge: &str,
        outside: &str,
        inside: &str,
        pid: u32,
    ) -> Result<(), NetworkError> {
        let controller = self.index(bridge).await?;
        let link = self.handle.link();
        link.add(LinkVeth::new(outside, inside).build())
            .execute()
            .await
            .map_err(refused(format!("make the link {outside}")))?;
        self.handle
            .link()
            .set(LinkUnspec::new_with_name(inside).setns_by_pid(pid).build())
            .execute()
            .await
            .map_err(refused(format!(
                "move the link {inside} into the machine of process {pid}"
            )))?;
        let port = self.index(outside).await?;
        self.handle
            .link()
            .set(
                LinkUnspec::new_with_index(port)
                    .controller(controller)
                    .up()
                    .build(),
            )
            .execute()
            .await
            .map_err(refused(format!("put the link {outside} on the bridge")))
    }

    /// Gives the link its addresses and sets it up.
    pub async fn configure(&self, link: &str, addresses: &[(IpAddr, u8)]) -> Result<(), NetworkError> {
        let index = self.index(link).await?;
        for (address, prefix) in addresses {
            let mut request = self.handle.address().add(index, *address, *prefix);
            if address.is_ipv6() {
                // Nobody else is in this world, and waiting for duplicate detection would cost seconds.
                let message = request.message_mut();
                message.header.flags |= AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            request
                .execute()
                .await
                .map_err(refused(format!("give {link} the address {address}")))?;
        }
        self.up(index, link).await
    }

    /// Sets the loopback up; a new namespace has it down.
    pub async fn loopback_up(&self) -> Result<(), NetworkError> {
        let index = self.index("lo").await?;
        self.up(index, "lo").await
    }

    async fn up(&self, index: u32, name: &str) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(refused(format!("set {name} up")))
    }

    async fn index(&self, name: &str) -> Result<u32, NetworkError> {
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links
            .try_next()
            .await
            .map_err(refused("list the links".to_owned()))?
        {
            let named =
                |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(n) if n == name);
            if link.attributes.iter().any(named) {
                return Ok(link.header.index);
            }
        }
        Err(NetworkError::Missing(name.to_owned()))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The addresses of the world's machines: one IPv4 and one IPv6 (unique local) for each number.
pub fn addresses(number: u16) -> [(IpAddr, u8); 2] {
    let [high, low] = number.to_be_bytes();
    [
        (IpAddr::V4(Ipv4Addr::new(10, 77, high, low)), 16),
        (
            IpAddr::V6(Ipv6Addr::new(0xfd77, 0xc04d, 0, 0, 0, 0, 0, number)),
            64,
        ),
    ]
}

fn refused(what: String) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    move |source| NetworkError::Refused { what, source }
}
