//! Names of stations, ports and flags, both ways.

use dataplane::rig::port_mac;
use net::{MacAddr, PortId};

/// The TCP window that is not written out.
pub const WINDOW: u16 = 1000;

/// Stations on the wires besides tmm's own ports.
const STATIONS: [(&str, MacAddr); 9] = [
    ("all", MacAddr::BROADCAST),
    ("nobody", MacAddr::ZERO),
    ("client", MacAddr([2, 0, 0, 0, 0, 1])),
    ("client2", MacAddr([2, 0, 0, 0, 0, 2])),
    ("b1", MacAddr([2, 0, 0, 0, 1, 1])),
    ("b2", MacAddr([2, 0, 0, 0, 1, 2])),
    ("b3", MacAddr([2, 0, 0, 0, 1, 3])),
    ("gw", MacAddr([2, 0, 0, 0, 2, 1])),
    ("gw2", MacAddr([2, 0, 0, 0, 2, 2])),
];

/// The MAC address of a name: `tmm1` is that of port 1.1.
pub fn station(name: &str) -> Option<MacAddr> {
    if let Some(number) = name.strip_prefix("tmm") {
        let number: u8 = number.parse().ok()?;
        return Some(port_mac(PortId(number.checked_sub(1)?)));
    }
    STATIONS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, mac)| *mac)
}

/// The name of a MAC address, or the address itself.
pub fn of(mac: MacAddr) -> String {
    for port in 0..8 {
        if mac == port_mac(PortId(port)) {
            return format!("tmm{}", port + 1);
        }
    }
    STATIONS
        .iter()
        .find(|(_, m)| *m == mac)
        .map_or_else(|| mac.to_string(), |(name, _)| (*name).to_owned())
}

/// The port that a name such as `1.1` means.
pub fn port(name: &str) -> Option<PortId> {
    let number: u8 = name.strip_prefix("1.")?.parse().ok()?;
    Some(PortId(number.checked_sub(1)?))
}

/// TCP flags and their letters, in the order they are written; `.` is ACK.
const FLAGS: [(char, u8); 6] = [
    ('S', 0x02),
    ('F', 0x01),
    ('R', 0x04),
    ('P', 0x08),
    ('U', 0x20),
    ('.', 0x10),
];

/// TCP flags from letters; `-` is none.
pub fn flags(text: &str) -> Option<u8> {
    if text == "-" {
        return Some(0);
    }
    let mut all = 0;
    for letter in text.chars() {
        all |= FLAGS.iter().find(|(l, _)| *l == letter)?.1;
    }
    Some(all)
}

/// TCP flags in letters.
pub fn of_flags(flags: u8) -> String {
    let letters: String = FLAGS
        .iter()
        .filter(|(_, bit)| flags & bit != 0)
        .map(|(letter, _)| *letter)
        .collect();
    if letters.is_empty() {
        "-".to_owned()
    } else {
        letters
    }
}
