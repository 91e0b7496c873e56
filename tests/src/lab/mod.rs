//! The lab: network namespaces, a switch, backends and tmm itself, for end-to-end tests.

pub mod pattern;
