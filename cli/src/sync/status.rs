//! What tmm says of objects, written into their status.
//!
//! One condition, `Programmed`, in the form of Kubernetes. It is written with the resource version
//! that it was seen with, so nobody else's writing is lost; only when it says something new; after
//! it has been the same for a moment; and a few times a second at most.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::client::StateLine;
use config::schema::CONDITION;
use config::{FieldError, Kind, ObjectKey, State};
use serde_json::{Value, json};

use super::kubectl::Kubectl;
use super::{News, Stop, path};
use crate::ui::Tone;

/// For so long a state must have stayed before it is written: at the start, objects come one by one.
const SETTLED: Duration = Duration::from_millis(700);
/// Time between two writes.
const PACE: Duration = Duration::from_millis(200);
/// After a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest message, in characters; the definition allows 32768 octets.
const MAX_MESSAGE: usize = 2000;

/// What is to be said of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub generation: i64,
    pub programmed: bool,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    pub fn of_state(line: &StateLine) -> Self {
        Self {
            generation: line.generation,
            programmed: line.state == State::Programmed,
            reason: line.reason.clone(),
            message: clip(&line.message),
        }
    }

    pub fn of_refusal(generation: i64, errors: &[FieldError]) -> Self {
        let all: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        Self {
            generation,
            programmed: false,
            reason: "Invalid".to_owned(),
            message: clip(&all.join("; ")),
        }
    }

    fn status(&self) -> &'static str {
        if self.programmed { "True" } else { "False" }
    }

    /// Whether a condition says so already.
    fn is_said_by(&self, condition: &Value) -> bool {
        condition["status"] == self.status()
            && condition["reason"] == self.reason
            && condition["message"] == self.message
            && condition["observedGeneration"] == self.generation
    }

    /// The object with this in its status; nothing if it is there already.
    fn written_into(&self, object: &Value, now: &str) -> Option<Value> {
        let mut object = object.clone();
        let status = object.as_object_mut()?.entry("status");
        let status = status.or_insert_with(|| json!({}));
        if !status.is_object() {
            *status = json!({});
        }
        let conditions = status.as_object_mut()?.entry("conditions");
        let conditions = conditions.or_insert_with(|| json!([]));
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let conditions = conditions.as_array_mut()?;
        let mut since = now.to_owned();
        if let Some(old) = conditions.iter().find(|old| old["type"] == CONDITION) {
            if self.is_said_by(old) {
                return None;
            }
            if let (true, Some(time)) = (
                old["status"] == self.status(),
                old["lastTransitionTime"].as_str(),
            ) {
                time.clone_into(&mut since);
            }
        }
        conditions.retain(|old| old["type"] != CONDITION);
        conditions.push(json!({
            "type": CONDITION,
            "status": self.status(),
            "observedGeneration": self.generation,
            "lastTransitionTime": since,
            "reason": self.reason,
            "message": self.message,
        }));
        Some(object)
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What is known of the cluster's objects, and what is to be written of them.
#[derive(Default)]
pub struct Board {
    inner: Mutex<Inner>,
    bell: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Latest version of each custom object, as the cluster has it.
    objects: BTreeMap<ObjectKey, Value>,
    /// What is to be said of them, and not before when.
    wanted: BTreeMap<ObjectKey, (Verdict, Instant)>,
    /// What was written of them last.
    written: BTreeMap<ObjectKey, Verdict>,
    closed: bool,
}

impl Board {
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let result = work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
        result
    }

    pub fn keep(&self, key: ObjectKey, object: Value) {
        self.with(|inner| inner.objects.insert(key, object));
    }

    pub fn forget(&self, key: &ObjectKey) {
        self.with(|inner| {
            inner.objects.remove(key);
            inner.wanted.remove(key);
            inner.written.remove(key);
        });
    }

    /// Forgets all of a kind and namespace that a complete list does not have.
    pub fn retain(&self, kind: Kind, namespace: Option<&str>, listed: &[ObjectKey]) {
        self.with(|inner| {
            let gone = |key: &ObjectKey| {
                key.kind == kind
                    && namespace.is_none_or(|namespace| namespace == key.namespace)
                    && !listed.contains(key)
            };
            inner.objects.retain(|key, _| !gone(key));
            inner.wanted.retain(|key, _| !gone(key));
            inner.written.retain(|key, _| !gone(key));
        });
    }

    pub fn say(&self, key: ObjectKey, verdict: Verdict) {
        self.with(|inner| {
            inner
                .wanted
                .insert(key, (verdict, Instant::now() + SETTLED));
        });
    }

    /// Where several write: whether `object` bears another's verdict on what this one has written
    /// of already. Without an end, each would answer the other's.
    fn is_overruled(&self, key: &ObjectKey, verdict: &Verdict, object: &Value) -> bool {
        let conditions = object["status"]["conditions"].as_array();
        let has_one = conditions
            .is_some_and(|all| all.iter().any(|condition| condition["type"] == CONDITION));
        has_one && self.with(|inner| inner.written.get(key) == Some(verdict))
    }

    fn has_written(&self, key: ObjectKey, verdict: Verdict) {
        self.with(|inner| inner.written.insert(key, verdict));
    }

    pub fn close(&self) {
        self.with(|inner| inner.closed = true);
    }

    /// The next thing to say; nothing when it is all over.
    fn next(&self) -> Option<(ObjectKey, Verdict, Option<Value>)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if inner.closed {
                return None;
            }
            let now = Instant::now();
            let first = inner.wanted.iter().min_by_key(|(_, (_, due))| *due);
            let wait = match first.map(|(key, (_, due))| (key.clone(), *due)) {
                Some((key, due)) if due <= now => {
                    let verdict = inner.wanted.remove(&key).map(|(verdict, _)| verdict);
                    let object = inner.objects.get(&key).cloned();
                    if let Some(verdict) = verdict {
                        return Some((key, verdict, object));
                    }
                    Duration::ZERO
                }
                Some((_, due)) => due - now,
                None => Duration::from_hours(1),
            };
            inner = self
                .bell
                .wait_timeout(inner, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Says it later, unless there is something newer to say.
    fn again(&self, key: ObjectKey, verdict: Verdict, delay: Duration) {
        self.with(|inner| {
            let due = Instant::now() + delay;
            inner.wanted.entry(key).or_insert((verdict, due));
        });
    }
}

/// Writes what is to be said, until the board is closed; whether others may be writing, too.
pub fn write(board: &Board, shared: bool, kubectl: &Kubectl, stop: &Stop, tell: &dyn Fn(News)) {
    let mut delay = RETRY.0;
    let mut complained = String::new();
    while let Some((key, verdict, object)) = board.next() {
        let Some(object) = object else { continue };
        if shared && board.is_overruled(&key, &verdict, &object) {
            continue;
        }
        let Some(new) = verdict.written_into(&object, &now()) else {
            continue;
        };
        let place = format!(
            "{}/{}/status",
            path(key.kind, Some(&key.namespace)),
            key.name
        );
        let args = ["replace", "--raw", &place, "-f", "-"];
        match kubectl.ask(&args, PATIENCE, Some(&new.to_string())) {
            Ok(answer) => {
                delay = RETRY.0;
                complained.clear();
                if let Ok(object) = serde_json::from_slice(&answer) {
                    board.keep(key.clone(), object);
                }
                board.has_written(key, verdict);
            }
            Err(_) if stop.is_set() => return,
            // It has changed meanwhile: the watch brings the change, and then it is said again.
            Err(why) if is_conflict(&why) => board.again(key, verdict, RETRY.0),
            // It is gone: the watch says so, too.
            Err(why) if is_gone(&why) => {}
            Err(why) => {
                if complained != why {
                    tell(News::Line(
                        Tone::Warn,
                        format!(
                            "the status of {key} cannot be written: {why}{}",
                            advice(&why)
                        ),
                    ));
                    complained = why;
                }
                board.again(key, verdict, delay);
                // Whatever is wrong is likely to be wrong with the next one, too.
                stop.wait(delay);
                delay = (delay * 2).min(RETRY.1);
            }
        }
        stop.wait(PACE);
    }
}

fn is_conflict(why: &str) -> bool {
    why.contains("(Conflict)") || why.contains("the object has been modified")
}

/// Whether it is the object that is not there, not the place for its status.
fn is_gone(why: &str) -> bool {
    why.contains("(NotFound)") && why.ends_with("\" not found")
}

/// What to do about it.
fn advice(why: &str) -> &'static str {
    if why.contains("(Forbidden)") {
        " (the role needs the verb update on the kind's status; or --status never)"
    } else if why.contains("(NotFound)") || why.contains("could not find") {
        " (the definition has no status: tmmctl crds | kubectl apply -f -; or --status never)"
    } else {
        ""
    }
}

/// The time as Kubernetes writes it: RFC 3339 in UTC, to the second.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    rfc3339(since.map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as a date and time of the Gregorian calendar.
fn rfc3339(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        days + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn verdict(programmed: bool, message: &str) -> Verdict {
        Verdict {
            generation: 3,
            programmed,
            reason: "X".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn a_condition_is_written_once_and_keeps_the_time_of_its_transition() {
        let object = json!({"metadata": {}, "status": {"conditions": [{"type": "Other"}], "x": 1}});
        let first = verdict(true, "").written_into(&object, "t1").unwrap();
        assert_eq!(first["status"]["x"], 1);
        assert_eq!(first["status"]["conditions"][0]["type"], "Other");
        assert_eq!(
            first["status"]["conditions"][1],
            json!({"type": "Programmed", "status": "True", "observedGeneration": 3,
                "lastTransitionTime": "t1", "reason": "X", "message": ""})
        );
        assert_eq!(verdict(true, "").written_into(&first, "t2"), None);
        let said = verdict(true, "new").written_into(&first, "t2").unwrap();
        assert_eq!(said["status"]["conditions"][1]["lastTransitionTime"], "t1");
        let turned = verdict(false, "new").written_into(&said, "t3").unwrap();
        assert_eq!(
            turned["status"]["conditions"][1]["lastTransitionTime"],
            "t3"
        );
        assert_eq!(turned["status"]["conditions"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_status_of_another_shape_is_replaced() {
        for status in [json!(null), json!("x"), json!({"conditions": 5})] {
            let object = json!({"status": status});
            let new = verdict(true, "").written_into(&object, "t").unwrap();
            assert_eq!(new["status"]["conditions"][0]["status"], "True");
        }
    }

    #[test]
    fn what_another_writer_says_instead_is_not_answered_for_ever() {
        let board = Board::default();
        let key = ObjectKey {
            kind: Kind::Vlan,
            namespace: "n".to_owned(),
            name: "x".to_owned(),
        };
        let (ours, theirs) = (verdict(true, "ours"), verdict(false, "theirs"));
        let object = theirs.written_into(&json!({}), "t").unwrap();
        assert!(!board.is_overruled(&key, &ours, &object), "ours is new");
        board.has_written(key.clone(), ours.clone());
        assert!(board.is_overruled(&key, &ours, &object), "both are said");
        assert!(!board.is_overruled(&key, &ours, &json!({})), "it is gone");
        let newer = verdict(true, "newer");
        assert!(!board.is_overruled(&key, &newer, &object));
        board.forget(&key);
        assert!(!board.is_overruled(&key, &ours, &object));
    }

    #[test]
    fn a_state_is_said_when_it_has_settled_and_only_the_latest() {
        let board = Board::default();
        let key = ObjectKey {
            kind: Kind::Vlan,
            namespace: "n".to_owned(),
            name: "x".to_owned(),
        };
        let begin = Instant::now();
        board.keep(key.clone(), json!({}));
        board.say(key.clone(), verdict(false, "early"));
        board.say(key.clone(), verdict(true, "late"));
        let (said, what, object) = board.next().unwrap();
        assert!(begin.elapsed() >= SETTLED);
        assert_eq!(
            (said, what, object),
            (key.clone(), verdict(true, "late"), Some(json!({})))
        );
        board.again(key.clone(), verdict(false, "old"), Duration::ZERO);
        board.retain(Kind::Vlan, Some("other"), &[]);
        assert!(board.next().is_some());
        board.say(key, verdict(true, "gone"));
        board.retain(Kind::Vlan, None, &[]);
        board.close();
        assert!(board.next().is_none());
    }
}
