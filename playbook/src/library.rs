//! Playbooks that come with Cordon.

/// Name and text, sorted by name.
const PLAYBOOKS: &[(&str, &str)] = &[(
    "ransomware-contain",
    include_str!("../library/ransomware-contain.yaml"),
)];

/// Every playbook of the library: (name, text), sorted by name.
pub fn all() -> &'static [(&'static str, &'static str)] {
    PLAYBOOKS
}

/// The text of the playbook of this name.
pub fn find(name: &str) -> Option<&'static str> {
    PLAYBOOKS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}
