//! The command `tmm ports`: what was found, for people and for programs.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use super::{Discovery, Found, discover, environment};
use crate::run::RunArgs;

/// Tell which ports tmm would have and what stands in their way.
///
/// Takes the options and the environment of `tmm run`, but starts nothing and touches nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all ports can be used; 1 something must be mended; 2 wrong usage."
)]
pub struct PortsArgs {
    #[command(flatten)]
    run: RunArgs,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Carries out `tmm ports`.
pub fn run(args: &PortsArgs) -> ExitCode {
    let found = discover(&crate::run::resolved(&args.run), &environment::own());
    let text = if args.json {
        format!("{}\n", json(&found))
    } else {
        human(&found)
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("tmm: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ if found.all_problems().is_none() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What was found, as text.
pub fn human(found: &Discovery) -> String {
    let mut lines = Vec::new();
    if !found.ports.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header([
            "PORT", "DEVICE", "DRIVER", "KERNEL", "GROUP", "NUMA", "MTU", "MAC", "LINK", "USABLE",
        ]);
        for port in &found.ports {
            table.add_row(row(port));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        lines.extend(table.lines().map(|line| line.trim_end().to_owned()));
    }
    for port in &found.ports {
        lines.push(String::new());
        lines.push(format!("{}: from {}", port.id, port.source));
        let fallback = port.choice.fallback.as_ref();
        let fallback = fallback.map_or(String::new(), |spec| format!(", else {spec}"));
        lines.push(format!("  {}{fallback}: {}", port.choice.spec, port.why));
        notes(&mut lines, "  ", &port.problems, &port.warnings);
    }
    if !found.skipped.is_empty() {
        lines.push(String::new());
        lines.push("no ports:".to_owned());
        let skipped = found.skipped.iter();
        lines.extend(skipped.map(|(name, why)| format!("  {name}: {why}")));
    }
    if !found.ports.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "hugepages: {} MiB wanted for packets and DPDK, {} MiB free",
            found.memory_mib, found.free_hugepage_mib
        ));
    }
    notes(&mut lines, "", &found.problems, &found.warnings);
    lines.join("\n") + "\n"
}

fn notes(lines: &mut Vec<String>, indent: &str, problems: &[String], warnings: &[String]) {
    let problems = problems.iter().map(|text| ("problem", text));
    let warnings = warnings.iter().map(|text| ("warning", text));
    lines.extend(
        problems
            .chain(warnings)
            .map(|(what, text)| format!("{indent}{what}: {text}")),
    );
}

fn row(port: &Found) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let (pci, netdev) = (port.pci.as_ref(), port.netdev.as_ref());
    let link = |up| if up { "up" } else { "down" }.to_owned();
    vec![
        port.id.to_string(),
        port.choice.spec.to_string(),
        known(port.driver.clone()),
        known(kernel_driver(port)),
        known(pci.and_then(|pci| pci.iommu_group.clone())),
        known(pci.and_then(|pci| pci.numa_node.map(|node| node.to_string()))),
        known(netdev.map(|netdev| netdev.mtu.to_string())),
        known(netdev.and_then(|netdev| netdev.mac.map(|mac| mac.to_string()))),
        known(netdev.map(|netdev| link(netdev.running))),
        if port.problems.is_empty() {
            "yes"
        } else {
            "no"
        }
        .to_owned(),
    ]
}

/// The kernel's driver of a PCI device, or the kind of an interface.
fn kernel_driver(port: &Found) -> Option<String> {
    if let Some(pci) = &port.pci {
        return pci.kernel_driver.clone();
    }
    let kind = port.netdev.as_ref().map(|netdev| netdev.kind.clone());
    kind.filter(|kind| !kind.is_empty())
}

/// What was found, as JSON.
pub fn json(found: &Discovery) -> Value {
    let ports: Vec<Value> = found.ports.iter().map(port_json).collect();
    let skipped: Vec<Value> = found
        .skipped
        .iter()
        .map(|(name, why)| json!({"interface": name, "why": why}))
        .collect();
    json!({
        "usable": found.all_problems().is_none(),
        "ports": ports,
        "skipped": skipped,
        "memoryMib": found.memory_mib,
        "freeHugepagesMib": found.free_hugepage_mib,
        "problems": found.problems,
        "warnings": found.warnings,
    })
}

fn port_json(port: &Found) -> Value {
    let (pci, netdev) = (port.pci.as_ref(), port.netdev.as_ref());
    json!({
        "port": port.id.to_string(),
        "device": port.choice.spec.to_string(),
        "fallback": port.choice.fallback.as_ref().map(ToString::to_string),
        "from": port.source,
        "why": port.why,
        "driver": port.driver,
        "kernelDriver": kernel_driver(port),
        "pciAddress": pci.map(|pci| pci.address.to_string()),
        "pciIds": pci.and_then(|pci| pci.ids).map(|(vendor, device)| format!("{vendor:04x}:{device:04x}")),
        "physicalFunction": pci.and_then(|pci| pci.physical_function).map(|pf| pf.to_string()),
        "iommuGroup": pci.and_then(|pci| pci.iommu_group.clone()),
        "noIommu": pci.map(|pci| pci.no_iommu),
        "numaNode": pci.and_then(|pci| pci.numa_node),
        "interface": netdev.map(|netdev| netdev.name.clone()),
        "mtu": netdev.map(|netdev| netdev.mtu),
        "mac": netdev.and_then(|netdev| netdev.mac).map(|mac| mac.to_string()),
        "link": netdev.map(|netdev| if netdev.running { "up" } else { "down" }),
        "usable": port.problems.is_empty(),
        "problems": port.problems,
        "warnings": port.warnings,
    })
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
