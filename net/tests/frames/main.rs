//! Frames in, frames out: what the crate reads, writes and changes, against independent opinions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod answers;
mod build;
mod captures;
mod differential;
mod errors;
mod opinions;
mod plain;
mod rewrite;
mod roundtrip;
