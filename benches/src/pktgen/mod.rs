//! `tmm-pktgen`: the traffic generator, as a library.
//!
//! It plays both sides of a device under test: clients that send requests to a virtual server, and the
//! pool members that receive them translated and answer. Each frame carries a stamp, so that each side
//! can tell whether what arrives is what should: addresses, ports, tag, stations, hop limit, checksums,
//! payload, order.
//!
//! ```text
//!            ┌── clients' side ──▶ requests ─▶ ┌────────────┐ ─▶ translated ──▶ servers' side ──┐
//!  pace ─▶ frames                              │ under test │                      check, reply │
//!            └── check, count ◀── replies ◀─── └────────────┘ ◀────────────────── in place ◀────┘
//! ```
//!
//! From the bottom up: [`units`], [`addresses`], [`mix`], [`flows`], [`stamp`], [`frame`] (what is sent), [`seen`], [`check`]
//! (what came), [`pace`], [`search`], [`latency`]; the two sides [`client`] and [`server`]; the
//! [`engine`] that runs them on [`link`]s; the [`session`] that makes a test of it: open, trial, search,
//! close; [`report`] and [`plot`]. All of it is free of devices, clocks and threads: time comes in by a
//! [`session::World`], frames by a [`link::Link`]. Only `ports` and [`cli`] know DPDK.

pub mod addresses;
mod args;
pub mod check;
pub mod cli;
pub mod client;
pub mod counters;
pub mod engine;
pub mod flows;
pub mod frame;
pub mod latency;
pub mod link;
pub mod mix;
pub mod neighbor;
mod options;
pub mod pace;
pub mod plot;
mod ports;
pub mod report;
pub mod search;
pub mod seen;
pub mod sequence;
pub mod server;
pub mod session;
pub mod setup;
pub mod stamp;
pub mod trial;
pub mod units;
