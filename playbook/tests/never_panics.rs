//! No text makes the compiler or the reader of CACAO documents panic.

use playbook::cacao::Mode;
use proptest::prelude::*;
use serde_json::Value;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text(text in "\\PC*") {
        let _ = playbook::compile(&text);
    }

    #[test]
    fn a_playbook_with_a_piece_replaced(at in 0usize..4_000, cut in 0usize..40, piece in "[ -~\n]{0,12}") {
        let text = playbook::library::find("ransomware-contain").expect("it is there");
        let floor = |n: usize| (0..=n.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        let (start, end) = (floor(at), floor(at + cut));
        let _ = playbook::compile(&format!("{}{piece}{}", &text[..start], &text[end..]));
    }

    #[test]
    fn any_expression(source in "[a-z.()\\[\\]{}!?:,'\" +*<>=&|0-9-]{0,80}") {
        let mut scope = playbook::eval::Scope::new();
        scope.bind("a", &serde_json::json!({"b": [1, {"c": "x"}], "d": null}));
        let _ = scope.eval(&playbook::manifest::Expression(source));
    }

    #[test]
    fn any_document(text in "[\\[\\]{}\",:a-z0-9_ -]{0,200}") {
        let _ = playbook::cacao::check(&text);
    }

    #[test]
    fn a_document_with_a_piece_replaced(of in 0usize..4, at in 0usize..12_000, cut in 0usize..60, piece in "[ -~\n]{0,12}") {
        let text = DOCUMENTS[of];
        let floor = |n: usize| (0..=n.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        let (start, end) = (floor(at), floor(at + cut));
        let _ = playbook::cacao::import(&format!("{}{piece}{}", &text[..start], &text[end..]), Mode::Lenient);
    }

    /// The document stays JSON, so that more than its reader is reached. Whatever it says, it is refused for a rule that
    /// it breaks, or becomes a playbook that compiles: an import holds that itself, by C0804.
    #[test]
    fn a_document_with_a_value_replaced(
        of in 0usize..4, at in 0usize..400, by in 0usize..400, text in "\\PC{0,40}", lenient in any::<bool>(),
    ) {
        let mut document: Value = serde_json::from_str(DOCUMENTS[of]).expect("a valid case is JSON");
        let others: Vec<Value> = values(&mut document).into_iter().map(|value| value.clone()).collect();
        let by = if by < 40 { Value::String(text) } else { others[by % others.len()].clone() };
        *values(&mut document).swap_remove(at % others.len()) = by;
        let mode = if lenient { Mode::Lenient } else { Mode::Strict };
        if let Err(all) = playbook::cacao::import(&document.to_string(), mode) {
            prop_assert!(all.list.iter().all(|violation| violation.code != "C0804"), "{all}");
        }
    }
}

const DOCUMENTS: [&str; 4] = [
    include_str!("cacao/valid/changing.json"),
    include_str!("cacao/valid/linear.json"),
    include_str!("cacao/valid/branches.json"),
    include_str!("cacao/valid/commands.json"),
];

/// Every value of a document that cannot hold others.
fn values(document: &mut Value) -> Vec<&mut Value> {
    match document {
        Value::Array(items) => items.iter_mut().flat_map(values).collect(),
        Value::Object(entries) => entries.values_mut().flat_map(values).collect(),
        plain => vec![plain],
    }
}
