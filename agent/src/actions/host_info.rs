//! `host.info`: what this host is.

use serde::Serialize;
use serde_json::Value;
use sysinfo::{Disks, MemoryRefreshKind, Networks, RefreshKind, System};

use super::output::Listing;
use super::{ActionError, Context, blocking, output};

/// Interfaces and disks in one answer, at most (containers make many).
const ITEMS_MAX: usize = 128;

/// Addresses of one interface, at most.
const ADDRESSES_MAX: usize = 32;

#[derive(Debug, Serialize)]
struct Output {
    hostname: String,
    os: String,
    os_version: String,
    kernel: String,
    arch: &'static str,
    boot_id: String,
    uptime_s: u64,
    cpus: usize,
    memory_bytes: u64,
    interfaces: Vec<Interface>,
    disks: Vec<Disk>,
}

#[derive(Debug, Serialize)]
struct Interface {
    name: String,
    mac: String,
    addresses: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Disk {
    mount: String,
    total_bytes: u64,
    free_bytes: u64,
}

/// Runs the action. Asking a disk for its size can block when it is a network share, so it runs aside.
pub async fn run(_context: Context) -> Result<Value, ActionError> {
    blocking(look).await.and_then(output)
}

fn look() -> Result<Output, ActionError> {
    let failed = |what: &str| {
        let what = format!("the system does not give its {what}");
        move |error: sysinfo::Error| ActionError::new("io", format!("{what}: {error}"))
    };
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory).map_err(failed("memory"))?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|error| ActionError::io("reading /proc/sys/kernel/random/boot_id", &error))?;

    let mut interfaces = Listing::new(ITEMS_MAX, 24 * 1024);
    let networks = Networks::new_with_refreshed_list().map_err(failed("network interfaces"))?;
    let mut sorted: Vec<_> = networks.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, network) in sorted {
        let mut addresses: Vec<String> = network
            .ip_networks()
            .iter()
            .map(|network| format!("{}/{}", network.addr, network.prefix))
            .collect();
        addresses.sort();
        addresses.truncate(ADDRESSES_MAX);
        let name = name.to_string_lossy().into_owned();
        interfaces.push(Interface {
            name,
            mac: network.mac_address().to_string(),
            addresses,
        });
    }

    let mut disks = Listing::new(ITEMS_MAX, 24 * 1024);
    let mounted = Disks::new_with_refreshed_list().map_err(failed("disks"))?;
    for disk in mounted.iter() {
        disks.push(Disk {
            mount: disk.mount_point().to_string_lossy().into_owned(),
            total_bytes: disk.total_space(),
            free_bytes: disk.available_space(),
        });
    }
    Ok(Output {
        hostname: System::host_name().unwrap_or_default(),
        os: System::distribution_id(),
        os_version: System::os_version().unwrap_or_default(),
        kernel: System::kernel_version().unwrap_or_default(),
        arch: std::env::consts::ARCH,
        boot_id: boot_id.trim().to_owned(),
        uptime_s: System::uptime().map_err(failed("uptime"))?,
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: system.total_memory(),
        interfaces: interfaces.into_items(),
        disks: disks.into_items(),
    })
}
