//! The harmless look-alikes on the hosts. What is planted is remembered with its hash, so that the end can
//! be compared with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::elf;
use super::world::{AgentProcess, Launch, WorldError};

/// What the YARA rule looks for. It is in the notes, on the infected hosts only.
pub const MARKER: &str = "CORDON-DEMO-RANSOM-MARKER";
/// The YARA rule.
pub const RULES: &str = r#"rule demo_ransom_note
{
    meta:
        description = "The demo's harmless ransom note"
    strings:
        $marker = "CORDON-DEMO-RANSOM-MARKER"
    condition:
        $marker
}
"#;
/// Globs of the notes.
pub const NOTE_GLOBS: &[&str] = &["**/README_RESTORE_*.txt"];
/// The name of the planted program, and of its process.
pub const DROPPER_NAME: &str = "svc-updater";
/// A process that must survive.
const BYSTANDER_NAME: &str = "backup-daemon";

/// How many files look encrypted on an infected host.
const LOCKED_FILES: usize = 12;

/// What a host is in the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Notes, encrypted-looking files, and the process.
    Infected,
    /// The same program under another name, not running, no note.
    Carrier,
    /// Nothing but ordinary files.
    Clean,
}

/// A file that was planted.
#[derive(Debug, Clone)]
pub struct PlantedFile {
    /// As its host sees it.
    pub path: PathBuf,
    pub sha256: String,
    pub size_bytes: u64,
}

/// A host and what is on it.
#[derive(Debug)]
pub struct PlantedHost {
    pub id: String,
    pub part: Part,
    /// Its disk, as it sees it.
    pub disk: PathBuf,
    pub notes: Vec<PlantedFile>,
    pub dropper: Option<PlantedFile>,
    /// The planted process's id on its host.
    pub pid: Option<u32>,
}

/// The names of the two processes, for the machine's supervision.
pub const PROCESSES: (&str, &str) = (DROPPER_NAME, BYSTANDER_NAME);

/// The part of the host with this number, from 0.
pub fn part(number: usize) -> Part {
    match number {
        0 | 1 => Part::Infected,
        2 => Part::Carrier,
        _ => Part::Clean,
    }
}

/// Plants everything on one host and starts its processes.
pub async fn plant(agent: &AgentProcess, part: Part) -> Result<PlantedHost, WorldError> {
    let disk = Disk {
        outside: &agent.disk_outside,
        inside: &agent.disk,
    };
    disk.write("finance/ledger-2026.csv", b"account,balance\n4711,1200\n")?;
    disk.write("hr/README.txt", b"How to file a leave request.\n")?;
    let bystander = disk.program(&format!("opt/{BYSTANDER_NAME}"), "an innocent process")?;
    agent
        .machine
        .spawn(BYSTANDER_NAME, launch(&bystander.path))
        .await?;

    let mut host = PlantedHost {
        id: agent.id().to_owned(),
        part,
        disk: agent.disk.clone(),
        notes: Vec::new(),
        dropper: None,
        pid: None,
    };
    // The same bytes wherever it is: the note behind its code tells it from the bystander.
    let dropper_note = "harmless: a demo of Cordon";
    match part {
        Part::Clean => {}
        Part::Carrier => host.dropper = Some(disk.program("downloads/invoice-viewer", dropper_note)?),
        Part::Infected => {
            for folder in ["finance", "hr"] {
                let text = format!(
                    "{MARKER}\nYour files on {} are \"encrypted\". This is a harmless demo: nothing was.\n",
                    agent.id()
                );
                let path = format!("{folder}/README_RESTORE_FILES.txt");
                host.notes.push(disk.write(&path, text.as_bytes())?);
            }
            for number in 0..LOCKED_FILES {
                disk.write(
                    &format!("finance/report-{number:02}.xlsx.locked"),
                    &noise(agent.id(), number),
                )?;
            }
            let dropper = disk.program(&format!(".cache/{DROPPER_NAME}"), dropper_note)?;
            host.pid = Some(agent.machine.spawn(DROPPER_NAME, launch(&dropper.path)).await?);
            host.dropper = Some(dropper);
        }
    }
    Ok(host)
}

fn launch(path: &Path) -> Launch {
    Launch::program(path, ["__demo-sleep"])
}

/// A host's disk from both sides.
struct Disk<'a> {
    outside: &'a Path,
    inside: &'a Path,
}

impl Disk<'_> {
    fn write(&self, path: &str, content: &[u8]) -> Result<PlantedFile, WorldError> {
        let outside = self.outside.join(path);
        let failed = |source| WorldError::File {
            path: outside.clone(),
            source,
        };
        if let Some(folder) = outside.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&outside, content).map_err(failed)?;
        Ok(PlantedFile {
            path: self.inside.join(path),
            sha256: hex::encode(Sha256::digest(content)),
            size_bytes: content.len() as u64,
        })
    }

    fn program(&self, path: &str, note: &str) -> Result<PlantedFile, WorldError> {
        let outside = self.outside.join(path);
        let failed = |source| WorldError::File {
            path: outside.clone(),
            source,
        };
        let content = match elf::sleeper(note) {
            Some(content) => content,
            None => {
                // A copy of this executable, which sleeps under a hidden argument; bytes behind its end
                // are not looked at.
                let mut content = fs::read("/proc/self/exe").map_err(failed)?;
                content.extend(note.as_bytes());
                content
            }
        };
        let planted = self.write(path, &content)?;
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        Ok(planted)
    }
}

/// Bytes that look encrypted: a chain of hashes.
fn noise(host: &str, number: usize) -> Vec<u8> {
    let mut block = Sha256::digest(format!("{host}/{number}"));
    let mut bytes = Vec::new();
    for _ in 0..128 {
        bytes.extend(block);
        block = Sha256::digest(block);
    }
    bytes
}
