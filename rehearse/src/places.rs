//! Where the branches of a playbook stand in its text.

use std::collections::BTreeMap;

use playbook::Place;
use playbook::yaml::{Data, Key, Node};

/// The places of the steps, by name; of a loop's body and condition as coverage names them.
pub(crate) struct Places {
    steps: BTreeMap<String, Step>,
    triggers: Vec<Place>,
}

/// The places within one step.
struct Step {
    own: Place,
    when: Option<Place>,
    gate: Option<Place>,
    needs: Option<Place>,
    on_failure: Option<Place>,
    rules: Vec<Place>,
}

impl Places {
    /// Of a text that compiles; of any other there are none.
    pub fn of(playbook: &str) -> Places {
        let mut places = Places {
            steps: BTreeMap::new(),
            triggers: Vec::new(),
        };
        if let Ok(root) = playbook::yaml::read(playbook) {
            if let Some(Data::List(triggers)) = root.get("triggers").map(|node| &node.data) {
                places.triggers = triggers.iter().map(|trigger| trigger.place).collect();
            }
            for (key, node) in ["steps", "finally"]
                .iter()
                .filter_map(|name| root.get(name))
                .flat_map(entries)
            {
                places.add(key.name.clone(), key, node);
            }
        }
        places
    }

    fn add(&mut self, name: String, key: &Key, node: &Node) {
        let at = |name: &str| node.get(name).map(|node| node.place);
        if let Some(body) = node.get("loop") {
            for (key, node) in body.get("body").into_iter().flat_map(entries) {
                self.add(format!("{name}.{}", key.name), key, node);
            }
            let condition = body.get("while").map_or(key.place, |node| node.place);
            self.steps.insert(format!("{name}.while"), Step::at(condition));
        }
        let rules = node.get("decide").or_else(|| node.get("score"));
        let rules = match rules.map(|rules| &rules.data) {
            Some(Data::List(rules)) => rules.iter().map(|rule| rule.place).collect(),
            _ => Vec::new(),
        };
        let step = Step {
            when: at("when"),
            gate: at("gate").or_else(|| at("ask")),
            needs: at("needs"),
            on_failure: at("on_failure"),
            rules,
            ..Step::at(key.place)
        };
        self.steps.insert(name, step);
    }

    /// Whether a step is a loop, as it was written.
    pub fn is_loop(&self, step: &str) -> bool {
        self.steps.contains_key(&format!("{step}.while"))
    }

    fn find(&self, step: &str, part: impl Fn(&Step) -> Option<Place>) -> Place {
        let step = self.steps.get(step);
        step.map_or(Place::default(), |step| part(step).unwrap_or(step.own))
    }

    /// A trigger, counted from 0.
    pub fn trigger(&self, at: usize) -> Place {
        self.triggers.get(at).copied().unwrap_or_default()
    }

    /// The step itself.
    pub fn step(&self, step: &str) -> Place {
        self.find(step, |step| Some(step.own))
    }

    /// Its condition.
    pub fn when(&self, step: &str) -> Place {
        self.find(step, |step| step.when)
    }

    /// Its gate, or what it asks.
    pub fn gate(&self, step: &str) -> Place {
        self.find(step, |step| step.gate)
    }

    /// What it needs.
    pub fn needs(&self, step: &str) -> Place {
        self.find(step, |step| step.needs)
    }

    /// What its failure means.
    pub fn on_failure(&self, step: &str) -> Place {
        self.find(step, |step| step.on_failure)
    }

    /// A rule, counted from 0.
    pub fn rule(&self, step: &str, at: usize) -> Place {
        self.find(step, |step| step.rules.get(at).copied())
    }
}

impl Step {
    fn at(own: Place) -> Step {
        Step {
            own,
            when: None,
            gate: None,
            needs: None,
            on_failure: None,
            rules: Vec::new(),
        }
    }
}

fn entries(node: &Node) -> &[(Key, Node)] {
    match &node.data {
        Data::Map(entries) => entries,
        _ => &[],
    }
}
