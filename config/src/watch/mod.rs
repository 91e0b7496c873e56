//! The watch-event protocol of the config socket as a state machine.
//!
//! A [`Hub`] holds what all feeders have given; each connection has a [`Session`]. Bytes go in,
//! lines come out, and the caller does everything that takes a socket, a thread or a clock:
//!
//! ```text
//! loop over connections:   session.feed(&mut hub, bytes, &mut out)   → write out, answer Show
//! when hub.take_changes(): resolve(hub.store(), replica) → compile → publish to workers
//!                          hub.publish(states)                       → STATE lines per session
//! ```
//!
//! # Framing
//! One JSON value per line is the documented form. Values that follow each other in any other
//! way, indented ones included, are taken as well: that is what `kubectl get --watch
//! --output-watch-events -o json` writes. After input that is not JSON, reading goes on at the
//! next line; a line that begins with `{` in its first column always begins a new value.
//!
//! # Lists and feeders
//! A feeder (named by `HELLO`, else `default`) begins a session with its list and a `BOOKMARK`
//! annotated `k8s.io/initial-events-end: "true"`. Then, and not before, what earlier sessions of
//! that feeder gave and this one did not is removed: of the bookmark's kind if it names one (each
//! Kubernetes watch is about one kind), else of all kinds. A feeder that dies loses nothing.

mod hub;
mod session;
mod splitter;

pub use hub::{Changes, Hub};
pub use session::{Output, Session};
pub use splitter::{Item, MAX_ELEMENTS, Splitter, Why};

/// Longest value a session takes, in bytes.
pub const MAX_VALUE: usize = 8 * 1024 * 1024;
