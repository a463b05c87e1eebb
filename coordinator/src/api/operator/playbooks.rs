//! Published playbooks.

use engine::Command;
use engine::command::Publish;
use engine::id::Digest;
use engine::state::Published;
use proto::v1;

use super::{Operators, not_found, parse};
use crate::api::error::ApiError;

impl Operators {
    pub(super) async fn publish_playbook(
        &self,
        operator: String,
        asked: v1::PublishPlaybookRequest,
    ) -> Result<v1::PublishedPlaybook, ApiError> {
        let compiled = playbook::compile(&asked.playbook_yaml)
            .map_err(|problems| ApiError::Playbook(problems.to_string()))?;
        let manifest = compiled.manifest;
        let manifest_hash: Digest = parse("manifest", &manifest.sha256())?;
        let (name, version) = (manifest.playbook, manifest.version);
        let publish = Publish {
            name: name.clone(),
            version,
            text: asked.playbook_yaml.into(),
            manifest_hash,
            note: asked.note,
            triggers: manifest.triggers,
        };
        self.submit(operator, &asked.request_id, Command::Publish(Box::new(publish)))
            .await?;
        let mut published = self.published(&name, Some(version)).await?;
        published.warnings = compiled.warnings.iter().map(ToString::to_string).collect();
        Ok(published)
    }

    pub(super) async fn list_playbooks(
        &self,
        _operator: String,
        asked: v1::ListPlaybooksRequest,
    ) -> Result<v1::ListPlaybooksReply, ApiError> {
        let brief = |published: &Published| v1::PublishedPlaybook {
            playbook_yaml: String::new(),
            ..convert(published)
        };
        let playbooks = self
            .control
            .query(|state| match asked.name.as_str() {
                "" => state.playbooks().newest().map(brief).collect(),
                name => state
                    .playbooks()
                    .versions(name)
                    .rev()
                    .map(brief)
                    .collect::<Vec<_>>(),
            })
            .await?;
        if playbooks.is_empty() && !asked.name.is_empty() {
            return Err(not_found("published playbook", asked.name));
        }
        Ok(v1::ListPlaybooksReply { playbooks })
    }

    pub(super) async fn get_playbook(
        &self,
        _operator: String,
        asked: v1::GetPlaybookRequest,
    ) -> Result<v1::PublishedPlaybook, ApiError> {
        let version = Some(asked.version).filter(|version| *version > 0);
        self.published(&asked.name, version).await
    }

    async fn published(&self, name: &str, version: Option<u32>) -> Result<v1::PublishedPlaybook, ApiError> {
        self.control
            .query(|state| state.playbooks().get(name, version).map(convert))
            .await?
            .ok_or_else(|| match version {
                Some(version) => not_found("published playbook", format!("{name} version {version}")),
                None => not_found("published playbook", name),
            })
    }
}

fn convert(published: &Published) -> v1::PublishedPlaybook {
    v1::PublishedPlaybook {
        name: published.name.clone(),
        version: published.version,
        manifest_sha256: published.manifest_hash.to_string(),
        note: published.note.clone(),
        published_by: published.published_by.clone(),
        published_at_ms: published.published_at.0,
        playbook_yaml: published.text.to_string(),
        warnings: Vec::new(),
    }
}
