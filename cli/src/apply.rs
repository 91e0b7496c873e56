//! `tmmctl apply`.

use std::collections::HashMap;
use std::io::Read;
use std::time::{Duration, Instant};

use config::State;
use config::client::{Answer, Request, Response, StateLine};

use crate::args::{ApplyArgs, Global};
use crate::batch::{self, Item};
use crate::error::Error;
use crate::link::Link;
use crate::ui::{Tone, Ui};
use crate::{FAILED, OK, manifests, units};

/// Once every object has a state, how long no further one must come before objects that are not
/// programmed are told as such: states are published a few milliseconds after the events, at times
/// in two steps.
const SETTLED: Duration = Duration::from_millis(250);

pub fn run(
    global: &Global,
    args: &ApplyArgs,
    mut stdin: impl Read,
    ui: &mut Ui<'_>,
) -> Result<u8, Error> {
    let documents = manifests::load(&args.files.files, args.files.recursive, &mut stdin)?;
    let (items, bad) = batch::objects(documents, ui)?;
    if items.is_empty() {
        return Ok(FAILED);
    }
    let mut link = Link::open(global)?;
    batch::hello(&mut link, &args.feeder)?;
    let (items, requests): (Vec<Item>, Vec<Request>) = items
        .into_iter()
        .map(|(item, object)| (item, Request::Added { object }))
        .unzip();
    let mut progress = Progress {
        ui,
        items,
        accepted: Vec::new(),
        states: States::default(),
        refused: bad,
    };
    let waits = !args.wait.is_zero();
    batch::exchange(
        &mut link,
        requests,
        &mut progress,
        |progress, index, answer| progress.answer(index, &answer, waits),
        |progress, state| progress.states.take(state),
    )?;
    if waits {
        let accepted = &progress.accepted;
        let labels: Vec<&str> = accepted.iter().map(|(_, label)| label.as_str()).collect();
        progress
            .states
            .wait(&mut link, &labels, Instant::now() + args.wait, |_| Ok(()))?;
    }
    progress.finish(args.wait, bad)
}

struct Progress<'ui, 'io> {
    ui: &'ui mut Ui<'io>,
    items: Vec<Item>,
    /// Accepted objects whose states are waited for, in order.
    accepted: Vec<(usize, String)>,
    states: States,
    refused: usize,
}

impl Progress<'_, '_> {
    fn answer(&mut self, index: usize, answer: &Answer, waits: bool) -> Result<(), Error> {
        let Some(item) = self.items.get(index) else {
            return Ok(());
        };
        if !answer.accepted {
            self.refused += 1;
            return batch::refused(self.ui, item, &answer.errors);
        }
        if waits {
            // What was told before the answer is about the version before.
            self.states.forget(&item.label);
            self.accepted.push((index, item.label.clone()));
            return Ok(());
        }
        self.ui
            .line(Tone::Plain, format!("{} accepted", item.label))
    }

    fn finish(self, wait: Duration, bad: usize) -> Result<u8, Error> {
        for (_, label) in &self.accepted {
            if let Some(state) = self.states.get(label) {
                let (tone, text) = describe(state);
                self.ui.line(tone, format!("{label} accepted: {text}"))?;
            } else {
                let wait = units::time(wait);
                let text = format!("{label} accepted; no state within {wait}");
                self.ui.line(Tone::Warn, text)?;
            }
        }
        if self.refused == 0 {
            return Ok(OK);
        }
        batch::tally(self.ui, self.refused, self.items.len() + bad, "refused")?;
        Ok(FAILED)
    }
}

/// How a state is told: `Programmed`, or `Pending: Service "web" has no ready endpoint`.
pub fn describe(line: &StateLine) -> (Tone, String) {
    let tone = match line.state {
        State::Programmed => Tone::Plain,
        State::Pending => Tone::Warn,
        State::Error => Tone::Bad,
    };
    let mut text = format!("{:?}", line.state);
    if !line.message.is_empty() {
        text.push_str(": ");
        text.push_str(&line.message);
    }
    (tone, text)
}

/// The latest state of each object, by its name in the lines about it.
#[derive(Default)]
pub struct States {
    latest: HashMap<String, StateLine>,
}

impl States {
    pub fn take(&mut self, line: StateLine) {
        let label = manifests::name(&line.kind, &line.namespace, &line.name);
        self.latest.insert(label, line);
    }

    pub fn forget(&mut self, label: &str) {
        self.latest.remove(label);
    }

    pub fn get(&self, label: &str) -> Option<&StateLine> {
        self.latest.get(label)
    }

    /// Takes states until every object of `labels` is programmed, or all have a state and none has
    /// come for a while, or it is `deadline`.
    pub fn wait(
        &mut self,
        link: &mut Link,
        labels: &[&str],
        deadline: Instant,
        mut seen: impl FnMut(&StateLine) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut waiting: Vec<&str> = labels.to_vec();
        loop {
            waiting.retain(|label| {
                self.get(label)
                    .is_none_or(|line| line.state != State::Programmed)
            });
            if waiting.is_empty() {
                return Ok(());
            }
            let all_known = waiting.iter().all(|label| self.get(label).is_some());
            let until = if all_known {
                deadline.min(Instant::now() + SETTLED)
            } else {
                deadline
            };
            match link.receive_until(until)? {
                None => return Ok(()),
                Some(Response::State(line)) => {
                    let label = manifests::name(&line.kind, &line.namespace, &line.name);
                    // It may have been programmed before, and be no longer.
                    if let Some(label) = labels.iter().find(|known| **known == label)
                        && line.state != State::Programmed
                        && !waiting.contains(label)
                    {
                        waiting.push(label);
                    }
                    seen(&line)?;
                    self.take(line);
                }
                Some(other) => return Err(link.unexpected(other)),
            }
        }
    }
}
