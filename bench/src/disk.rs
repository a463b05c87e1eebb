//! What the disk can do: small appends to a preallocated file, each made durable.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::percentile;

const RECORD_BYTES: usize = 256;
const FILE_BYTES: u64 = 64 << 20;

/// Appends and syncs for so long; prints one line.
pub fn run(seconds: u64) -> anyhow::Result<()> {
    let mut file = tempfile::tempfile()?;
    // Zeroes, so that a sync writes data only and no metadata.
    let zeroes = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeroes)?;
    }
    file.sync_all()?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let record = [7; RECORD_BYTES];
    let mut took_us = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds)
        && (took_us.len() as u64) < FILE_BYTES / RECORD_BYTES as u64
    {
        let one = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        took_us.push(one.elapsed().as_micros() as u64);
    }
    let per_s = took_us.len() as f64 / began.elapsed().as_secs_f64();
    took_us.sort_unstable();
    let line = serde_json::json!({
        "bench": "fdatasync",
        "bytes": RECORD_BYTES,
        "per_s": per_s.round(),
        "p50_us": percentile(&took_us, 50),
        "p99_us": percentile(&took_us, 99),
        "n": took_us.len(),
    });
    println!("{line}");
    Ok(())
}
