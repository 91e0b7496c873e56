//! Which of DPDK's installed drivers knows a PCI device: each plugin says so in its own file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What comes before a driver's description of itself, as DPDK's build puts it into a plugin.
const MARK: &[u8] = b"PMD_INFO_STRING= ";
/// Stands for any subsystem.
const ANY: u64 = 0xffff;

/// What the installed drivers say of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pmd {
    /// The driver that knows it, such as `net_iavf`.
    Known(String),
    /// None does.
    Nobody,
    /// That cannot be found out, as when DPDK's drivers are elsewhere.
    Unknown,
}

/// The network driver in `dir` that knows a device.
pub(crate) fn driver_of(dir: &Path, vendor: u16, device: u16) -> Pmd {
    let Ok(entries) = fs::read_dir(dir) else {
        return Pmd::Unknown;
    };
    // Each plugin has several names; one is enough.
    let files: BTreeSet<_> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("librte_net_")
        })
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .collect();
    if files.is_empty() {
        return Pmd::Unknown;
    }
    let known = files
        .iter()
        .filter_map(|file| fs::read(file).ok())
        .find_map(|plugin| {
            descriptions(&plugin)
                .into_iter()
                .find(|driver| knows(driver, vendor, device))
                .and_then(|driver| Some(driver.get("name")?.as_str()?.to_owned()))
        });
    known.map_or(Pmd::Nobody, Pmd::Known)
}

/// The descriptions in a plugin's file.
fn descriptions(plugin: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    let mut rest = plugin;
    while let Some(at) = rest
        .windows(MARK.len())
        .position(|window| window[0] == MARK[0] && window == MARK)
    {
        rest = &rest[at + MARK.len()..];
        let end = rest
            .iter()
            .position(|octet| *octet == 0)
            .unwrap_or(rest.len());
        found.extend(serde_json::from_slice(&rest[..end]));
    }
    found
}

/// Whether a driver's description lists the device, whatever its subsystem.
fn knows(driver: &Value, vendor: u16, device: u16) -> bool {
    let ids = driver.get("pci_ids").and_then(Value::as_array);
    ids.into_iter().flatten().any(|id| {
        let part = |index: usize| id.get(index).and_then(Value::as_u64);
        part(0) == Some(u64::from(vendor))
            && part(1).is_some_and(|id| id == u64::from(device) || id == ANY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_tells_the_devices_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = b"\x7fELF..PMD_INFO_STRING= {\"name\": \"net_a\"}\0..PMD_INFO_STRING= \
            {\"name\": \"net_b\", \"pci_ids\": [[32902, 5452, 65535, 65535]]}\0.PMD_INFO_STRING= {";
        fs::write(dir.path().join("librte_net_ab.so.23.0"), plugin).unwrap();
        let found = |device| driver_of(dir.path(), 0x8086, device);
        assert_eq!(found(0x154c), Pmd::Known("net_b".to_owned()));
        assert_eq!(found(0x1520), Pmd::Nobody);
        assert_eq!(driver_of(&dir.path().join("none"), 0x8086, 1), Pmd::Unknown);
    }

    #[test]
    fn the_installed_plugins_know_the_usual_virtual_functions() {
        let dir = crate::eal::driver_dir();
        let is_here = |plugin: &str| dir.join(format!("librte_{plugin}.so")).exists();
        for (plugin, vendor, device, driver) in [
            ("net_iavf", 0x8086, 0x154c, "net_iavf"),
            ("net_e1000", 0x8086, 0x10ca, "net_e1000_igb_vf"),
            ("net_ixgbe", 0x8086, 0x10ed, "net_ixgbe_vf"),
            ("net_mlx5", 0x15b3, 0x1018, "mlx5_eth"),
        ] {
            if !is_here(plugin) {
                println!("not tested: {plugin} is not installed");
                continue;
            }
            let found = driver_of(&dir, vendor, device);
            assert_eq!(found, Pmd::Known(driver.to_owned()), "{plugin}");
        }
    }
}
