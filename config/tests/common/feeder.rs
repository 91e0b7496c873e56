//! A connection to a hub, for tests of the protocol.

use config::Limits;
use config::client::{Answer, Response};
use config::watch::{Hub, Output, Session};
use serde_json::{Value, json};

/// A connection to a hub, with what it was answered.
pub struct Feeder {
    pub session: Session,
    pub out: Vec<Output>,
}

impl Feeder {
    pub fn open(hub: &mut Hub) -> Self {
        Self {
            session: hub.open(),
            out: Vec::new(),
        }
    }

    pub fn named(hub: &mut Hub, name: &str) -> Self {
        let mut feeder = Self::open(hub);
        feeder.say(hub, &json!({"type": "HELLO", "feeder": name}));
        feeder.out.clear();
        feeder
    }

    pub fn bytes(&mut self, hub: &mut Hub, bytes: impl AsRef<[u8]>) {
        self.session.feed(hub, bytes.as_ref(), &mut self.out);
    }

    pub fn say(&mut self, hub: &mut Hub, line: &Value) {
        self.bytes(hub, format!("{line}\n"));
    }

    pub fn event(&mut self, hub: &mut Hub, event: &str, object: &Value) {
        self.say(hub, &json!({"type": event, "object": object}));
    }

    pub fn end_of_list(&mut self, hub: &mut Hub, kind: Option<&str>) {
        let mut object =
            json!({"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}});
        if let Some(kind) = kind {
            object["kind"] = kind.into();
        }
        self.event(hub, "BOOKMARK", &object);
    }

    /// Everything answered since the last call.
    pub fn lines(&mut self) -> Vec<Response> {
        self.out
            .drain(..)
            .map(|output| match output {
                Output::Line(line) => {
                    assert!(
                        line.ends_with('\n') && line.trim_end().lines().count() == 1,
                        "{line:?}"
                    );
                    serde_json::from_str(&line).unwrap()
                }
                other @ (Output::Show(_) | Output::Flush(_)) => panic!("{other:?}"),
            })
            .collect()
    }

    pub fn answers(&mut self) -> Vec<Answer> {
        let answer = |line| match line {
            Response::Answer(answer) => answer,
            other => panic!("{other:?}"),
        };
        self.lines().into_iter().map(answer).collect()
    }

    /// The messages of all answers; an empty one for an acceptance.
    pub fn errors(&mut self) -> Vec<String> {
        let text = |answer: Answer| {
            assert_eq!(answer.accepted, answer.errors.is_empty());
            let all: Vec<String> = answer.errors.iter().map(ToString::to_string).collect();
            all.join("; ")
        };
        self.answers().into_iter().map(text).collect()
    }

    pub fn all_accepted(&mut self) {
        for answer in self.answers() {
            assert!(answer.accepted, "{answer:?}");
        }
    }
}

pub fn hub() -> Hub {
    Hub::new(Limits::default())
}

pub fn names(hub: &Hub) -> Vec<String> {
    hub.store()
        .iter()
        .map(|(key, _)| key.name.clone())
        .collect()
}

pub fn publish(hub: &mut Hub) -> Vec<(u64, String)> {
    hub.take_changes();
    let (_, states) = config::resolve(hub.store(), 0);
    hub.publish(states)
}
