//! Scenario, replay and end-to-end tests.

pub mod lab;
pub mod scenario;
