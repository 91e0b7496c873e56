//! When the next frame is due.

use net::Timestamp;

use super::units::{float, whole};

/// Grants frames at an even rate. What could not be sent in time is made up for, but only up to a
/// limit: beyond it the debt is forgiven and counted, so that a pause of the machine never turns into
/// a burst that no queue would hold.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// Frames per nanosecond; `None` is no limit.
    per_nano: Option<f64>,
    start: Timestamp,
    /// Granted and forgiven since the start.
    spent: u64,
    forgiven: u64,
    limit: u64,
}

impl Pacer {
    /// `rate` frames per second from `start` on; without a rate, as many as are asked for.
    pub fn new(rate: Option<f64>, start: Timestamp) -> Self {
        // Five milliseconds' worth, between one burst and half of a usual receive queue.
        let limit = rate.map_or(0, |rate| whole(rate / 200.0).clamp(32, 512));
        Self {
            per_nano: rate.map(|rate| rate / 1e9),
            start,
            spent: 0,
            forgiven: 0,
            limit,
        }
    }

    /// How many of `most` frames are due at `now`, which are thereby granted.
    #[inline]
    pub fn due(&mut self, now: Timestamp, most: usize) -> usize {
        let Some(per_nano) = self.per_nano else {
            return most;
        };
        let elapsed = now.as_nanos().saturating_sub(self.start.as_nanos());
        let entitled = whole(float(elapsed) * per_nano);
        let mut owed = entitled.saturating_sub(self.spent);
        if owed > self.limit {
            let excess = owed - self.limit;
            self.spent += excess;
            self.forgiven += excess;
            owed = self.limit;
        }
        let granted = usize::try_from(owed).unwrap_or(most).min(most);
        self.spent += granted as u64;
        granted
    }

    /// Gives back frames that were granted but not made.
    pub fn give_back(&mut self, frames: usize) {
        self.spent = self.spent.saturating_sub(frames as u64);
    }

    /// Frames that were due but will not be made up for.
    pub const fn forgiven(&self) -> u64 {
        self.forgiven
    }

    /// The most frames that are made up for at once.
    pub const fn limit(&self) -> u64 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_interval_sees_more_than_its_rate_and_the_limit(
            rate in 1.0f64..50e6,
            steps in proptest::collection::vec((0u64..5_000_000, 0usize..64), 1..200),
        ) {
            let mut pacer = Pacer::new(Some(rate), Timestamp::from_secs(5));
            let mut now = 5_000_000_000u64;
            let mut history = Vec::new();
            let mut sent = 0u64;
            for (step, most) in steps {
                now += step;
                history.push((now, sent));
                sent += pacer.due(Timestamp::from_nanos(now), most) as u64;
                for (then, sent_then) in &history {
                    let allowed = rate * float(now - then) / 1e9 + float(pacer.limit()) + 1.0;
                    prop_assert!(float(sent - sent_then) <= allowed);
                }
                prop_assert!(float(sent) <= rate * float(now - 5_000_000_000) / 1e9 + 1.0);
            }
        }

        #[test]
        fn whoever_asks_often_enough_gets_the_whole_rate(rate in 1.0f64..20e6, steps in 1u64..20_000) {
            let mut pacer = Pacer::new(Some(rate), Timestamp::from_nanos(0));
            let mut sent = 0u64;
            for step in 1..=steps {
                sent += pacer.due(Timestamp::from_nanos(step * 1000), 64) as u64;
            }
            let wanted = rate * float(steps) / 1e6;
            prop_assert!((float(sent) - wanted).abs() <= 1.0, "{} of {}", sent, wanted);
            prop_assert_eq!(pacer.forgiven(), 0);
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for_beyond_the_limit() {
        let mut pacer = Pacer::new(Some(1e6), Timestamp::from_nanos(0));
        let now = Timestamp::from_secs(1);
        let mut sent = 0;
        loop {
            match pacer.due(now, 32) {
                0 => break,
                n => sent += n,
            }
        }
        assert_eq!(sent as u64, pacer.limit());
        assert_eq!(pacer.forgiven(), 1_000_000 - pacer.limit());
        pacer.give_back(3);
        assert_eq!(pacer.due(now, 32), 3);
    }
}
