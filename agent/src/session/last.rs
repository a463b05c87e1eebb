//! Which coordinator the agent was attached to last, over its own restarts: that one may hold the part of an upload
//! that was under way, so it is tried first. A note, not a record: losing it costs a repeated upload.

use std::path::{Path, PathBuf};

/// In the state folder.
const FILE: &str = "last-coordinator";

/// The note.
#[derive(Debug, Default)]
pub struct LastCoordinator {
    /// None: nothing outlives this process.
    file: Option<PathBuf>,
    known: Option<String>,
}

impl LastCoordinator {
    /// Kept in a folder.
    pub fn in_folder(state_dir: &Path) -> LastCoordinator {
        let file = state_dir.join(FILE);
        // Unreadable or absent: then any coordinator is as good as another.
        let known = std::fs::read_to_string(&file).ok();
        LastCoordinator {
            known: known.map(|text| text.trim().to_owned()),
            file: Some(file),
        }
    }

    /// Which of these it is, if it is one of them still.
    pub fn among(&self, endpoints: &[String]) -> Option<usize> {
        let known = self.known.as_ref()?;
        endpoints.iter().position(|endpoint| endpoint == known)
    }

    /// A session has begun.
    pub fn attached(&mut self, endpoint: &str) {
        if self.known.as_deref() == Some(endpoint) {
            return;
        }
        self.known = Some(endpoint.to_owned());
        let Some(file) = &self.file else { return };
        let new = file.with_extension("new");
        let written =
            std::fs::write(&new, format!("{endpoint}\n")).and_then(|()| std::fs::rename(&new, file));
        if let Err(error) = written {
            tracing::warn!(%error, file = %file.display(), "which coordinator was the last cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_outlives_the_agent_and_is_one_of_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let endpoints = ["c1:7401", "c2:7401"].map(str::to_owned);
        let mut last = LastCoordinator::in_folder(folder.path());
        assert_eq!(last.among(&endpoints), None);
        last.attached("c1:7401");
        last.attached("c2:7401");
        let last = LastCoordinator::in_folder(folder.path());
        assert_eq!(last.among(&endpoints), Some(1));
        assert_eq!(last.among(&endpoints[..1]), None, "it left the list");
        let mut forgetful = LastCoordinator::default();
        forgetful.attached("c1:7401");
        assert_eq!(forgetful.among(&endpoints), Some(0));
    }
}
