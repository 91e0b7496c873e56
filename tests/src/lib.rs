//! Scenario, replay and end-to-end tests.

pub mod ipfix;
pub mod lab;
pub mod scenario;
pub mod served;
