//! Playbooks that come with Cordon, each with its tests.

/// Name, text and tests of each, sorted by name.
macro_rules! library {
    ($($name:literal),* $(,)?) => {
        const PLAYBOOKS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../library/", $name, ".yaml")))),*];
        const TESTS: &[&str] = &[$(include_str!(concat!("../library/", $name, ".test.yaml"))),*];
    };
}

library![
    "cryptominer",
    "failed-logins",
    "ioc-sweep",
    "linux-triage",
    "ransomware-contain",
    "suspicious-process",
    "un-isolate",
    "webshell",
];

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

/// The test file of the playbook of this name.
pub fn tests(name: &str) -> Option<&'static str> {
    let at = PLAYBOOKS.iter().position(|(known, _)| *known == name)?;
    TESTS.get(at).copied()
}
