//! Who holds which role: the names by which playbooks say who may approve and who may answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::Actor;
use crate::effect::Reply;
use crate::error::Refusal;
use crate::limits::ROLE_BINDINGS_MAX;
use crate::state::enrolment::{not_found, within};
use crate::state::{State, Turn};

/// The roles of operators. An operator without one is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    by_operator: BTreeMap<String, BTreeSet<String>>,
}

impl Roles {
    /// An operator's, in order.
    pub fn of(&self, operator: &str) -> impl Iterator<Item = &str> {
        self.by_operator
            .get(operator)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// The first of these roles that an operator holds.
    pub fn first_held<'a>(&self, operator: &str, roles: &'a [String]) -> Option<&'a str> {
        let held = self.by_operator.get(operator)?;
        roles.iter().find(|role| held.contains(*role)).map(String::as_str)
    }

    /// Who holds one of these roles, in order, but for one.
    pub fn holders(&self, roles: &[String], except: Option<&str>) -> Vec<String> {
        self.by_operator
            .keys()
            .filter(|operator| except != Some(operator.as_str()))
            .filter(|operator| self.first_held(operator, roles).is_some())
            .cloned()
            .collect()
    }

    /// (operator, role), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_operator
            .iter()
            .flat_map(|(operator, roles)| roles.iter().map(move |role| (operator.as_str(), role.as_str())))
    }

    /// Nobody holds any.
    pub fn is_empty(&self) -> bool {
        self.by_operator.is_empty()
    }
}

impl State {
    /// Nobody gives a role to himself: two people are needed to make an approver.
    pub(super) fn grant_role(
        &mut self,
        operator: &str,
        role: &str,
        turn: &Turn<'_>,
    ) -> Result<Reply, Refusal> {
        is_name("an operator's id", operator)?;
        is_name("a role", role)?;
        if matches!(turn.actor, Actor::Operator(id) if id == operator) {
            return Err(Refusal::Own(role.to_owned()));
        }
        within(
            "roles that are held",
            self.roles.iter().count() + 1,
            ROLE_BINDINGS_MAX,
        )?;
        let roles = self.roles.by_operator.entry(operator.to_owned()).or_default();
        if roles.insert(role.to_owned()) {
            self.record(turn, "role.grant", operator.to_owned(), &json!({"role": role}));
        }
        Ok(Reply::Done)
    }

    /// What the operator had said by that role, where it is still waited for, no longer counts.
    pub(super) fn revoke_role(
        &mut self,
        operator: &str,
        role: &str,
        turn: &mut Turn<'_>,
    ) -> Result<Reply, Refusal> {
        let held = self.roles.by_operator.get_mut(operator);
        if !held.is_some_and(|roles| roles.remove(role)) {
            return Err(not_found("role", &format!("{role} of operator {operator}")));
        }
        self.roles.by_operator.retain(|_, roles| !roles.is_empty());
        self.record(turn, "role.revoke", operator.to_owned(), &json!({"role": role}));
        self.forget_answers(operator, role, turn);
        Ok(Reply::Done)
    }
}

/// Operators' ids and roles have the grammar of every name.
fn is_name(what: &str, text: &str) -> Result<(), Refusal> {
    let valid = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if valid {
        return Ok(());
    }
    let text: String = text.chars().take(80).collect();
    Err(Refusal::Invalid(format!(
        "{text:?} is not {what}: 1 to 63 of a-z, 0-9 and -"
    )))
}
