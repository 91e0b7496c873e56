//! What the environment of a pod says about its devices.
//!
//! The SR-IOV device plugin tells a container the devices of a resource by
//! `PCIDEVICE_<PREFIX>_<RESOURCE>`, and more about them by `…_INFO`, in JSON.
//! `OPENSHIFT_VFIO_RESOURCE_<n>` says which resource the port 1.n is.

use std::collections::{BTreeMap, BTreeSet};

use dpdk::PciAddress;
use net::PortId;

/// How the variables that name resources begin.
pub const RESOURCE: &str = "OPENSHIFT_VFIO_RESOURCE_";
/// How the variables that name devices begin.
const DEVICES: &str = "PCIDEVICE_";
/// What is behind the name of one that tells more about devices.
const INFO: &str = "_INFO";

/// The environment, by name.
pub type Environment = BTreeMap<String, String>;

/// The variables of this process that matter here. A resource that is set to nothing counts as not
/// set, as manifests leave them.
pub fn own() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| {
            name.starts_with(DEVICES) || (name.starts_with(RESOURCE) && !value.trim().is_empty())
        })
        .collect()
}

/// A port by the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Which port.
    pub id: PortId,
    /// The device it is.
    pub address: PciAddress,
    /// Where that is said, such as `OPENSHIFT_VFIO_RESOURCE_1 → PCIDEVICE_OPENSHIFT_IO_A`.
    pub source: String,
}

/// The ports that the environment names, by number, and what is wrong with it: all of it, and no
/// ports then.
///
/// Where several variables name one resource, they take its devices in turn. Devices of a resource
/// that are left over come after the last port that is named.
pub fn assign(environment: &Environment) -> Result<Vec<Assigned>, Vec<String>> {
    let mut problems = Vec::new();
    let wanted = wanted(environment, &mut problems);
    let mut resources: BTreeMap<&str, Devices> = BTreeMap::new();
    let mut ports = Vec::new();
    for (number, resource) in &wanted {
        let variable = format!("{RESOURCE}{number}");
        let found = match find(environment, resource) {
            Ok(name) => name,
            Err(problem) => {
                problems.push(format!("{variable}={resource}: {problem}"));
                continue;
            }
        };
        if !resources.contains_key(found) {
            let listed = environment.get(found).map_or("", String::as_str);
            match addresses(found, listed) {
                Ok(addresses) => {
                    let devices = Devices {
                        addresses,
                        taken: 0,
                        by: Vec::new(),
                    };
                    resources.insert(found, devices);
                }
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            }
        }
        let Some(devices) = resources.get_mut(found) else {
            continue;
        };
        devices.by.push(variable.clone());
        let Some(address) = devices.addresses.get(devices.taken).copied() else {
            problems.push(format!(
                "{} name the resource \"{resource}\", but {found} lists {} only: ask for as many in the pod's \
                 resources, or name it less often",
                devices.by.join(", "),
                count(devices.addresses.len(), "device"),
            ));
            continue;
        };
        devices.taken += 1;
        ports.push((address, format!("{variable} → {found}")));
    }
    for (name, devices) in &resources {
        let rest = devices.addresses.iter().skip(devices.taken);
        ports.extend(rest.map(|address| (*address, format!("{name}, left over"))));
    }
    twice(&resources, &mut problems);
    if ports.len() > usize::from(u8::MAX) {
        problems.push(format!(
            "{} devices are too many: there are ports 1.1 to 1.255",
            ports.len()
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok((0..=u8::MAX)
        .zip(ports)
        .map(|(number, (address, source))| Assigned {
            id: PortId(number),
            address,
            source,
        })
        .collect())
}

/// The devices of a resource.
struct Devices {
    addresses: Vec<PciAddress>,
    /// How many of them are ports already.
    taken: usize,
    /// Which variables name the resource.
    by: Vec<String>,
}

/// The resources asked for, by the number of their port.
fn wanted(environment: &Environment, problems: &mut Vec<String>) -> BTreeMap<u16, String> {
    let mut wanted = BTreeMap::new();
    for (name, resource) in environment {
        let Some(number) = name.strip_prefix(RESOURCE) else {
            continue;
        };
        let plain = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
        match number.parse::<u16>().ok().filter(|n| plain && *n <= 255) {
            Some(number) => {
                wanted.insert(number, resource.trim().to_owned());
            }
            None => problems.push(format!(
                "{name}: the number at the end says which port it is, from 1 to 255"
            )),
        }
    }
    for (expected, number) in (1..).zip(wanted.keys()) {
        if *number != expected {
            problems.push(format!(
                "{RESOURCE}{number} is set, but not {RESOURCE}{expected}: ports are numbered 1.1, 1.2, … without gaps"
            ));
            break;
        }
    }
    wanted
}

/// As the device plugin makes a variable of a name.
fn normal(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}

/// The variable that lists the devices of a resource, whatever its prefix, or why there is none.
fn find<'a>(environment: &'a Environment, resource: &str) -> Result<&'a str, String> {
    let wanted = normal(resource);
    let mut found: Vec<(&str, String)> = Vec::new();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(DEVICES) else {
            continue;
        };
        if is_info(environment, name, value) {
            continue;
        }
        let rest = normal(rest);
        let prefix = rest.strip_suffix(&wanted);
        // The resource may be given with its prefix, or without.
        match prefix {
            Some("") => return Ok(name),
            Some(prefix) if prefix.ends_with('_') => found.push((name, prefix.to_owned())),
            _ => {}
        }
    }
    // What ends like it may be another resource of the same plugin: "a" and "my_a".
    let shortest: Vec<&str> = found
        .iter()
        .filter(|(_, prefix)| {
            !found
                .iter()
                .any(|(_, other)| other != prefix && prefix.starts_with(other.as_str()))
        })
        .map(|(name, _)| *name)
        .collect();
    match shortest.as_slice() {
        [one] => Ok(one),
        [] => {
            let have: Vec<&str> = environment
                .iter()
                .filter(|(name, value)| {
                    name.starts_with(DEVICES) && !is_info(environment, name, value)
                })
                .map(|(name, _)| name.as_str())
                .collect();
            let have = if have.is_empty() {
                "there is no such variable at all".to_owned()
            } else {
                format!("there are: {}", have.join(", "))
            };
            Err(format!(
                "no variable {DEVICES}…_{wanted} lists its devices ({have}): ask for the resource in the container's \
                 `resources.limits`, and attach its network"
            ))
        }
        several => Err(format!(
            "{} all list devices of a resource of that name: write it with its prefix, such as openshift.io/{resource}",
            several.join(", ")
        )),
    }
}

/// Whether a variable tells more about devices (`…_INFO`) rather than listing them. A resource may be
/// called so too.
fn is_info(environment: &Environment, name: &str, value: &str) -> bool {
    let base = name.strip_suffix(INFO);
    let json = value.trim_start().starts_with('{');
    base.is_some_and(|base| json || environment.contains_key(base))
}

/// The devices that a variable lists.
fn addresses(name: &str, listed: &str) -> Result<Vec<PciAddress>, String> {
    let mut found = Vec::new();
    for part in listed
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let address: PciAddress = part.parse().map_err(|_| {
            format!(
                "{name}=\"{listed}\": \"{part}\" is no PCI address such as 0000:3b:02.0; only resources of PCI \
                 devices can be ports"
            )
        })?;
        if found.contains(&address) {
            return Err(format!("{name}=\"{listed}\" lists {address} twice"));
        }
        found.push(address);
    }
    if found.is_empty() {
        return Err(format!(
            "{name} lists no device: ask for the resource in the container's `resources.limits`"
        ));
    }
    Ok(found)
}

/// Notices devices that are in two resources.
fn twice(resources: &BTreeMap<&str, Devices>, problems: &mut Vec<String>) {
    let mut seen: BTreeMap<PciAddress, &str> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (name, devices) in resources {
        for address in &devices.addresses {
            match seen.get(address) {
                Some(other) if told.insert(*address) => problems.push(format!(
                    "{address} is listed by {other} and by {name}: a device can be one port only"
                )),
                Some(_) => {}
                None => {
                    seen.insert(*address, name);
                }
            }
        }
    }
}

/// A number and what there are so many of.
fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports and devices in a line, or the problems.
    fn outcome(variables: &[(&str, &str)]) -> String {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        match assign(&environment) {
            Ok(ports) => ports
                .iter()
                .map(|port| format!("{}={} ({})", port.id, port.address, port.source))
                .collect::<Vec<_>>()
                .join("\n"),
            Err(problems) => problems.join("\n"),
        }
    }

    const FIRST: (&str, &str) = ("OPENSHIFT_VFIO_RESOURCE_1", "vfio_a");
    const SECOND: (&str, &str) = ("OPENSHIFT_VFIO_RESOURCE_2", "vfio_b");
    const A: (&str, &str) = ("PCIDEVICE_OPENSHIFT_IO_VFIO_A", "0000:3b:02.0");
    const B: (&str, &str) = ("PCIDEVICE_OPENSHIFT_IO_VFIO_B", "0000:3b:0a.1");

    #[test]
    fn resources_become_ports_in_their_order() {
        insta::assert_snapshot!(outcome(&[FIRST, SECOND, A, B]), @r"
        1.1=0000:3b:02.0 (OPENSHIFT_VFIO_RESOURCE_1 → PCIDEVICE_OPENSHIFT_IO_VFIO_A)
        1.2=0000:3b:0a.1 (OPENSHIFT_VFIO_RESOURCE_2 → PCIDEVICE_OPENSHIFT_IO_VFIO_B)
        ");
        // Numbers count, not the order of the names.
        let many: Vec<(String, String)> = (1..=11)
            .map(|n| (format!("{RESOURCE}{n}"), "all".to_owned()))
            .collect();
        let mut all: Vec<(&str, &str)> = many
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let devices = (0..11)
            .map(|n| format!("0000:3b:{n:02x}.0"))
            .collect::<Vec<_>>()
            .join(",");
        all.push(("PCIDEVICE_INTEL_COM_ALL", &devices));
        let text = outcome(&all);
        assert!(
            text.contains("1.10=0000:3b:09.0") && text.contains("1.2=0000:3b:01.0"),
            "{text}"
        );
    }

    #[test]
    fn the_prefix_may_be_any_and_may_be_given() {
        for resource in [
            "vfio_a",
            "openshift.io/vfio_a",
            "openshift.io/vfio-a",
            "VFIO.A",
        ] {
            let text = outcome(&[("OPENSHIFT_VFIO_RESOURCE_1", resource), A]);
            assert!(text.starts_with("1.1=0000:3b:02.0"), "{resource}: {text}");
        }
        for variable in [
            "PCIDEVICE_INTEL_COM_VFIO_A",
            "PCIDEVICE_VFIO_A",
            // The plugin leaves dashes of the prefix alone.
            "PCIDEVICE_EXAMPLE-NETS_ORG_VFIO_A",
        ] {
            let text = outcome(&[FIRST, (variable, "0000:3b:02.0")]);
            assert!(text.starts_with("1.1=0000:3b:02.0"), "{variable}: {text}");
        }
    }

    #[test]
    fn what_is_said_about_devices_in_json_is_not_a_list_of_them() {
        let info = (
            "PCIDEVICE_OPENSHIFT_IO_VFIO_A_INFO",
            r#"{"0000:3b:02.0":{"generic":{"deviceID":"0000:3b:02.0"}}}"#,
        );
        let text = outcome(&[FIRST, A, info]);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("1.1=0000:3b:02.0"), "{text}");
        let lonely = outcome(&[FIRST, info]);
        assert!(
            lonely.contains("no variable PCIDEVICE_…_VFIO_A"),
            "{lonely}"
        );
        // But a resource may have such a name.
        let text = outcome(&[
            ("OPENSHIFT_VFIO_RESOURCE_1", "a_info"),
            ("PCIDEVICE_INTEL_COM_A_INFO", "0000:3b:02.0"),
        ]);
        assert!(text.starts_with("1.1=0000:3b:02.0"), "{text}");
    }

    #[test]
    fn a_resource_with_several_devices_gives_them_in_turn_and_the_rest_at_the_end() {
        let pair = (
            "PCIDEVICE_OPENSHIFT_IO_VFIO_A",
            "0000:3b:02.0,0000:3b:02.1, 0000:3b:02.2",
        );
        let again = ("OPENSHIFT_VFIO_RESOURCE_3", "vfio_a");
        insta::assert_snapshot!(outcome(&[FIRST, SECOND, again, pair, B]), @r"
        1.1=0000:3b:02.0 (OPENSHIFT_VFIO_RESOURCE_1 → PCIDEVICE_OPENSHIFT_IO_VFIO_A)
        1.2=0000:3b:0a.1 (OPENSHIFT_VFIO_RESOURCE_2 → PCIDEVICE_OPENSHIFT_IO_VFIO_B)
        1.3=0000:3b:02.1 (OPENSHIFT_VFIO_RESOURCE_3 → PCIDEVICE_OPENSHIFT_IO_VFIO_A)
        1.4=0000:3b:02.2 (PCIDEVICE_OPENSHIFT_IO_VFIO_A, left over)
        ");
    }

    #[test]
    fn names_that_end_alike_are_told_apart() {
        let other = ("PCIDEVICE_OPENSHIFT_IO_MY_VFIO_A", "0000:3b:05.0");
        let text = outcome(&[FIRST, A, other]);
        assert!(text.starts_with("1.1=0000:3b:02.0"), "{text}");
        let twin = ("PCIDEVICE_INTEL_COM_VFIO_A", "0000:3b:05.0");
        insta::assert_snapshot!(outcome(&[FIRST, A, twin]), @"OPENSHIFT_VFIO_RESOURCE_1=vfio_a: PCIDEVICE_INTEL_COM_VFIO_A, PCIDEVICE_OPENSHIFT_IO_VFIO_A all list devices of a resource of that name: write it with its prefix, such as openshift.io/vfio_a");
        let exact = ("OPENSHIFT_VFIO_RESOURCE_1", "intel.com/vfio_a");
        assert!(outcome(&[exact, A, twin]).starts_with("1.1=0000:3b:05.0"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        insta::assert_snapshot!(outcome(&[
            ("OPENSHIFT_VFIO_RESOURCE_0", "x"),
            ("OPENSHIFT_VFIO_RESOURCE_1", "gone"),
            ("OPENSHIFT_VFIO_RESOURCE_2", "vfio_a"),
            ("OPENSHIFT_VFIO_RESOURCE_4", "vfio_a"),
            ("OPENSHIFT_VFIO_RESOURCE_5", "vfio_b"),
            ("OPENSHIFT_VFIO_RESOURCE_6", "odd"),
            ("OPENSHIFT_VFIO_RESOURCE_x", "x"),
            A,
            ("PCIDEVICE_OPENSHIFT_IO_VFIO_B", "0000:3b:02.0"),
            ("PCIDEVICE_OPENSHIFT_IO_ODD", "mlx5_core.sf.4"),
        ]), @r#"
        OPENSHIFT_VFIO_RESOURCE_0: the number at the end says which port it is, from 1 to 255
        OPENSHIFT_VFIO_RESOURCE_x: the number at the end says which port it is, from 1 to 255
        OPENSHIFT_VFIO_RESOURCE_4 is set, but not OPENSHIFT_VFIO_RESOURCE_3: ports are numbered 1.1, 1.2, … without gaps
        OPENSHIFT_VFIO_RESOURCE_1=gone: no variable PCIDEVICE_…_GONE lists its devices (there are: PCIDEVICE_OPENSHIFT_IO_ODD, PCIDEVICE_OPENSHIFT_IO_VFIO_A, PCIDEVICE_OPENSHIFT_IO_VFIO_B): ask for the resource in the container's `resources.limits`, and attach its network
        OPENSHIFT_VFIO_RESOURCE_2, OPENSHIFT_VFIO_RESOURCE_4 name the resource "vfio_a", but PCIDEVICE_OPENSHIFT_IO_VFIO_A lists 1 device only: ask for as many in the pod's resources, or name it less often
        PCIDEVICE_OPENSHIFT_IO_ODD="mlx5_core.sf.4": "mlx5_core.sf.4" is no PCI address such as 0000:3b:02.0; only resources of PCI devices can be ports
        0000:3b:02.0 is listed by PCIDEVICE_OPENSHIFT_IO_VFIO_A and by PCIDEVICE_OPENSHIFT_IO_VFIO_B: a device can be one port only
        "#);
    }

    #[test]
    fn a_list_with_nothing_in_it_or_the_same_device_twice_is_refused() {
        let empty = outcome(&[FIRST, ("PCIDEVICE_OPENSHIFT_IO_VFIO_A", " , ")]);
        assert!(
            empty.contains("PCIDEVICE_OPENSHIFT_IO_VFIO_A lists no device"),
            "{empty}"
        );
        let double = ("PCIDEVICE_OPENSHIFT_IO_VFIO_A", "0000:3b:02.0,3b:02.0");
        let double = outcome(&[FIRST, double]);
        assert!(double.contains("lists 0000:3b:02.0 twice"), "{double}");
        let none = outcome(&[FIRST]);
        assert!(none.contains("there is no such variable at all"), "{none}");
    }

    #[test]
    fn without_resources_there_are_no_ports() {
        assert_eq!(outcome(&[A, B]), "");
    }
}
