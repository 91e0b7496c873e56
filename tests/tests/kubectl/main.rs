//! A real kubectl as the feeder: it reads a stand-in for the API server of Kubernetes, and what it
//! prints goes through `tmmctl feed` or `tmmctl sync` into the real control side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod feed;
mod site;
mod sync;
