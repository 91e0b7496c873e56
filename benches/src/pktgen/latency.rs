//! How long frames were under way.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times from 16 ns to a minute, each kept to within 1 %.
#[derive(Clone)]
pub struct Latency(Histogram<u64>);

/// The longest time that is told apart from longer ones, nanoseconds.
const LONGEST: u64 = 60_000_000_000;

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

impl Default for Latency {
    fn default() -> Self {
        // These bounds are valid; the next best is a histogram that grows by itself.
        Self(
            Histogram::new_with_bounds(1, LONGEST, 2)
                .or_else(|_| Histogram::new(2))
                .unwrap_or_else(|_| unreachable!("two digits are always possible")),
        )
    }
}

impl Latency {
    /// Takes one time, nanoseconds.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.clamp(1, LONGEST));
    }

    /// Forgets all times.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// The usual figures.
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.0.value_at_quantile(quantile);
        let empty = self.0.is_empty();
        Summary {
            samples: self.0.len(),
            min_ns: if empty { 0 } else { self.0.min() },
            mean_ns: self.0.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: self.0.max(),
        }
    }

    /// The curve of quantiles, from the median's neighbourhood into the tail: (quantile, nanoseconds).
    pub fn curve(&self) -> Vec<(f64, u64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        // Five steps per halving of what lies beyond, up to one in a million.
        (0..=100)
            .map(|step| 1.0 - 0.5f64.powf(f64::from(step) / 5.0))
            .map(|quantile| (quantile, self.0.value_at_quantile(quantile)))
            .collect()
    }
}

/// The usual figures of a distribution of times, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// How many times.
    pub samples: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The median.
    pub p50_ns: u64,
    /// One in ten is longer.
    pub p90_ns: u64,
    /// One in a hundred is longer.
    pub p99_ns: u64,
    /// One in a thousand is longer.
    pub p999_ns: u64,
    /// One in ten thousand is longer.
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_one_percent() {
        let mut latency = Latency::default();
        for nanos in 1..=100_000u64 {
            latency.record(nanos);
        }
        let summary = latency.summary();
        for (found, wanted) in [
            (summary.p50_ns, 50_000.0),
            (summary.p99_ns, 99_000.0),
            (summary.p9999_ns, 99_990.0),
        ] {
            let error = (super::super::units::float(found) - wanted).abs() / wanted;
            assert!(error < 0.01, "{found} for {wanted}");
        }
        assert_eq!(summary.samples, 100_000);
        let curve = latency.curve();
        assert!(curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        latency.reset();
        assert_eq!(latency.summary(), Summary::default());
    }

    #[test]
    fn absurd_times_are_kept_at_the_bounds() {
        let mut latency = Latency::default();
        latency.record(0);
        latency.record(u64::MAX);
        assert_eq!(latency.summary().samples, 2);
    }
}
