//! Events that come in while the run of a case goes on: steps wait for them.

use engine::command::Hit;
use engine::events::weigh;
use engine::{Actor, Command};

use crate::people::Unheard;
use crate::suite::Incoming;
use crate::world::{NODE, World};

impl World<'_> {
    /// An event comes in, and is weighed as a coordinator weighs it.
    pub(crate) fn comes_in(&mut self, incoming: &Incoming) {
        let weighed = weigh(&self.state, self.now(), std::slice::from_ref(&incoming.event));
        for message in weighed.matched.into_iter().flat_map(|matched| matched.problems) {
            self.unheard.push(Unheard {
                code: "T0208",
                place: incoming.place,
                message,
            });
        }
        let taken = weighed.command;
        let mut hits = taken
            .iter()
            .flat_map(|taken| &taken.events)
            .flat_map(|event| &event.hits);
        let goes_on = hits.any(|hit| matches!(hit, Hit::Wait { .. }));
        if goes_on || incoming.ignored {
            self.used.insert(incoming.place);
        }
        if goes_on && incoming.ignored {
            self.unheard.push(Unheard {
                code: "T0201",
                place: incoming.place,
                message: "this event is expected to be ignored, and a step went on with it".to_owned(),
            });
        }
        if let Some(taken) = taken {
            self.must(Actor::Node(NODE), Command::Events(Box::new(taken)));
        }
    }
}
