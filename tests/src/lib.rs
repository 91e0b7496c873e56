//! Scenario, replay and end-to-end tests.
