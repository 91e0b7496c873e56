//! What interfaces were like before they became ports: kept in memory, and in a file for the case
//! that this process ends without giving them back.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use netlink_packet_core::Parseable;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::route::RouteMessage;
use serde::{Deserialize, Serialize};

use super::netlink::{Netdev, address_text, emitted};

/// The interfaces of a network namespace that were taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process that has taken them.
    pub pid: u32,
    /// They, as they were.
    pub interfaces: Vec<Original>,
}

/// An interface as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// Its number, name and hardware address: what it is recognised by.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, as text.
    pub mac: String,
    /// When it was taken, seconds since the machine has started.
    pub taken_at: u64,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// Whether it was promiscuous.
    pub promiscuous: bool,
    /// Whether it took in frames for any group.
    pub all_multicast: bool,
    /// `arp_ignore` and `forwarding`.
    pub inet: Option<(i32, i32)>,
    /// How it made IPv6 addresses.
    pub addr_gen_mode: Option<u8>,
    /// The sysctl `disable_ipv6`.
    pub disable_ipv6: Option<i32>,
    /// Its addresses.
    pub addresses: Vec<Message>,
    /// The routes that lead out by it, in the order in which they can be added.
    pub routes: Vec<Message>,
}

/// A message as the kernel gave it, so that nothing of it is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// For people who read the file.
    pub text: String,
    /// The octets, in hexadecimal digits.
    pub message: String,
}

impl Original {
    /// Whether this is the same interface still.
    pub fn is(&self, netdev: &Netdev) -> bool {
        self.index == netdev.index && self.name == netdev.name && self.mac == mac_text(netdev)
    }

    /// The addresses, with what is left of their lifetimes at `now`; those that have expired are
    /// left out.
    pub fn addresses_at(&self, now: u64) -> Vec<AddressMessage> {
        let passed = u32::try_from(now.saturating_sub(self.taken_at)).unwrap_or(u32::MAX);
        let messages = self.addresses.iter();
        let messages = messages.filter_map(|m| AddressMessage::parse(&m.octets()?).ok());
        messages
            .filter_map(|address| still_valid(address, passed))
            .collect()
    }

    /// The routes.
    pub fn routes(&self) -> Vec<(String, RouteMessage)> {
        let messages = self.routes.iter();
        messages
            .filter_map(|m| Some((m.text.clone(), RouteMessage::parse(&m.octets()?).ok()?)))
            .collect()
    }
}

/// A hardware address as text; empty without one.
pub fn mac_text(netdev: &Netdev) -> String {
    netdev.mac.map_or_else(String::new, |mac| mac.to_string())
}

impl Message {
    /// An address to be remembered.
    pub fn of_address(address: &AddressMessage) -> Self {
        Self {
            text: address_text(address),
            message: hex(&emitted(address)),
        }
    }

    /// A route to be remembered.
    pub fn of_route(text: String, route: &RouteMessage) -> Self {
        Self {
            text,
            message: hex(&emitted(route)),
        }
    }

    fn octets(&self) -> Option<Vec<u8>> {
        let digits = self.message.as_bytes();
        let pairs = digits.chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    }
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(
        String::with_capacity(octets.len() * 2),
        |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        },
    )
}

/// An address after `passed` seconds; `None` if it has expired. States that only the kernel sets are
/// taken out.
fn still_valid(mut address: AddressMessage, passed: u32) -> Option<AddressMessage> {
    let given = AddressFlags::Nodad
        | AddressFlags::Homeaddress
        | AddressFlags::Managetempaddr
        | AddressFlags::Noprefixroute
        | AddressFlags::Mcautojoin;
    let mut valid = true;
    let less = |left: u32| match left {
        u32::MAX => left,
        left => left.saturating_sub(passed),
    };
    for attribute in &mut address.attributes {
        match attribute {
            AddressAttribute::Flags(flags) => *flags &= given,
            AddressAttribute::CacheInfo(times) => {
                times.ifa_valid = less(times.ifa_valid);
                times.ifa_preferred = less(times.ifa_preferred);
                valid = times.ifa_valid > 0;
            }
            _ => {}
        }
    }
    // The attribute has them all.
    address.header.flags = netlink_packet_route::address::AddressHeaderFlags::empty();
    valid.then_some(address)
}

/// What a tmm that has taken over interfaces is known by to others in its network namespace.
const NAME: &str = "tmm-interfaces";

/// The file of a record, and the right to it: that of one living process per network namespace.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// Abstract names of sockets belong to a network namespace, and go with their process.
    _right: UnixDatagram,
}

/// Why a place cannot be had.
#[derive(Debug)]
pub enum PlaceError {
    /// Another tmm has taken over the interfaces of this network namespace.
    Taken,
    /// The system does not let it be made.
    Io(io::Error),
}

impl Place {
    /// The place for this network namespace, with its file in `dir`.
    pub fn claim(dir: &Path) -> Result<Self, PlaceError> {
        Self::claim_as(NAME, dir)
    }

    fn claim_as(name: &str, dir: &Path) -> Result<Self, PlaceError> {
        let bound = SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixDatagram::bind_addr(&address));
        match bound {
            Ok(right) => Ok(Self {
                path: dir.join(format!("interfaces-{}.json", namespace())),
                _right: right,
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(PlaceError::Taken),
            Err(error) => Err(PlaceError::Io(error)),
        }
    }

    /// Whether something may have been left in a directory; nothing is made there.
    pub fn is_used(dir: &Path) -> bool {
        dir.join(format!("interfaces-{}.json", namespace()))
            .exists()
    }

    /// What an earlier process has left.
    pub fn read(&self) -> Option<Record> {
        let text = fs::read(&self.path).ok()?;
        match serde_json::from_slice(&text) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "not what tmm writes; taken for nothing");
                None
            }
        }
    }

    /// Keeps a record: whole, or not at all.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let new = self.path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.path)
    }

    /// Forgets the record.
    pub fn clear(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "not removed");
        }
    }
}

/// The number of this process's network namespace.
fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    link.to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::CacheInfo;

    use super::*;

    fn address(valid: u32) -> AddressMessage {
        let mut address = AddressMessage::default();
        address.header.family = AddressFamily::Inet;
        address.header.prefix_len = 24;
        address.header.index = 7;
        let ip = Ipv4Addr::new(192, 0, 2, 1).into();
        let mut times = CacheInfo::default();
        times.ifa_valid = valid;
        times.ifa_preferred = 5;
        address.attributes = vec![
            AddressAttribute::Address(ip),
            AddressAttribute::Local(ip),
            AddressAttribute::Flags(AddressFlags::Permanent | AddressFlags::Noprefixroute),
            AddressAttribute::CacheInfo(times),
        ];
        address
    }

    fn original(address: &AddressMessage) -> Original {
        Original {
            taken_at: 1000,
            addresses: vec![Message::of_address(address)],
            ..Original::default()
        }
    }

    #[test]
    fn addresses_come_back_with_what_is_left_of_their_lifetimes() {
        let kept = original(&address(60));
        assert_eq!(kept.addresses[0].text, "192.0.2.1/24");
        let back = kept.addresses_at(1020);
        assert_eq!(back.len(), 1);
        let flags = AddressAttribute::Flags(AddressFlags::Noprefixroute);
        assert!(back[0].attributes.contains(&flags), "{back:?}");
        let times = back[0]
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::CacheInfo(times) => Some((times.ifa_valid, times.ifa_preferred)),
                _ => None,
            });
        assert_eq!(times, Some((40, 0)));
        assert!(kept.addresses_at(1060).is_empty(), "expired");
        let forever = original(&address(u32::MAX)).addresses_at(u64::MAX);
        assert_eq!(forever.len(), 1);
    }

    #[test]
    fn a_record_survives_its_file_and_is_had_by_one_process_only() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            pid: 7,
            interfaces: vec![original(&address(60))],
        };
        let name = format!("tmm-interfaces-test-{}", std::process::id());
        let claim = || Place::claim_as(&name, dir.path());
        assert!(!Place::is_used(dir.path()));
        let place = claim().unwrap();
        assert!(place.read().is_none());
        place.write(&record).unwrap();
        assert!(Place::is_used(dir.path()));
        assert_eq!(place.read(), Some(record));
        assert!(matches!(claim(), Err(PlaceError::Taken)));
        place.clear();
        place.clear();
        assert!(place.read().is_none());
        fs::write(&place.path, "not json").unwrap();
        assert!(place.read().is_none());
        drop(place);
        claim().unwrap();
    }

    #[test]
    fn another_interface_of_the_same_name_is_not_taken_for_it() {
        let netdev = Netdev {
            index: 3,
            name: "net1".to_owned(),
            mac: Some(net::MacAddr([2, 0, 0, 0, 0, 1])),
            ..Netdev::default()
        };
        let kept = Original {
            index: 3,
            name: "net1".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            ..Original::default()
        };
        assert!(kept.is(&netdev));
        assert!(!kept.is(&Netdev {
            index: 4,
            ..netdev.clone()
        }));
        assert!(!kept.is(&Netdev {
            mac: None,
            ..netdev
        }));
    }
}
