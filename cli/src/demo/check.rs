//! What must hold in the end, each with its reason when it does not.

use std::collections::BTreeSet;

use proto::v1;

use super::document::Evidence;
use super::plant::{Part, PlantedHost};

/// One assertion and how it ended.
#[derive(Debug)]
pub struct Check {
    pub name: &'static str,
    pub problem: Option<String>,
}

impl Check {
    /// From a result.
    pub fn new(name: &'static str, result: Result<(), String>) -> Check {
        Check {
            name,
            problem: result.err(),
        }
    }
}

/// The hosts that play this part.
fn hosts_of(hosts: &[PlantedHost], part: Part) -> BTreeSet<&str> {
    hosts
        .iter()
        .filter(|host| host.part == part)
        .map(|host| host.id.as_str())
        .collect()
}

/// The action succeeded on exactly the infected hosts, and was carried out nowhere else.
pub fn only_where_found(tasks: &[v1::Task], hosts: &[PlantedHost], action: &str) -> Result<(), String> {
    let infected = hosts_of(hosts, Part::Infected);
    let done = agents_where(tasks, |task| task.action == action && task.status == "succeeded");
    let begun = agents_where(tasks, |task| task.action == action && task.attempts > 0);
    if done != infected {
        return Err(format!("{action} succeeded on {done:?}, not on {infected:?}"));
    }
    if begun != infected {
        return Err(format!(
            "{action} was begun on {begun:?}, not only on {infected:?}"
        ));
    }
    Ok(())
}

/// The planted processes, and no others, were killed: each on its own host where hosts have processes of
/// their own (`apart`), and all of them by whichever agent came first where they share one computer's.
pub fn right_processes(tasks: &[v1::Task], hosts: &[PlantedHost], apart: bool) -> Result<(), String> {
    let killed_on = |host: &str| -> BTreeSet<u64> {
        tasks
            .iter()
            .filter(|task| task.action == "process.kill" && task.agent_id == host)
            .flat_map(|task| list(task, "killed"))
            .filter_map(|process| process["pid"].as_u64())
            .collect()
    };
    let infected = hosts.iter().filter(|host| host.part == Part::Infected);
    let sets: Vec<(String, BTreeSet<u64>, BTreeSet<u64>)> = infected
        .map(|host| {
            let planted = host.pid.map(u64::from).into_iter().collect();
            (host.id.clone(), killed_on(&host.id), planted)
        })
        .collect();
    let all_killed = sets.iter().flat_map(|(_, killed, _)| killed).copied().collect();
    let all_planted = sets.iter().flat_map(|(_, _, planted)| planted).copied().collect();
    let together = ("all hosts".to_owned(), all_killed, all_planted);
    let compared = if apart { sets } else { vec![together] };
    for (host, killed, expected) in compared {
        if killed != expected {
            return Err(format!(
                "on {host} the processes {killed:?} were killed, not {expected:?}"
            ));
        }
    }
    Ok(())
}

/// The sweep for the program's hash found it on the third host, under its other name, and on no clean host.
pub fn sweep(tasks: &[v1::Task], hosts: &[PlantedHost]) -> Result<(), String> {
    let Some(hash) = hosts
        .iter()
        .find_map(|host| host.dropper.as_ref())
        .map(|file| &file.sha256)
    else {
        return Err("nothing was planted".to_owned());
    };
    let found = |host: &PlantedHost| -> Vec<String> {
        tasks
            .iter()
            .filter(|task| task.action == "file.find" && task.agent_id == host.id)
            .flat_map(|task| list(task, "matches"))
            .filter(|found| found["sha256"].as_str() == Some(hash))
            .filter_map(|found| found["path"].as_str().map(str::to_owned))
            .collect()
    };
    for host in hosts.iter().filter(|host| host.part != Part::Infected) {
        let expected: Vec<String> = host
            .dropper
            .iter()
            .map(|file| file.path.to_string_lossy().into_owned())
            .collect();
        let found = found(host);
        if found != expected {
            return Err(format!(
                "on {} the sweep found {found:?}, not {expected:?}",
                host.id
            ));
        }
    }
    Ok(())
}

/// Every note was collected from its host with the right bytes, on two nodes at least, and reads back.
pub fn evidence(evidence: &[Evidence], hosts: &[PlantedHost]) -> Result<(), String> {
    for host in hosts {
        for note in &host.notes {
            let path = note.path.to_string_lossy();
            let Some(record) = evidence
                .iter()
                .find(|record| record.host == host.id && record.path == path)
            else {
                return Err(format!("{path} of {} was not collected", host.id));
            };
            if record.sha256 != note.sha256 || record.size_bytes != note.size_bytes {
                return Err(format!(
                    "{path} of {} was collected with other bytes than were planted",
                    host.id
                ));
            }
            if record.copies < 2 {
                return Err(format!("{path} of {} has {} copies", host.id, record.copies));
            }
            if !record.verified {
                return Err(format!("{path} of {} does not read back as it was", host.id));
            }
        }
    }
    let strange: Vec<&str> = evidence
        .iter()
        .filter(|record| {
            !hosts
                .iter()
                .any(|host| host.id == record.host && host.part == Part::Infected)
        })
        .map(|record| record.path.as_str())
        .collect();
    if strange.is_empty() {
        Ok(())
    } else {
        Err(format!("collected where nothing was found: {strange:?}"))
    }
}

/// No task ended unknown, failed or expired.
pub fn clean_ends(tasks: &[v1::Task]) -> Result<(), String> {
    let bad: Vec<String> = tasks
        .iter()
        .filter(|task| !matches!(task.status.as_str(), "succeeded" | "skipped"))
        .map(|task| {
            format!(
                "{}[{}] on {}: {} {} {}",
                task.step, task.item, task.agent_id, task.status, task.error_code, task.error_message
            )
        })
        .collect();
    if bad.is_empty() {
        Ok(())
    } else {
        Err(bad.join("; "))
    }
}

fn agents_where(tasks: &[v1::Task], which: impl Fn(&v1::Task) -> bool) -> BTreeSet<&str> {
    tasks
        .iter()
        .filter(|task| which(task))
        .map(|task| task.agent_id.as_str())
        .collect()
}

fn list(task: &v1::Task, field: &str) -> Vec<serde_json::Value> {
    let output: serde_json::Value = serde_json::from_str(&task.output_json).unwrap_or_default();
    output[field].as_array().cloned().unwrap_or_default()
}
