//! From text to manifest: what `cordon playbook validate` does, and every coordinator before a plan.

use std::time::Instant;

use serde_json::json;

use crate::percentile;

const EXAMPLES: [(&str, &str); 3] = [
    (
        "failed-logins",
        include_str!("../../playbook/examples/failed-logins.yaml"),
    ),
    (
        "phishing-response",
        include_str!("../../playbook/examples/phishing-response.yaml"),
    ),
    (
        "ransomware-response",
        include_str!("../../playbook/examples/ransomware-response.yaml"),
    ),
];

/// One line for each playbook.
pub fn run(rounds: usize) -> anyhow::Result<()> {
    for (name, text) in EXAMPLES.iter().chain(playbook::library::all()) {
        let mut took_us = Vec::with_capacity(rounds);
        let mut steps = 0;
        for _ in 0..rounds {
            let began = Instant::now();
            let compiled = playbook::compile(text);
            took_us.push(began.elapsed().as_micros() as u64);
            steps = compiled?.manifest.step_count();
        }
        // The first one also builds what the catalogue keeps: its schemas.
        let first_us = took_us.first().copied().unwrap_or(0);
        took_us.sort_unstable();
        let line = json!({
            "bench": "validate",
            "playbook": name,
            "bytes": text.len(),
            "steps": steps,
            "first_us": first_us,
            "p50_us": percentile(&took_us, 50),
            "p99_us": percentile(&took_us, 99),
            "n": rounds,
        });
        println!("{line}");
    }
    Ok(())
}
