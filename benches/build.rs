//! Compiles the shim of DPDK's hash table, one of the comparators of the flow table.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={why}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    for watched in ["build.rs", "shim/bench_hash.h", "shim/bench_hash.c"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    let program = std::env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(program)
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| format!("pkg-config: {error}"))?;
    let mut cc = cc::Build::new();
    cc.file("shim/bench_hash.c").include("shim").opt_level(3);
    for flag in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        cc.flag(flag);
    }
    cc.try_compile("tmm_bench_hash")
        .map_err(|error| format!("the shim of rte_hash does not compile: {error}"))?;
    // Behind the shim, which is what needs it.
    println!("cargo::rustc-link-lib=dylib=rte_hash");
    Ok(())
}
