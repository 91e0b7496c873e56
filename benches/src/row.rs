//! One figure of the report.

use serde::{Deserialize, Serialize};

use crate::stats::Summary;

/// One figure: what was measured, at which size, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The section it belongs to.
    pub section: String,
    /// What was measured.
    pub case: String,
    /// How many flows, virtual servers, members or the like there were.
    pub size: u64,
    /// The unit of the figure.
    pub unit: String,
    /// The figure.
    #[serde(flatten)]
    pub summary: Summary,
}

impl Row {
    /// A figure.
    pub fn new(section: &str, case: impl Into<String>, size: u64, unit: &str, s: Summary) -> Self {
        Self {
            section: section.to_owned(),
            case: case.into(),
            size,
            unit: unit.to_owned(),
            summary: s,
        }
    }
}

/// Where sections put their figures, and say how far they are.
pub struct Sink<'a> {
    section: &'static str,
    effort: Effort,
    emit: &'a mut dyn FnMut(Row),
}

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Samples of a figure.
    pub samples: usize,
    /// Bursts of a sample.
    pub bursts: u64,
    /// The most flows.
    pub max_flows: u64,
    /// Seconds of a case that is measured by the clock.
    pub seconds: u64,
}

impl Effort {
    /// For figures that are to be shown.
    pub const FULL: Self = Self {
        samples: 61,
        bursts: 768,
        max_flows: 10_000_000,
        seconds: 4,
    };
    /// For a look, or to see that everything works.
    pub const QUICK: Self = Self {
        samples: 31,
        bursts: 128,
        max_flows: 65_536,
        seconds: 1,
    };
}

impl<'a> Sink<'a> {
    /// For the figures of a section.
    pub fn new(section: &'static str, effort: Effort, emit: &'a mut dyn FnMut(Row)) -> Self {
        Self {
            section,
            effort,
            emit,
        }
    }

    /// How long to measure.
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    /// A figure.
    pub fn put(&mut self, case: impl Into<String>, size: u64, unit: &str, summary: Summary) {
        (self.emit)(Row::new(self.section, case, size, unit, summary));
    }

    /// A figure that was taken once.
    pub fn single(&mut self, case: impl Into<String>, size: u64, unit: &str, value: f64) {
        self.put(case, size, unit, Summary::single(value));
    }

    /// The sizes among `sizes` that are not too much.
    pub fn sizes(&self, sizes: &[u64]) -> Vec<u64> {
        let max = self.effort.max_flows;
        sizes.iter().copied().filter(|size| *size <= max).collect()
    }
}

/// A size as it is written in tables: 1k, 64k, 10M.
pub fn size_name(size: u64) -> String {
    match size {
        65_536 => "64k".to_owned(),
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}
