//! Interfaces of the kernel's become ports for as long as tmm runs.
//!
//! The kernel must not speak on them meanwhile: it would answer for the pod's old addresses, or for
//! its other interfaces', and send routers' or neighbours' messages of its own. So addresses and
//! routes are taken away, IPv6 is switched off, and ARP is left unanswered; all of it comes back at
//! the end. Should this process be killed, the file of the [`Record`] is what the next one goes by.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::LinkFlags;
use thiserror::Error;
use tracing::{info, warn};

use super::netlink::{Netdev, Netlink, address_text, leaves_by};
use super::record::{Message, Original, Place, PlaceError, Record, mac_text};
use super::routes;

/// ARP requests are not answered, whatever they ask for.
const ARP_SILENT: i32 = 8;
/// No IPv6 addresses are made up.
const NO_ADDRESSES: u8 = 1;

/// Why interfaces could not be taken over.
#[derive(Debug, Error)]
pub enum TakeoverError {
    /// The kernel refused a step.
    #[error("cannot take over the interface {name}: {step}: {source}{hint}", hint = hint(.source))]
    Kernel {
        /// The interface.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another tmm has them.
    #[error("another tmm has taken over the interfaces of this network namespace: stop it first")]
    Taken,
    /// The kernel does not talk.
    #[error("cannot ask the kernel about its interfaces: {0}")]
    Netlink(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; it needs the capability cap_net_admin: run as root, or \
             `securityContext.capabilities.add: [NET_ADMIN]`"
        }
        _ => "",
    }
}

/// Interfaces that were taken over. They are given back when this is dropped.
pub struct Takeover {
    netlink: Netlink,
    record: Record,
    place: Place,
}

/// Gives back what an earlier process in this network namespace has left behind, which this one
/// does not want. Never an obstacle.
pub fn recover(dir: &Path) {
    if !Place::is_used(dir) {
        return;
    }
    // If it is taken, its owner is alive and well.
    let Ok(place) = Place::claim(dir) else { return };
    let (Some(record), Ok(netlink)) = (place.read(), Netlink::open()) else {
        return;
    };
    info!(
        pid = record.pid,
        "interfaces that an earlier process has taken over are given back"
    );
    drop(Takeover {
        netlink,
        record,
        place,
    });
}

impl Takeover {
    /// Takes over `netdevs`. Their MTU is raised to `mtu` where they allow it. What they were like is
    /// kept in `dir`.
    pub fn begin(netdevs: &[Netdev], mtu: u32, dir: &Path) -> Result<Self, TakeoverError> {
        let mut netlink = Netlink::open()?;
        let place = match Place::claim(dir) {
            Ok(place) => place,
            Err(PlaceError::Taken) => return Err(TakeoverError::Taken),
            Err(PlaceError::Io(error)) => return Err(TakeoverError::Netlink(error)),
        };
        let earlier = place.read().unwrap_or_default();
        let mut interfaces = Vec::new();
        for netdev in netdevs {
            let now = snapshot(&mut netlink, netdev)?;
            let before = earlier
                .interfaces
                .iter()
                .find(|original| original.is(netdev));
            interfaces.push(match before {
                Some(before) => {
                    info!(
                        interface = netdev.name,
                        pid = earlier.pid,
                        "an earlier process has not given the interface back; what it was like is known"
                    );
                    merged(before.clone(), now)
                }
                None => now,
            });
        }
        // What is wanted no more goes back first.
        let wanted = |original: &Original| netdevs.iter().any(|netdev| original.is(netdev));
        for original in earlier.interfaces.iter().filter(|o| !wanted(o)) {
            give_back(&mut netlink, original);
        }
        let record = Record {
            pid: std::process::id(),
            interfaces,
        };
        if let Err(error) = place.write(&record) {
            warn!(
                dir = %dir.display(), %error,
                "what the interfaces are like cannot be kept in a file: should tmm be killed, nobody will give them \
                 back. Give tmm a directory it can write to (--config-socket)"
            );
        }
        // From here on, whatever fails, they are given back.
        let mut takeover = Self {
            netlink,
            record,
            place,
        };
        for netdev in netdevs {
            takeover
                .take(netdev, mtu)
                .map_err(|(step, source)| TakeoverError::Kernel {
                    name: netdev.name.clone(),
                    step,
                    source,
                })?;
        }
        Ok(takeover)
    }

    fn take(&mut self, netdev: &Netdev, mtu: u32) -> Result<(), (&'static str, io::Error)> {
        let netlink = &mut self.netlink;
        let index = netdev.index;
        netlink
            .set_inet(index, (ARP_SILENT, 0))
            .map_err(|error| ("silence ARP", error))?;
        let mut silent = true;
        if netdev.addr_gen_mode.is_some() {
            netlink
                .set_addr_gen_mode(index, NO_ADDRESSES)
                .map_err(|error| ("stop IPv6 addresses", error))?;
            silent = write_sysctl(&netdev.name, "disable_ipv6", 1).is_ok();
        }
        let flushed = flush(netlink, index).map_err(|error| ("take its addresses away", error))?;
        if !silent {
            warn!(
                interface = netdev.name,
                "/proc/sys cannot be written to: the interface has no IPv6 addresses now, but router advertisements \
                 may bring some; the CNI plugin \"tuning\" can set net.ipv6.conf.IFNAME.disable_ipv6"
            );
        }
        let limit = netdev.max_mtu.unwrap_or(u32::MAX);
        if netdev.mtu < mtu.min(limit)
            && let Err(error) = netlink.set_mtu(index, mtu.min(limit))
        {
            info!(interface = netdev.name, %error, mtu = netdev.mtu, "the MTU stays what it is; for a macvlan, \
                   its parent's is the limit");
        }
        // Neighbour discovery is sent to groups that the kernel has not joined for us.
        let wanted = LinkFlags::Up | LinkFlags::Allmulti;
        netlink
            .set_flags(index, wanted, wanted)
            .map_err(|error| ("set it up", error))?;
        info!(
            interface = netdev.name,
            addresses = %flushed.join(","),
            "interface taken over; what it was like comes back at the end"
        );
        Ok(())
    }

    /// Gives the interfaces back.
    pub fn give_back(self) {
        drop(self);
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        let mut whole = true;
        for original in &self.record.interfaces {
            whole &= give_back(&mut self.netlink, original);
        }
        // What has failed is tried again by the next one.
        if whole {
            self.place.clear();
        }
    }
}

/// What an interface is like.
fn snapshot(netlink: &mut Netlink, netdev: &Netdev) -> io::Result<Original> {
    let addresses = netlink.addresses(netdev.index)?;
    let all = netlink.routes()?;
    let by_it = all.iter().filter(|route| leaves_by(route, netdev.index));
    Ok(Original {
        index: netdev.index,
        name: netdev.name.clone(),
        mac: mac_text(netdev),
        taken_at: uptime(),
        mtu: netdev.mtu,
        up: netdev.up,
        promiscuous: netdev.promiscuous,
        all_multicast: netdev.all_multicast,
        inet: netdev.inet,
        addr_gen_mode: netdev.addr_gen_mode,
        disable_ipv6: read_sysctl(&netdev.name, "disable_ipv6"),
        addresses: addresses.iter().map(Message::of_address).collect(),
        routes: routes::to_be_kept(by_it),
    })
}

/// What an earlier process knew, with the addresses and routes that have come since.
fn merged(mut before: Original, now: Original) -> Original {
    let known: Vec<String> = before.addresses.iter().map(|a| a.text.clone()).collect();
    let new = now.addresses.into_iter();
    before
        .addresses
        .extend(new.filter(|address| !known.contains(&address.text)));
    let known: Vec<String> = before.routes.iter().map(|r| r.message.clone()).collect();
    let new = now.routes.into_iter();
    before
        .routes
        .extend(new.filter(|route| !known.contains(&route.message)));
    before
}

/// Takes all addresses of an interface away, and says which.
fn flush(netlink: &mut Netlink, index: u32) -> io::Result<Vec<String>> {
    let mut gone = Vec::new();
    // Secondary addresses may go, or be promoted, with the primary one.
    for _ in 0..4 {
        let addresses = netlink.addresses(index)?;
        if addresses.is_empty() {
            break;
        }
        for address in addresses {
            let text = address_text(&address);
            match netlink.delete_address(address) {
                Err(error) if error.raw_os_error() != Some(libc::EADDRNOTAVAIL) => {
                    return Err(error);
                }
                _ => {}
            }
            if !gone.contains(&text) {
                gone.push(text);
            }
        }
    }
    for route in netlink.routes()? {
        if leaves_by(&route, index) {
            // Most have gone with the addresses.
            let _ = netlink.delete_route(route);
        }
    }
    Ok(gone)
}

/// Makes an interface what it was; false if something could not be done, which is logged with what
/// to do.
fn give_back(netlink: &mut Netlink, original: &Original) -> bool {
    let name = &original.name;
    let found = netlink
        .netdevs()
        .ok()
        .and_then(|all| all.into_iter().find(|netdev| original.is(netdev)));
    let Some(now) = found else {
        info!(
            interface = name,
            "the interface is gone; nothing to give back"
        );
        return true;
    };
    let index = original.index;
    let mut whole = true;
    let mut step = |what: &str, by_hand: String, done: io::Result<()>| {
        if let Err(error) = done {
            whole = false;
            warn!(interface = name, %error, "{what} did not come back; by hand: {by_hand}");
        }
    };
    if now.mtu != original.mtu {
        let mtu = original.mtu;
        let by_hand = format!("ip link set {name} mtu {mtu}");
        step("its MTU", by_hand, netlink.set_mtu(index, mtu));
    }
    if let Some(inet) = original.inet {
        let by_hand = format!("sysctl net.ipv4.conf.{name}.arp_ignore={}", inet.0);
        step("its answers to ARP", by_hand, netlink.set_inet(index, inet));
    }
    if let Some(mode) = original.addr_gen_mode {
        let by_hand = format!("sysctl net.ipv6.conf.{name}.addr_gen_mode={mode}");
        let done = netlink.set_addr_gen_mode(index, mode);
        step("its way to make IPv6 addresses", by_hand, done);
    }
    if let Some(value) = original.disable_ipv6
        && read_sysctl(name, "disable_ipv6") != Some(value)
    {
        let by_hand = format!("sysctl net.ipv6.conf.{name}.disable_ipv6={value}");
        step("IPv6", by_hand, write_sysctl(name, "disable_ipv6", value));
    }
    let mut flags = LinkFlags::empty();
    flags.set(LinkFlags::Promisc, original.promiscuous);
    flags.set(LinkFlags::Allmulti, original.all_multicast);
    flags.set(LinkFlags::Up, original.up);
    let which = LinkFlags::Promisc | LinkFlags::Allmulti | LinkFlags::Up;
    let by_hand = format!(
        "ip link set {name} {}",
        if original.up { "up" } else { "down" }
    );
    step("its flags", by_hand, netlink.set_flags(index, which, flags));
    let addresses = original.addresses_at(uptime());
    let texts: Vec<String> = addresses.iter().map(address_text).collect();
    for (address, text) in addresses.into_iter().zip(&texts) {
        let by_hand = format!("ip address add {text} dev {name}");
        step("an address", by_hand, netlink.add_address(address));
    }
    // The kernel makes a link-local address of its own as IPv6 comes back, from the MAC address of now.
    for address in netlink.addresses(index).unwrap_or_default() {
        let text = address_text(&address);
        if address.header.scope == AddressScope::Link && !texts.contains(&text) {
            let by_hand = format!("ip address delete {text} dev {name}");
            let done = netlink.delete_address(address);
            step("the absence of an address", by_hand, done);
        }
    }
    let routes = original.routes();
    let count = routes.len();
    for (text, route) in routes {
        // Routes need an interface that is up; without it, they were not in use either.
        if original.up {
            let by_hand = format!("ip route add {text} dev {name}");
            step("a route", by_hand, netlink.add_route(route));
        }
    }
    info!(
        interface = name,
        addresses = %texts.join(","),
        routes = count,
        "interface given back"
    );
    whole
}

fn sysctl(name: &str, setting: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv6/conf")
        .join(name)
        .join(setting)
}

fn read_sysctl(name: &str, setting: &str) -> Option<i32> {
    let text = fs::read_to_string(sysctl(name, setting)).ok()?;
    text.trim().parse().ok()
}

fn write_sysctl(name: &str, setting: &str, value: i32) -> io::Result<()> {
    fs::write(sysctl(name, setting), value.to_string())
}

/// Seconds since the machine has started.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split('.').next().and_then(|text| text.parse().ok());
    seconds.unwrap_or_default()
}
