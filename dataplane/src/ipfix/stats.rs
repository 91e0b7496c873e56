//! What the exporter counts.

use crate::counters::Counter;

/// Written by the exporter's thread, read by whoever asks.
#[derive(Debug, Default)]
pub struct Stats {
    /// Data records made.
    pub records: Counter,
    /// Template records made.
    pub templates: Counter,
    /// Messages that the system took.
    pub messages: Counter,
    /// Octets of those.
    pub octets: Counter,
    /// Messages that it did not take, with what is in them.
    pub unsent: Counter,
    /// Flows that last and were not told of since too many do.
    pub skipped: Counter,
}
