//! The shape of a workflow whose rules hold: its regions, and which step comes before which.
//!
//! A region is a sequence of steps: the workflow itself, or one branch of a step that opens branches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::super::flow::{Branch, SEQUENCE, branches};

/// A sequence of steps.
pub(super) struct Region<'a> {
    /// Its first step.
    pub entry: &'a str,
    /// The step that opens it; none: it is the workflow.
    pub opener: Option<&'a str>,
    /// Its steps, each behind those that lead to it.
    pub order: Vec<&'a str>,
}

/// A step that leads to another, and the property by which it does.
pub(super) type Edge<'a> = (&'a str, &'static str);

pub(super) struct Shape<'a> {
    pub steps: BTreeMap<&'a str, &'a Map<String, Value>>,
    pub regions: Vec<Region<'a>>,
    region_of: BTreeMap<&'a str, usize>,
    /// What each step leads to in sequence.
    reached: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// The region of each branch, in the order of `branches`.
    opened: BTreeMap<&'a str, Vec<usize>>,
    /// The step to which failures lead that nothing else catches.
    pub exception: Option<&'a str>,
}

/// How one step stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Before,
    After,
    /// At most one of the two is carried out.
    Exclusive,
    /// At the same time, or in an order that is not known.
    Unknown,
}

pub(super) fn kind(step: &Map<String, Value>) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn to<'a>(step: &'a Map<String, Value>, property: &str) -> Option<&'a str> {
    step.get(property).and_then(Value::as_str)
}

impl<'a> Shape<'a> {
    pub fn new(root: &'a Map<String, Value>) -> Shape<'a> {
        let steps: BTreeMap<&str, &Map<String, Value>> = root
            .get("workflow")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(id, step)| Some((id.as_str(), step.as_object()?)))
            .collect();
        let exception =
            to(root, "workflow_exception").filter(|id| steps.get(id).is_some_and(|step| kind(step) != "end"));
        let mut shape = Shape {
            steps,
            regions: Vec::new(),
            region_of: BTreeMap::new(),
            reached: BTreeMap::new(),
            opened: BTreeMap::new(),
            exception,
        };
        let start = to(root, "workflow_start").unwrap_or_default();
        let mut open: VecDeque<(&str, Option<&str>)> = VecDeque::from([(start, None)]);
        while let Some((entry, opener)) = open.pop_front() {
            let number = shape.regions.len();
            let entries = match opener {
                None => [Some(entry), shape.exception],
                Some(_) => [Some(entry), None],
            };
            let order = shape.order(entries.into_iter().flatten());
            for id in &order {
                shape.region_of.insert(id, number);
                for Branch { to, .. } in branches(shape.steps[id]) {
                    // Regions are numbered as they are taken from the queue.
                    let next = number + open.len() + 1;
                    shape.opened.entry(id).or_default().push(next);
                    open.push_back((to, Some(id)));
                }
            }
            for id in order.iter().rev() {
                let mut reached = BTreeSet::new();
                for next in SEQUENCE
                    .iter()
                    .filter_map(|property| to(shape.steps[id], property))
                {
                    reached.insert(next);
                    reached.extend(shape.reached.get(next).into_iter().flatten());
                }
                shape.reached.insert(id, reached);
            }
            shape.regions.push(Region { entry, opener, order });
        }
        shape
    }

    /// All that is reached from these in sequence, each behind what leads to it.
    fn order(&self, entries: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let mut seen = BTreeSet::new();
        let mut ended = Vec::new();
        // (step, all that follows it is ended)
        let mut open: Vec<(&str, bool)> = entries.map(|id| (id, false)).collect();
        while let Some((id, done)) = open.pop() {
            if done {
                ended.push(id);
                continue;
            }
            let Some(step) = self.steps.get(id).copied() else {
                continue;
            };
            if !seen.insert(id) {
                continue;
            }
            open.push((id, true));
            // What succeeds is written before what fails: it is pushed first and so ends last.
            open.extend(
                SEQUENCE
                    .iter()
                    .filter_map(|property| Some((to(step, property)?, false))),
            );
        }
        ended.reverse();
        ended
    }

    /// The region that a branch is.
    pub fn opened(&self, id: &str, branch: usize) -> Option<usize> {
        self.opened.get(id)?.get(branch).copied()
    }

    /// What leads to a step in sequence, in the order of the region.
    pub fn into(&self, id: &str) -> Vec<Edge<'a>> {
        let Some(region) = self.region_of.get(id) else {
            return Vec::new();
        };
        let mut edges = Vec::new();
        for from in &self.regions[*region].order {
            for property in SEQUENCE {
                if to(self.steps[from], property) == Some(id) {
                    edges.push((*from, property));
                }
            }
        }
        edges
    }

    /// The step that opened the region of this one.
    pub fn opener(&self, id: &str) -> Option<&'a str> {
        self.regions[*self.region_of.get(id)?].opener
    }

    /// The steps that enclose this one, innermost first.
    pub fn enclosing(&self, id: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::successors(self.opener(id), |outer| self.opener(outer))
    }

    /// Whether `later` is reached from `earlier` in sequence, within one region.
    fn leads(&self, earlier: &str, later: &str) -> bool {
        earlier == later
            || self
                .reached
                .get(earlier)
                .is_some_and(|reached| reached.contains(later))
    }

    /// How a step stands to another.
    pub fn relation(&self, step: &'a str, other: &'a str) -> Order {
        let path = |id: &'a str| {
            let mut path: Vec<&str> = std::iter::once(id).chain(self.enclosing(id)).collect();
            path.reverse();
            path
        };
        let (a, b) = (path(step), path(other));
        let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        match (a.get(common), b.get(common)) {
            // One encloses the other: what opens a branch decides before the branch begins.
            (None, _) => Order::Before,
            (_, None) => Order::After,
            (Some(a), Some(b)) => {
                let (region, with) = (self.region_of.get(a), self.region_of.get(b));
                if region != with {
                    // Two branches of the same step.
                    let outer = self.opener(a).and_then(|outer| self.steps.get(outer));
                    let parallel = outer.is_some_and(|outer| kind(outer) == "parallel");
                    return if parallel {
                        Order::Unknown
                    } else {
                        Order::Exclusive
                    };
                }
                if self.leads(a, b) {
                    Order::Before
                } else if self.leads(b, a) {
                    Order::After
                } else if self.exception.is_some() && region == Some(&0) {
                    Order::Unknown
                } else {
                    Order::Exclusive
                }
            }
        }
    }

    /// Whether each time that its region is carried out the step is.
    pub fn always(&self, id: &str) -> bool {
        let Some(region) = self.region_of.get(id) else {
            return false;
        };
        let mut at = Some(self.regions[*region].entry);
        while let Some(now) = at {
            if now == id {
                return true;
            }
            at = self.steps.get(now).and_then(|step| to(step, "on_completion"));
        }
        false
    }
}
