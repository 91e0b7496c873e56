//! What a trial is asked to do, and what it showed.

use std::time::Duration;

use serde::Serialize;

use super::client::Job;
use super::counters::Counters;
use super::latency::Summary;

/// What is asked of a trial.
#[derive(Debug, Clone)]
pub struct Order {
    /// What it is for.
    pub phase: String,
    /// [`Job::Data`] or [`Job::Connect`].
    pub job: Job,
    /// Per second; `None` is as fast as possible.
    pub rate: Option<f64>,
    /// How long is sent.
    pub duration: Duration,
}

/// What is going on.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is being done.
    pub phase: String,
    /// Since it began.
    pub elapsed: Duration,
    /// Frames (or connections) sent per second since the last one.
    pub sent_per_second: f64,
    /// Frames (or connections) that came back per second since the last one.
    pub received_per_second: f64,
    /// Frames sent and not back.
    pub outstanding: u64,
    /// Faulty frames on both sides.
    pub faulty: u64,
    /// The median so far, nanoseconds.
    pub p50_ns: u64,
    /// One in a hundred is longer, nanoseconds.
    pub p99_ns: u64,
}

/// One point of a series over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Since the trial began, seconds.
    pub seconds: f64,
    /// Sent per second.
    pub sent_per_second: f64,
    /// Came back per second.
    pub received_per_second: f64,
}

/// How opening the flows went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// Flows that there are.
    pub flows: u32,
    /// Flows that are open.
    pub open: u32,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// What one trial showed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// What it was for.
    pub phase: String,
    /// Whether it counts connections instead of frames.
    pub connections: bool,
    /// What was asked for per second; `None` is as fast as possible.
    pub asked_per_second: Option<f64>,
    /// How long was sent, seconds.
    pub seconds: f64,
    /// Sent.
    pub sent: u64,
    /// Sent per second.
    pub sent_per_second: f64,
    /// Came back, each counted once.
    pub received: u64,
    /// Came back per second.
    pub received_per_second: f64,
    /// Octets sent with their check sequences.
    pub sent_octets: u64,
    /// Did not come back.
    pub lost: u64,
    /// The fraction that did not come back.
    pub loss: f64,
    /// Of these, how many did not even come to the servers' side.
    pub lost_on_the_way_there: u64,
    /// Were due, but not sent, for the generator had been held up.
    pub not_offered: u64,
    /// Faulty frames on both sides.
    pub faulty: u64,
    /// Times to the other side and back (to open a connection; one way where nothing comes back).
    pub latency: Summary,
    /// Times from the clients' to the servers' side.
    pub latency_there: Summary,
    /// Quantiles of the latency: (quantile, nanoseconds).
    pub latency_curve: Vec<(f64, u64)>,
    /// What the clients' side counted.
    pub client: Counters,
    /// What the servers' side counted.
    pub server: Counters,
    /// The series over time.
    pub samples: Vec<Sample>,
    /// Cut short by the user.
    pub stopped: bool,
}
