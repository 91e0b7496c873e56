//! A worse network: loss, duplication and reordering, repeatable by their seed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a frame picked for reordering waits for others to overtake it.
const MAX_HOLD: Duration = Duration::from_millis(5);
/// Frames held at most; beyond it none is picked.
const MAX_HELD: usize = 256;

/// What happens to one frame on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent once, now.
    Send,
    /// Sent twice.
    Duplicate,
    /// Sent after this many later frames, or when it has waited long enough.
    Hold(u32),
    /// Not sent.
    Lose,
}

/// Probabilities, in percent, of each misfortune; they exclude each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Frames lost.
    pub loss: f64,
    /// Frames sent twice.
    pub duplicate: f64,
    /// Frames sent late.
    pub reorder: f64,
}

/// A frame that waits to be overtaken.
#[derive(Debug)]
struct Held {
    port: usize,
    bytes: Vec<u8>,
    overtakers_left: u32,
    deadline: Instant,
}

/// How often each misfortune has come about, frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misfortunes {
    /// Lost.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Picked for being sent late.
    pub held: u64,
}

/// Deals out fates and keeps the frames that wait.
#[derive(Debug)]
pub struct Impairment {
    rates: Rates,
    state: u64,
    held: VecDeque<Held>,
    dealt: Misfortunes,
}

impl Impairment {
    /// The same `seed` deals the same fates in the same order.
    pub fn new(rates: Rates, seed: u64) -> Self {
        Self {
            rates,
            state: seed,
            held: VecDeque::new(),
            dealt: Misfortunes::default(),
        }
    }

    /// What has been dealt out so far.
    pub const fn dealt(&self) -> Misfortunes {
        self.dealt
    }

    /// The fate of the next frame.
    pub fn fate(&mut self) -> Fate {
        let Rates {
            loss,
            duplicate,
            reorder,
        } = self.rates;
        if loss + duplicate + reorder <= 0.0 {
            return Fate::Send;
        }
        let word = self.next();
        let roll = f64::from((word >> 32) as u32) / f64::from(u32::MAX) * 100.0;
        if roll < loss {
            self.dealt.lost += 1;
            Fate::Lose
        } else if roll < loss + duplicate {
            self.dealt.duplicated += 1;
            Fate::Duplicate
        } else if roll < loss + duplicate + reorder && self.held.len() < MAX_HELD {
            self.dealt.held += 1;
            Fate::Hold(1 + (word & 3) as u32)
        } else {
            Fate::Send
        }
    }

    /// Keeps a frame whose fate is [`Fate::Hold`].
    pub fn hold(&mut self, port: usize, bytes: Vec<u8>, overtakers: u32, now: Instant) {
        self.held.push_back(Held {
            port,
            bytes,
            overtakers_left: overtakers,
            deadline: now + MAX_HOLD,
        });
    }

    /// Tells the frames held for `port` that another one went past.
    pub fn overtaken(&mut self, port: usize) {
        for held in self.held.iter_mut().filter(|held| held.port == port) {
            held.overtakers_left = held.overtakers_left.saturating_sub(1);
        }
    }

    /// The next held frame whose turn has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        let index = self
            .held
            .iter()
            .position(|held| held.overtakers_left == 0 || held.deadline <= now)?;
        self.held.remove(index).map(|held| (held.port, held.bytes))
    }

    /// When a held frame must leave at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.deadline).min()
    }

    /// `SplitMix64`: tiny, and good enough to toss coins.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(rates: Rates, seed: u64) -> Vec<Fate> {
        let mut impairment = Impairment::new(rates, seed);
        (0..10_000).map(|_| impairment.fate()).collect()
    }

    #[test]
    fn a_perfect_network_sends_everything_once() {
        assert!(
            fates(Rates::default(), 1)
                .iter()
                .all(|fate| *fate == Fate::Send)
        );
    }

    #[test]
    fn the_seed_decides_the_fates() {
        let rates = Rates {
            loss: 10.0,
            duplicate: 10.0,
            reorder: 10.0,
        };
        assert_eq!(fates(rates, 7), fates(rates, 7));
        assert_ne!(fates(rates, 7), fates(rates, 8));
    }

    #[test]
    fn each_misfortune_comes_about_as_often_as_asked() {
        let all = fates(
            Rates {
                loss: 10.0,
                duplicate: 5.0,
                reorder: 20.0,
            },
            3,
        );
        let count = |wanted: fn(&Fate) -> bool| all.iter().filter(|fate| wanted(fate)).count();
        assert!((900..1100).contains(&count(|fate| *fate == Fate::Lose)));
        assert!((400..600).contains(&count(|fate| *fate == Fate::Duplicate)));
        assert!((1850..2150).contains(&count(|fate| matches!(fate, Fate::Hold(1..=4)))));
    }

    #[test]
    fn a_held_frame_leaves_once_overtaken_or_at_its_deadline() {
        let start = Instant::now();
        let mut impairment = Impairment::new(Rates::default(), 0);
        impairment.hold(4, vec![1], 2, start);
        impairment.hold(5, vec![2], 9, start);
        impairment.overtaken(4);
        assert_eq!(impairment.pop_due(start), None);
        impairment.overtaken(4);
        assert_eq!(impairment.pop_due(start), Some((4, vec![1])));
        assert_eq!(impairment.pop_due(start), None);
        assert_eq!(impairment.next_deadline(), Some(start + MAX_HOLD));
        assert_eq!(impairment.pop_due(start + MAX_HOLD), Some((5, vec![2])));
        assert_eq!(impairment.next_deadline(), None);
    }
}
