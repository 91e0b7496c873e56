//! Samples, and what is said of them: the median, and how far they spread.

use serde::{Deserialize, Serialize};

/// What is said of the samples of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Half of the samples are below.
    pub median: f64,
    /// One in twenty is below.
    pub p5: f64,
    /// One in twenty is above.
    pub p95: f64,
    /// How many there are.
    pub samples: usize,
}

impl Summary {
    /// Of samples in any order; `None` of none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: rank(&sorted, 500)?,
            p5: rank(&sorted, 50)?,
            p95: rank(&sorted, 950)?,
            samples: sorted.len(),
        })
    }

    /// A figure that was taken once.
    pub const fn single(value: f64) -> Self {
        Self {
            median: value,
            p5: value,
            p95: value,
            samples: 1,
        }
    }
}

/// The value that `permille` thousandths of the sorted samples are not above (nearest rank).
pub fn rank<T: Copy>(sorted: &[T], permille: usize) -> Option<T> {
    let at = (sorted.len() * permille)
        .div_ceil(1000)
        .saturating_sub(1)
        .min(sorted.len().checked_sub(1)?);
    sorted.get(at).copied()
}

/// A count as a floating-point number; exact below 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures of a report, far below 2^53"
)]
pub const fn float(n: u64) -> f64 {
    n as f64
}

/// `a` divided by `b`, and zero if `b` is.
pub fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { float(a) / float(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_sample_and_the_spread_lies_around_it() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let summary = Summary::of(&samples).unwrap();
        assert_eq!((summary.p5, summary.median, summary.p95), (5.0, 50.0, 95.0));
        assert_eq!(summary.samples, 100);
    }

    #[test]
    fn of_one_sample_everything_is_that_sample_and_of_none_nothing() {
        assert_eq!(Summary::of(&[3.5]), Some(Summary::single(3.5)));
        assert_eq!(Summary::of(&[]), None);
    }
}
