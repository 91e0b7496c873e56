//! The search for the highest rate without loss (RFC 2544 section 26.1): trials at falling and rising
//! rates, until the highest that passed and the lowest that failed are close together.

/// How a search goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchConfig {
    /// The first rate tried, frames per second; without it, as fast as the port takes them.
    pub highest: Option<f64>,
    /// Below this rate the search gives up, frames per second.
    pub lowest: f64,
    /// How close the bounds must come, as a fraction of the upper one.
    pub resolution: f64,
    /// The fraction of frames that may be lost in a trial that passes; 0 for RFC 2544.
    pub tolerance: f64,
    /// How often a trial that failed is repeated before it counts.
    pub retries: u32,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            highest: None,
            lowest: 100.0,
            resolution: 0.01,
            tolerance: 0.0,
            retries: 0,
        }
    }
}

/// Which rate comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Probe {
    /// As fast as the port takes them.
    Unlimited,
    /// Frames per second.
    Rate(f64),
}

/// What a trial showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// What was really offered, frames per second.
    pub offered: f64,
    /// What came back, frames per second.
    pub received: f64,
    /// The fraction that was lost.
    pub loss: f64,
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The highest rate at which a trial passed, frames per second; `None` if none did.
    pub packets_per_second: Option<f64>,
    /// The lowest rate at which one failed.
    pub failed_at: Option<f64>,
    /// The generator could not offer more, so the device may do better.
    pub limited_by_generator: bool,
}

/// No search takes more trials than this.
const MOST_TRIALS: u32 = 64;
/// An offered rate below this fraction of the one asked for is the generator's own limit.
const SHORT: f64 = 0.98;

/// A search under way: ask for the [`next`](Self::next) probe, run it, [`record`](Self::record) it.
#[derive(Debug, Clone)]
pub struct Search {
    config: SearchConfig,
    passed: Option<f64>,
    failed: Option<f64>,
    /// A rate worth trying: what came through when too much was offered.
    hint: Option<f64>,
    attempts: u32,
    trials: u32,
    limited: bool,
    done: bool,
}

impl Search {
    /// A search that has not begun.
    pub const fn new(config: SearchConfig) -> Self {
        Self {
            config,
            passed: None,
            failed: None,
            hint: None,
            attempts: 0,
            trials: 0,
            limited: false,
            done: false,
        }
    }

    /// The next rate to try; `None` when the search is over.
    pub fn next(&self) -> Option<Probe> {
        if self.done || self.trials >= MOST_TRIALS {
            return None;
        }
        let Some(failed) = self.failed else {
            return Some(self.config.highest.map_or(Probe::Unlimited, Probe::Rate));
        };
        let low = self.passed.unwrap_or(0.0);
        if failed <= self.config.lowest || failed - low <= failed * self.config.resolution {
            return None;
        }
        let hint = self.hint.filter(|hint| *hint > low && *hint < failed);
        Some(Probe::Rate(hint.unwrap_or(f64::midpoint(low, failed))))
    }

    /// Takes the result of the probe that [`next`](Self::next) named.
    pub fn record(&mut self, seen: Observation) {
        let Some(probe) = self.next() else { return };
        self.trials += 1;
        let asked = match probe {
            Probe::Unlimited => seen.offered,
            Probe::Rate(rate) => rate,
        };
        if seen.loss <= self.config.tolerance {
            self.attempts = 0;
            self.hint = None;
            // What was not offered was not shown to pass.
            let short = seen.offered < asked * SHORT;
            let rate = if short { seen.offered } else { asked };
            self.passed = Some(self.passed.map_or(rate, |passed| passed.max(rate)));
            // Nothing above the first rate is asked for.
            if self.failed.is_none() {
                self.limited = short || probe == Probe::Unlimited;
                self.done = true;
            }
            return;
        }
        self.attempts += 1;
        if self.attempts <= self.config.retries {
            return;
        }
        self.attempts = 0;
        // A trial that fell short failed at the rate it reached.
        let rate = asked.min(seen.offered.max(self.passed.unwrap_or(0.0)));
        let first = self.failed.is_none();
        self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
        self.hint = first.then_some(seen.received);
        if rate <= 0.0 {
            self.done = true;
        }
    }

    /// What is known so far.
    pub const fn found(&self) -> Found {
        Found {
            packets_per_second: self.passed,
            failed_at: self.failed,
            limited_by_generator: self.limited,
        }
    }

    /// Trials recorded.
    pub const fn trials(&self) -> u32 {
        self.trials
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A device that loses what exceeds its capacity, and a generator with a limit of its own.
    fn run(config: SearchConfig, capacity: f64, generator: f64) -> Search {
        let mut search = Search::new(config);
        while let Some(probe) = search.next() {
            let offered = match probe {
                Probe::Unlimited => generator,
                Probe::Rate(rate) => rate.min(generator),
            };
            let received = offered.min(capacity);
            search.record(Observation {
                offered,
                received,
                loss: 1.0 - received / offered,
            });
        }
        search
    }

    proptest! {
        #[test]
        fn the_search_ends_close_below_the_capacity(
            capacity in 1_000.0f64..50e6, excess in 1.1f64..1000.0, resolution in 0.001f64..0.1,
        ) {
            let config = SearchConfig { resolution, lowest: 10.0, ..SearchConfig::default() };
            let search = run(config, capacity, capacity * excess);
            let found = search.found();
            let rate = found.packets_per_second.unwrap();
            prop_assert!(rate <= capacity * 1.000_001);
            prop_assert!(rate >= capacity * (1.0 - 2.0 * resolution), "{} of {}", rate, capacity);
            prop_assert!(!found.limited_by_generator);
            prop_assert!(search.trials() < 40);
        }
    }

    #[test]
    fn a_device_that_loses_nothing_is_as_fast_as_the_generator() {
        let found = run(SearchConfig::default(), 1e9, 7e6).found();
        assert_eq!(found.packets_per_second, Some(7e6));
        assert!(found.limited_by_generator);
        let config = SearchConfig {
            highest: Some(5e6),
            ..SearchConfig::default()
        };
        let found = run(config, 1e9, 7e6).found();
        assert_eq!(found.packets_per_second, Some(5e6));
        assert!(!found.limited_by_generator, "no more was asked for");
    }

    #[test]
    fn a_device_that_loses_everything_has_no_rate() {
        let search = run(SearchConfig::default(), 0.0, 7e6);
        assert_eq!(search.found().packets_per_second, None);
        assert!(search.trials() < 30);
    }

    #[test]
    fn one_lost_frame_is_forgiven_only_where_that_is_asked_for() {
        let observe = |tolerance, retries| {
            let mut search = Search::new(SearchConfig {
                tolerance,
                retries,
                highest: Some(1e6),
                ..SearchConfig::default()
            });
            search.record(Observation {
                offered: 1e6,
                received: 999_999.0,
                loss: 1e-6,
            });
            (search.found().packets_per_second, search.found().failed_at)
        };
        assert_eq!(observe(0.0, 0), (None, Some(1e6)));
        assert_eq!(observe(1e-5, 0), (Some(1e6), None));
        assert_eq!(observe(0.0, 1), (None, None), "it is tried again");
    }
}
