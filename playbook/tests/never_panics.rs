//! No text makes the compiler panic.

use proptest::prelude::*;

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
}
