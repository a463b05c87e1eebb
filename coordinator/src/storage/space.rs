//! How much room a folder's file system has left, and what is refused when it is little (R69).

use std::path::Path;

use serde::Deserialize;

use super::error::{StorageError, io_error};

/// Below which share of free space what is refused. Results, cancels, releases and revocations are taken at
/// every level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskLimits {
    /// New evidence, in percent; 0 never refuses.
    pub evidence_free_percent_min: u64,
    /// New runs, in percent; 0 never refuses.
    pub runs_free_percent_min: u64,
}

impl Default for DiskLimits {
    fn default() -> Self {
        DiskLimits {
            evidence_free_percent_min: 10,
            runs_free_percent_min: 5,
        }
    }
}

impl DiskLimits {
    /// Whether new evidence is taken where this share is free, in whole percent.
    pub fn has_room_for_evidence(&self, free_percent: u64) -> bool {
        free_percent >= self.evidence_free_percent_min
    }

    /// Whether new runs are.
    pub fn has_room_for_runs(&self, free_percent: u64) -> bool {
        free_percent >= self.runs_free_percent_min
    }
}

/// The share of the file system of `folder` that is free for an ordinary user, in whole percent, rounded down.
pub fn free_percent(folder: &Path) -> Result<u64, StorageError> {
    let stat =
        rustix::fs::statvfs(folder).map_err(|e| io_error("measure the free space of", folder)(e.into()))?;
    Ok(percent(stat.f_bavail, stat.f_blocks))
}

fn percent(free_blocks: u64, blocks: u64) -> u64 {
    // A file system that does not say how large it is counts as empty.
    let share = (u128::from(free_blocks) * 100).checked_div(u128::from(blocks));
    share.map_or(100, |share| share.min(100) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_counts_for_itself() {
        let taken = |limits: DiskLimits, free_percent| {
            (
                limits.has_room_for_evidence(free_percent),
                limits.has_room_for_runs(free_percent),
            )
        };
        let limits = DiskLimits::default();
        assert_eq!(taken(limits, percent(100, 1000)), (true, true));
        assert_eq!(taken(limits, percent(99, 1000)), (false, true));
        assert_eq!(taken(limits, percent(49, 1000)), (false, false));
        assert_eq!(
            taken(limits, percent(0, 0)),
            (true, true),
            "a file system that does not say"
        );
        let never_evidence = DiskLimits {
            evidence_free_percent_min: 0,
            runs_free_percent_min: 60,
        };
        assert_eq!(taken(never_evidence, 0), (true, false));
        assert_eq!(taken(never_evidence, 60), (true, true));
    }
}
