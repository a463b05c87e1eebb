//! Any text as a CACAO document: its violations are told, and what breaks no rule becomes a playbook that compiles, and
//! comes back the same from an export.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use playbook::cacao::{self, Mode, Origin};

fuzz_target!(|text: &str| {
    let found = cacao::check(text);
    for violation in &found {
        assert!(
            playbook::explain::explain(violation.code).is_some(),
            "no explanation of {}",
            violation.code
        );
    }
    let _ = cacao::signatures(text);
    for mode in [Mode::Strict, Mode::Lenient] {
        let imported = match cacao::import(text, mode) {
            Ok(imported) => imported,
            Err(all) => {
                assert!(!all.list.is_empty(), "refused without a reason");
                assert!(
                    all.list.iter().all(|violation| violation.code != "C0804"),
                    "it was mapped to what does not compile: {all}"
                );
                continue;
            }
        };
        if mode == Mode::Strict {
            assert!(
                found.iter().all(|violation| violation.is_warning()),
                "imported though it breaks rules: {found:?}"
            );
        }
        let ours = imported.mapped.text;
        let origin = Origin {
            created_by: Origin::identity("fuzz"),
            created: Timestamp::UNIX_EPOCH,
            modified: Timestamp::UNIX_EPOCH,
        };
        let document = cacao::export(&ours, &origin).expect("an imported playbook is exported");
        let again = cacao::import(&document, Mode::Strict).expect("an export is imported");
        assert!(again.carried, "an export carries its text");
        assert_eq!(again.mapped.text, ours);
    }
});
