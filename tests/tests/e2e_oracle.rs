//! The sessions that are written down, through Linux' connection tracking and through tmm: nothing differs but
//! what is argued. `make conntrack-oracle` does the same with captures besides.

use std::path::Path;
use std::process::Command;

use tests::lab::{Result, ensure, program};

// case LNX-003, LNX-004, LNX-005, LNX-006: the same segments through nf_conntrack itself, states compared.
#[test]
fn states_of_connections_differ_from_those_of_linux_only_as_argued() -> Result {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/conntrack_oracle.py");
    let told = Command::new("timeout")
        .args(["120", "python3"])
        .arg(script)
        .arg("--tmm")
        .arg(program("tmm")?)
        .output()?;
    let said = String::from_utf8_lossy(&told.stdout);
    let complaint = String::from_utf8_lossy(&told.stderr);
    ensure(told.status.success(), || format!("{said}{complaint}"))?;
    ensure(said.contains(" 0 of them not argued"), || {
        format!("nothing was compared: {said}")
    })
}
