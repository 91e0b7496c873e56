//! Finds the system's DPDK, compiles the shim and generates the bindings.
//!
//! `pkg-config` is run here rather than through the crate of that name, which drops
//! `-include rte_config.h` and `-march`; DPDK's inline functions need both.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The oldest DPDK release the shim is written for.
const OLDEST: (u32, u32) = (22, 11);

/// Every DPDK function the safe layer calls by its own name.
const FUNCTIONS: &[&str] = &[
    "rte_dev_probe",
    "rte_eal_cleanup",
    "rte_eal_init",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_reset",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_start",
    "rte_eth_dev_rx_intr_ctl_q_get_fd",
    "rte_eth_dev_rx_intr_disable",
    "rte_eth_dev_rx_intr_enable",
    "rte_eth_dev_stop",
    "rte_eth_dev_vlan_filter",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_allmulticast_enable",
    "rte_eth_stats_reset",
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_mempool_lookup",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            for line in why.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    for watched in ["build.rs", "shim/shim.h", "shim/shim.c"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    for watched in ["PKG_CONFIG", "PKG_CONFIG_PATH", "LIBCLANG_PATH", "CC"] {
        println!("cargo::rerun-if-env-changed={watched}");
    }

    let version = pkg_config("--modversion")?.join(" ");
    check_version(&version)?;
    let mut cflags = pkg_config("--cflags")?;
    cflags.push("-D_GNU_SOURCE".to_owned());
    let libs = pkg_config("--libs")?;

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    compile_shim(&cflags)?;
    generate_bindings(&cflags, &out)?;
    link(&libs);
    println!("cargo::rustc-env=DPDK_VERSION={version}");
    println!("cargo::rustc-env=DPDK_DRIVER_DIR={}", driver_dir()?);
    Ok(())
}

/// Output of `pkg-config <what> libdpdk`, in words.
fn pkg_config(what: &str) -> Result<Vec<String>, String> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&program)
        .args([what, "libdpdk"])
        .output()
        .map_err(|e| {
            format!(
                "cannot run {}: {e}\n\
                 pkg-config is needed to find DPDK. On Debian: apt-get install pkg-config libdpdk-dev",
                program.display()
            )
        })?;
    if !output.status.success() {
        return Err(format!(
            "DPDK's development files were not found (pkg-config {what} libdpdk failed).\n\
             On Debian: apt-get install libdpdk-dev dpdk\n\
             With a DPDK of your own, set PKG_CONFIG_PATH to the folder of its libdpdk.pc.\n{}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

fn check_version(version: &str) -> Result<(), String> {
    let mut parts = version.split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(year)), Some(Ok(month))) = (parts.next(), parts.next()) else {
        return Err(format!("libdpdk.pc has an unreadable version: {version:?}"));
    };
    if (year, month) < OLDEST {
        return Err(format!(
            "DPDK {version} is too old: {}.{} or newer is needed (Debian 12 and later have it)",
            OLDEST.0, OLDEST.1
        ));
    }
    Ok(())
}

fn compile_shim(cflags: &[String]) -> Result<(), String> {
    let mut cc = cc::Build::new();
    cc.file("shim/shim.c").include("shim").cargo_warnings(true);
    // DPDK's inline functions are slow and noisy unoptimised, and the shim is their only user.
    cc.opt_level(3)
        .flag_if_supported("-Wno-deprecated-declarations");
    for flag in cflags {
        cc.flag(flag);
    }
    cc.try_compile("tmm_dpdk_shim").map_err(|e| {
        format!(
            "the C shim does not compile against this DPDK: {e}\n\
             A C compiler is needed; on Debian: apt-get install gcc libdpdk-dev"
        )
    })
}

fn generate_bindings(cflags: &[String], out: &Path) -> Result<(), String> {
    let mut builder = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(cflags)
        .allowlist_function("shim_.*")
        .allowlist_var("SHIM_.*")
        .allowlist_type("shim_.*")
        // Only ever behind a pointer: their layout is DPDK's business.
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool")
        .generate_comments(false)
        .layout_tests(false)
        .derive_default(true)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    // bindgen panics, and says why, when it cannot load libclang.
    let bindings = catch_unwind(AssertUnwindSafe(|| builder.generate()))
        .map_err(|_| format!("libclang is needed to read DPDK's headers.\n{CLANG_HINT}"))?
        .map_err(|e| format!("bindgen could not read DPDK's headers: {e}\n{CLANG_HINT}"))?;
    bindings
        .write_to_file(out.join("bindings.rs"))
        .map_err(|e| format!("cannot write {}: {e}", out.join("bindings.rs").display()))
}

const CLANG_HINT: &str = "On Debian: apt-get install clang libclang-dev";

/// Passes pkg-config's libraries on; `--as-needed` keeps of them what is used.
fn link(libs: &[String]) {
    for word in libs {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={folder}");
        } else if let Some(library) = word.strip_prefix("-l") {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
}

/// The folder a shared DPDK of this build loads its drivers from.
fn driver_dir() -> Result<String, String> {
    let libdir = pkg_config("--variable=libdir")?.join(" ");
    let plugins = Path::new(&libdir).join("dpdk");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&plugins)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("pmds-"))
        })
        .collect();
    found.sort();
    Ok(found.pop().unwrap_or(plugins).display().to_string())
}
