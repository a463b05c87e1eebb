//! What is really in the firewall, and how it differs from what was put there.

use serde_json::Value;

use super::nft::{Nft, NftError};
use super::ruleset::{INET, NETDEV, sorted};

/// At most this many edits are told.
const EDITS_MAX: usize = 100;

/// Of one edit, at most this many characters.
const EDIT_LENGTH_MAX: usize = 400;

/// Our tables as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Our table is there.
    pub present: bool,
    /// The lease runs: packets are being judged.
    pub leased: bool,
    /// How long it still runs, in seconds (the kernel's word).
    pub lease_left_s: u64,
    /// Every object but the lease's elements, one a line, without the kernel's handles.
    pub lines: Vec<String>,
}

/// Looks at both tables.
pub async fn observe(nft: &Nft) -> Result<Observed, NftError> {
    let mut observed = Observed::default();
    if let Some(objects) = nft.list(INET).await? {
        observed.present = true;
        observed.take(objects);
    }
    // A kernel without this family has no such table either.
    match nft.list(NETDEV).await {
        Ok(Some(objects)) => observed.take(objects),
        Ok(None) | Err(NftError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(observed)
}

/// What somebody else changed since `baseline` was listed.
pub fn foreign_edits(baseline: &[String], now: &Observed) -> Vec<String> {
    if !now.present {
        return vec!["the isolation's table was deleted by somebody else".to_owned()];
    }
    let mut edits = Vec::new();
    let mut left: Vec<&String> = baseline.iter().collect();
    for line in &now.lines {
        match left.iter().position(|known| *known == line) {
            Some(index) => {
                left.remove(index);
            }
            None => edits.push(format!("added: {line}")),
        }
    }
    edits.extend(left.into_iter().map(|line| format!("missing: {line}")));
    if edits.is_empty() && baseline != now.lines {
        edits.push("the rules are in another order".to_owned());
    }
    edits.truncate(EDITS_MAX);
    edits
        .iter()
        .map(|edit| edit.chars().take(EDIT_LENGTH_MAX).collect())
        .collect()
}

impl Observed {
    fn take(&mut self, objects: Vec<Value>) {
        for mut object in objects {
            let Some((kind, body)) = object.as_object_mut().and_then(|object| object.iter_mut().next())
            else {
                continue;
            };
            if kind == "metainfo" {
                continue;
            }
            let is_lease = kind == "set" && body["name"] == "lease";
            if let Some(body) = body.as_object_mut() {
                body.remove("handle");
                if is_lease && let Some(Value::Array(elements)) = body.remove("elem") {
                    self.leased |= !elements.is_empty();
                    let left = elements
                        .iter()
                        .filter_map(|element| element["elem"]["expires"].as_u64());
                    self.lease_left_s = self.lease_left_s.max(left.max().unwrap_or(0));
                }
            }
            self.lines.push(sorted(&object).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(chain: &str, handle: u32) -> Value {
        json!({"rule": {"chain": chain, "handle": handle}})
    }

    fn listed(objects: Vec<Value>) -> Observed {
        let mut observed = Observed {
            present: true,
            ..Observed::default()
        };
        observed.take(objects);
        observed
    }

    #[test]
    fn edits_are_told_and_handles_and_the_lease_are_none() {
        let lease = |left: u32| json!({"set": {"name": "lease", "elem": [{"elem": {"val": "ipv4", "expires": left}}]}});
        let before = listed(vec![lease(9), rule("a", 1), rule("b", 2)]);
        assert_eq!((before.leased, before.lease_left_s), (true, 9));
        assert_eq!(
            foreign_edits(&before.lines, &listed(vec![lease(3), rule("a", 7), rule("b", 8)])),
            Vec::<String>::new()
        );
        let edits = foreign_edits(&before.lines, &listed(vec![lease(3), rule("a", 1), rule("c", 2)]));
        assert_eq!(
            edits,
            [
                "added: {\"rule\":{\"chain\":\"c\"}}",
                "missing: {\"rule\":{\"chain\":\"b\"}}"
            ]
        );
        let edits = foreign_edits(&before.lines, &listed(vec![lease(3), rule("b", 1), rule("a", 2)]));
        assert_eq!(edits, ["the rules are in another order"]);
        assert_eq!(foreign_edits(&before.lines, &Observed::default()).len(), 1);
    }
}
