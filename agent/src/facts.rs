//! What this host says of itself. Never used to authorise, nor to target anything above collect.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

/// The longest that facts may be.
const FACTS_BYTES_MAX: usize = 16 * 1024;
const ADDRESSES_MAX: usize = 64;

/// Where an agent's facts come from.
#[derive(Clone, Debug)]
pub enum Facts {
    /// This host.
    Host,
    /// A JSON object: for a swarm, whose agents are on no host of their own.
    Fixed(Arc<str>),
}

#[derive(Serialize)]
struct HostFacts {
    hostname: String,
    os: &'static str,
    os_version: String,
    kernel: String,
    arch: String,
    cpus: usize,
    memory_bytes: u64,
    boot_id: String,
    addresses: Vec<String>,
    agent_version: &'static str,
}

impl Facts {
    /// A JSON object of at most 16 KiB.
    pub fn read(&self) -> String {
        match self {
            Facts::Host => host(),
            Facts::Fixed(facts) => facts.to_string(),
        }
    }
}

/// The kernel's boot id; empty where there is none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn host() -> String {
    let memory =
        sysinfo::RefreshKind::nothing().with_memory(sysinfo::MemoryRefreshKind::nothing().with_ram());
    let networks = sysinfo::Networks::new_with_refreshed_list();
    // A fact that the host does not give is left empty.
    let addresses: BTreeSet<String> = networks
        .iter()
        .flat_map(|networks| networks.values())
        .flat_map(|network| network.ip_networks())
        .filter(|network| !network.addr.is_loopback())
        .map(|network| network.addr.to_string())
        .collect();
    let short = |text: Option<String>| text.unwrap_or_default().chars().take(255).collect::<String>();
    let facts = HostFacts {
        hostname: short(sysinfo::System::host_name().ok()),
        os: std::env::consts::OS,
        os_version: short(sysinfo::System::long_os_version().ok()),
        kernel: short(sysinfo::System::kernel_version().ok()),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: sysinfo::System::new_with_specifics(memory).map_or(0, |system| system.total_memory()),
        boot_id: boot_id(),
        addresses: addresses.into_iter().take(ADDRESSES_MAX).collect(),
        agent_version: env!("CARGO_PKG_VERSION"),
    };
    let text = serde_json::to_string(&facts).unwrap_or_else(|_| "{}".to_owned());
    if text.len() <= FACTS_BYTES_MAX {
        text
    } else {
        "{}".to_owned()
    }
}
