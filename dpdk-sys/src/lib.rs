//! Raw bindings to the system's DPDK, generated when this crate is built.
//!
//! The build script asks `pkg-config` for `libdpdk` (22.11 LTS or newer), compiles `shim/shim.c`
//! and lets bindgen read `shim/shim.h`. Only what the `dpdk` crate calls is bound: a fixed list of
//! functions under their own names (`rte_…`), and the shim (`shim_…`, `SHIM_…`), which stands for
//!
//! * functions DPDK defines inline, such as `rte_eth_rx_burst`;
//! * macros, such as the `ol_flags` bits, with one type in every release;
//! * structures whose layout differs between releases: the shim copies them into its own, and the
//!   offsets of an mbuf's fields are exported as constants (`SHIM_MBUF_DATA_OFF`, …).
//!
//! So the same Rust source builds against DPDK 22.11 and 24.11. Nothing here is safe to call
//! without knowing DPDK's rules; use the `dpdk` crate.
//!
//! To build one needs, on Debian: `libdpdk-dev`, `clang`, `libclang-dev`, `pkg-config` and a C
//! compiler. To run: the `dpdk` drivers (`librte-net-*`).
//!
//! This crate shares nothing but its name with the `dpdk-sys` published on crates.io, which binds
//! DPDK 18.05; it is never published.

/// The DPDK release the bindings were generated from, such as `22.11.11`. The library found at run
/// time can be a later one of the same ABI; `rte_version()` tells.
pub const BUILT_AGAINST: &str = env!("DPDK_VERSION");

/// Folder the driver plugins of that release are installed in.
pub const DRIVER_DIR: &str = env!("DPDK_DRIVER_DIR");

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unused_qualifications,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
