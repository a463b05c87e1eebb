//! How much room the data folder has left.

use std::path::Path;

use super::error::{StorageError, io_error};

/// Below this share of free space new evidence is refused.
const LOW_PERCENT: u64 = 10;
/// Below this share of free space new runs are refused.
const CRITICAL_PERCENT: u64 = 5;

/// How full the disk is. Results, cancels, releases and revocations are taken at every level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    /// Room for everything.
    Fine,
    /// Less than 10 % free: no new evidence.
    Low,
    /// Less than 5 % free: no new runs either.
    Critical,
}

/// Asks the file system of `folder`.
pub fn free_space(folder: &Path) -> Result<DiskLevel, StorageError> {
    let stat =
        rustix::fs::statvfs(folder).map_err(|e| io_error("measure the free space of", folder)(e.into()))?;
    Ok(level(stat.f_bavail, stat.f_blocks))
}

fn level(free_blocks: u64, blocks: u64) -> DiskLevel {
    let free_percent = (u128::from(free_blocks) * 100)
        .checked_div(u128::from(blocks))
        .unwrap_or(100);
    if free_percent < u128::from(CRITICAL_PERCENT) {
        DiskLevel::Critical
    } else if free_percent < u128::from(LOW_PERCENT) {
        DiskLevel::Low
    } else {
        DiskLevel::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_share_of_free_blocks() {
        assert_eq!(level(100, 1000), DiskLevel::Fine);
        assert_eq!(level(99, 1000), DiskLevel::Low);
        assert_eq!(level(49, 1000), DiskLevel::Critical);
        assert_eq!(level(0, 0), DiskLevel::Fine, "a file system that does not say");
    }
}
