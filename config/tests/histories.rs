//! Histories of many feeders, against a model of what must be kept.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::feeder::{Feeder, hub, names, publish};
use common::{service, vlan};
use config::watch::Output;
use proptest::collection::vec;
use proptest::prelude::*;

/// One step of a history; feeders and objects are few, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    /// The feeder's connection ends, and it connects again.
    Reconnect(usize),
    /// A good version.
    Give(usize, usize),
    /// A wrong version.
    GiveWrong(usize, usize),
    Delete(usize, usize),
    EndOfList(usize),
    Garbage(usize),
    Publish,
}

const FEEDERS: usize = 3;
const OBJECTS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let feeder = || 0..FEEDERS;
    let object = || 0..OBJECTS;
    prop_oneof![
        2 => feeder().prop_map(Step::Reconnect),
        5 => (feeder(), object()).prop_map(|(f, o)| Step::Give(f, o)),
        2 => (feeder(), object()).prop_map(|(f, o)| Step::GiveWrong(f, o)),
        2 => (feeder(), object()).prop_map(|(f, o)| Step::Delete(f, o)),
        2 => feeder().prop_map(Step::EndOfList),
        1 => feeder().prop_map(Step::Garbage),
        2 => Just(Step::Publish),
    ]
}

fn name(object: usize) -> String {
    format!("v{object}")
}

proptest! {
    #[test]
    fn what_is_kept_is_what_the_feeders_said_last(history in vec(step(), 0..60)) {
        let mut hub = hub();
        let connect = |hub: &mut _, f: usize| Feeder::named(hub, &format!("f{f}"));
        let mut feeders: Vec<Feeder> = (0..FEEDERS).map(|f| connect(&mut hub, f)).collect();
        // Object → its feeder and the session it was last heard of in.
        let mut model: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for step in history {
            match step {
                Step::Reconnect(f) => {
                    hub.close(&feeders[f].session);
                    feeders[f] = connect(&mut hub, f);
                }
                Step::Give(f, o) => {
                    let good = vlan(&name(o), &format!("interfaces: ['1.1'], tag: {}", o + 1));
                    feeders[f].event(&mut hub, "MODIFIED", &good);
                    feeders[f].all_accepted();
                    model.insert(name(o), (f, feeders[f].session.id()));
                }
                Step::GiveWrong(f, o) => {
                    feeders[f].event(&mut hub, "MODIFIED", &vlan(&name(o), "tag: 0"));
                    let errors = feeders[f].errors();
                    prop_assert!(errors.len() == 1 && !errors[0].is_empty());
                    if let Some((owner, session)) = model.get_mut(&name(o))
                        && *owner == f
                    {
                        *session = feeders[f].session.id();
                    }
                }
                Step::Delete(f, o) => {
                    feeders[f].event(&mut hub, "DELETED", &vlan(&name(o), ""));
                    feeders[f].all_accepted();
                    model.remove(&name(o));
                }
                Step::EndOfList(f) => {
                    feeders[f].end_of_list(&mut hub, Some("F5SPKVlan"));
                    feeders[f].all_accepted();
                    let now = feeders[f].session.id();
                    model.retain(|_, (owner, session)| *owner != f || *session >= now);
                }
                Step::Garbage(f) => {
                    feeders[f].bytes(&mut hub, "{\"half\": [\n");
                    feeders[f].event(&mut hub, "VALIDATE", &service("s"));
                    prop_assert_eq!(feeders[f].errors().len(), 2);
                }
                Step::Publish => {
                    for (session, line) in publish(&mut hub) {
                        let feeder = feeders.iter_mut().find(|f| f.session.id() == session);
                        feeder.unwrap().out.push(Output::Line(line));
                    }
                    prop_assert!(!hub.dirty());
                    prop_assert_eq!(publish(&mut hub), []);
                    for feeder in &mut feeders {
                        feeder.out.clear();
                    }
                }
            }
            let kept: Vec<&String> = model.keys().collect();
            let found = names(&hub);
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), kept);
        }
    }
}
