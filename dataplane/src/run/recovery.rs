//! When and how a port is brought back that a reset of its physical function has cut off: what is done
//! in which order, and when it is tried again. What it means for a device is behind [`Patient`].
//!
//! ```text
//!  well ─symptom─▶ parking ─workers let go─▶ parked ─▶ restarting ─▶ resuming ─▶ well
//!                                              │  ▲        │ fails
//!                            device pulled out │  └─ waiting, longer each time
//!                                              ▼
//!                                            gone
//! ```

use std::time::{Duration, Instant};

use dpdk::Answer;

/// The first pause between two tries, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// A port that falls ill again within this time was not well yet.
const PROBATION: Duration = Duration::from_secs(5);
/// After so many restarts, a refusal is what the physical function has to say, not a sign of its reset.
const REFUSALS: u32 = 3;

/// Why a port is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symptom {
    /// Its driver says so.
    Reset,
    /// The physical function refuses what it granted before.
    Refused,
    /// The physical function does not answer.
    Silent,
}

impl Symptom {
    /// For the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Reset => "the device was reset",
            Self::Refused => "the physical function was reset",
            Self::Silent => "the physical function does not answer",
        }
    }
}

/// How a restart ended.
#[derive(Debug)]
pub enum Outcome {
    /// The device runs, and the physical function said this.
    Started(Answer),
    /// It does not run.
    Failed(String),
}

/// What can be done with a port.
pub trait Patient {
    /// Asks every worker to let go of it; false if not all could be asked, so that it is tried again.
    fn park(&mut self) -> bool;
    /// Whether all have let go.
    fn is_parked(&mut self) -> bool;
    /// Begins to stop, reset and start it. Takes up to seconds, and the caller does not wait.
    fn restart(&mut self);
    /// How that ended, once it has.
    fn outcome(&mut self) -> Option<Outcome>;
    /// Gives the workers queues again; false if not all could be told, so that it is tried again.
    fn resume(&mut self) -> bool;
    /// Closes the device for good.
    fn remove(&mut self);
}

/// What the rest of tmm should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Nothing passes from now on.
    Parked(Symptom),
    /// It did not help, or not yet.
    Failed(String),
    /// It is back, after this time without it.
    Back(Duration),
    /// The device is gone and so is the port.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Parking { asked: bool },
    Parked,
    Restarting,
    Waiting { until: Instant },
    Resuming,
    Gone,
}

/// The state of one port's health.
#[derive(Debug)]
pub struct Recovery {
    state: State,
    since: Instant,
    back: Option<Instant>,
    tries: u32,
    restarts_total: u64,
    pulled_out: bool,
    refusal_is_policy: bool,
}

impl Recovery {
    /// A port that was just started, after which its physical function said `first`.
    pub fn new(now: Instant, first: Answer) -> Self {
        Self {
            state: State::Well,
            since: now,
            back: None,
            tries: 0,
            restarts_total: 0,
            pulled_out: false,
            refusal_is_policy: first == Answer::Refused,
        }
    }

    /// Whether the port is in use.
    pub fn is_well(&self) -> bool {
        self.state == State::Well
    }

    /// Whether the device is gone for good.
    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Restarts that were completed.
    pub const fn restarts_total(&self) -> u64 {
        self.restarts_total
    }

    /// The meaning of an answer of the physical function while the port is in use.
    pub fn judge(&mut self, answer: Answer) -> Option<Symptom> {
        match answer {
            Answer::NotAsked => None,
            Answer::Yes => {
                self.refusal_is_policy = false;
                None
            }
            Answer::Refused if self.refusal_is_policy => None,
            Answer::Refused => Some(Symptom::Refused),
            Answer::Silent => Some(Symptom::Silent),
        }
    }

    /// The port shows a symptom; one that is being treated already is not news.
    pub fn fall_ill(&mut self, symptom: Symptom, now: Instant) -> Option<News> {
        if self.state != State::Well {
            return None;
        }
        if self.back.is_none_or(|back| now - back > PROBATION) {
            self.tries = 0;
        }
        self.since = now;
        self.state = State::Parking { asked: false };
        Some(News::Parked(symptom))
    }

    /// The device is being pulled out.
    pub fn pull_out(&mut self) {
        self.pulled_out = true;
        if self.state == State::Well {
            self.state = State::Parking { asked: false };
        }
    }

    /// Goes on as far as it can; never waits.
    pub fn poll(&mut self, patient: &mut impl Patient, now: Instant) -> Option<News> {
        loop {
            self.state = match self.state {
                State::Parking { asked: false } if patient.park() => State::Parking { asked: true },
                State::Parking { asked: true } if patient.is_parked() => State::Parked,
                State::Parked if self.pulled_out => {
                    patient.remove();
                    self.state = State::Gone;
                    return Some(News::Gone);
                }
                // One that came back a moment ago and is ill again must not be restarted in a frenzy.
                State::Parked if self.tries > 0 => State::Waiting {
                    until: now + pause(self.tries),
                },
                State::Waiting { .. } if self.pulled_out => State::Parked,
                State::Waiting { until } if now < until => return None,
                State::Parked | State::Waiting { .. } => self.begin(patient),
                State::Restarting => {
                    let failure = match patient.outcome()? {
                        Outcome::Started(answer) => self.objection(answer),
                        Outcome::Failed(why) => Some(why),
                    };
                    let Some(why) = failure.filter(|_| !self.pulled_out) else {
                        self.state = if self.pulled_out {
                            State::Parked
                        } else {
                            State::Resuming
                        };
                        continue;
                    };
                    self.state = State::Waiting {
                        until: now + pause(self.tries),
                    };
                    return Some(News::Failed(why));
                }
                State::Resuming if self.pulled_out => State::Parking { asked: false },
                State::Resuming if patient.resume() => {
                    self.state = State::Well;
                    self.restarts_total += 1;
                    self.back = Some(now);
                    return Some(News::Back(now - self.since));
                }
                State::Well | State::Parking { .. } | State::Resuming | State::Gone => {
                    return None;
                }
            }
        }
    }

    fn begin(&mut self, patient: &mut impl Patient) -> State {
        self.tries = self.tries.saturating_add(1);
        patient.restart();
        State::Restarting
    }

    /// What is still wrong after a restart.
    fn objection(&mut self, answer: Answer) -> Option<String> {
        self.refusal_is_policy = answer == Answer::Refused && self.tries >= REFUSALS;
        let symptom = self.judge(answer)?;
        Some(symptom.text().to_owned())
    }
}

/// How long to wait after so many tries.
fn pause(tries: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(8));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
