//! The command line.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::fabric::Membership;
use crate::frame::Vlan;

/// A user-space Ethernet switch with 802.1Q and 802.1ad tags, for kernels that have no VLAN devices.
///
/// Prints READY once every port is up; stops on SIGTERM or SIGINT and then says what each port did.
#[derive(Debug, clap::Parser)]
#[command(name = "vlan-switch")]
pub struct Args {
    /// An existing network device that carries tagged frames:
    /// `[netns=NAME,]dev=NAME[,vlans=100+200+300.40]`. Without `vlans` it carries every VLAN.
    /// `300.40` is VLAN 40 inside service VLAN 300; 0 is the untagged VLAN.
    #[arg(long, value_name = "SPEC")]
    pub trunk: Vec<TrunkSpec>,

    /// A TAP device to create, whose frames carry no tags:
    /// `[netns=NAME,]dev=NAME[,vlan=ID][,outer=ID][,mac=ADDRESS][,mtu=BYTES]`.
    #[arg(long, value_name = "SPEC")]
    pub access: Vec<AccessSpec>,

    /// Frames to lose, in percent.
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    pub loss: f64,

    /// Frames to send twice, in percent.
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    pub duplicate: f64,

    /// Frames to send late, in percent.
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    pub reorder: f64,

    /// Decides which frames are lost, sent twice or late.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// An existing device as a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkSpec {
    /// Where the device is.
    pub netns: Option<String>,
    /// Its name.
    pub dev: String,
    /// What it carries.
    pub membership: Membership,
}

/// A TAP device as a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSpec {
    /// Where the device is made.
    pub netns: Option<String>,
    /// Its name.
    pub dev: String,
    /// The VLAN behind it.
    pub vlan: Vlan,
    /// Its address; the kernel picks one if absent.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u16,
}

/// `key=value` pairs separated by commas; what is not asked for by the end is an error.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn new(spec: &'a str) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        for pair in spec.split(',') {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is not of the form key=value"))?;
            if fields.insert(key, value).is_some() {
                return Err(format!("{key:?} is given twice"));
            }
        }
        Ok(Self(fields))
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.0.remove(key).map(str::to_owned)
    }

    fn required(&mut self, key: &str) -> Result<String, String> {
        self.text(key).ok_or_else(|| format!("{key}= is missing"))
    }

    fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.0
            .remove(key)
            .map(|value| parse(value).map_err(|error| format!("{key}={value}: {error}")))
            .transpose()
    }

    fn finish(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("unknown key {key:?}")),
            None => Ok(()),
        }
    }
}

impl FromStr for TrunkSpec {
    type Err = String;

    fn from_str(spec: &str) -> Result<Self, String> {
        let mut fields = Fields::new(spec)?;
        let vlans = fields.parsed("vlans", |list| list.split('+').map(vlan).collect())?;
        let spec = Self {
            netns: fields.text("netns"),
            dev: fields.required("dev")?,
            membership: Membership::Trunk(vlans),
        };
        fields.finish()?;
        Ok(spec)
    }
}

impl FromStr for AccessSpec {
    type Err = String;

    fn from_str(spec: &str) -> Result<Self, String> {
        let mut fields = Fields::new(spec)?;
        let spec = Self {
            netns: fields.text("netns"),
            dev: fields.required("dev")?,
            vlan: Vlan {
                outer: fields.parsed("outer", vlan_id)?.unwrap_or(0),
                inner: fields.parsed("vlan", vlan_id)?.unwrap_or(0),
            },
            mac: fields.parsed("mac", mac)?,
            mtu: fields
                .parsed("mtu", |text| {
                    text.parse().map_err(|_| "not a number of bytes".to_owned())
                })?
                .unwrap_or(1500),
        };
        fields.finish()?;
        Ok(spec)
    }
}

fn vlan_id(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|id| *id < 4095)
        .ok_or_else(|| format!("{text:?} is not in 0-4094"))
}

fn vlan(text: &str) -> Result<Vlan, String> {
    let (outer, inner) = text.split_once('.').unwrap_or(("0", text));
    Ok(Vlan {
        outer: vlan_id(outer)?,
        inner: vlan_id(inner)?,
    })
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = parts
            .next()
            .filter(|part| part.len() == 2)
            .and_then(|part| u8::from_str_radix(part, 16).ok())
            .ok_or("not an address of the form 02:00:00:00:00:01")?;
    }
    match (parts.next(), bytes[0] & 1) {
        (None, 0) => Ok(bytes),
        (None, _) => Err("a group address cannot be a station's".to_owned()),
        (Some(_), _) => Err("more than six bytes".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (0.0..=100.0).contains(value))
        .ok_or_else(|| format!("{text:?} is not in 0-100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_access_port_is_understood() {
        let spec: AccessSpec =
            "netns=tmm-c,dev=eth0,vlan=100,outer=7,mac=02:00:00:00:00:0a,mtu=9000"
                .parse()
                .unwrap();
        assert_eq!(
            spec,
            AccessSpec {
                netns: Some("tmm-c".to_owned()),
                dev: "eth0".to_owned(),
                vlan: Vlan {
                    outer: 7,
                    inner: 100
                },
                mac: Some([2, 0, 0, 0, 0, 10]),
                mtu: 9000,
            }
        );
    }

    #[test]
    fn a_trunk_carries_everything_or_what_is_listed() {
        let spec: TrunkSpec = "dev=t".parse().unwrap();
        assert_eq!(spec.membership, Membership::Trunk(None));
        let spec: TrunkSpec = "dev=t,vlans=0+100+7.100".parse().unwrap();
        let vlans = [(0, 0), (0, 100), (7, 100)].map(|(outer, inner)| Vlan { outer, inner });
        assert_eq!(spec.membership, Membership::Trunk(Some(vlans.to_vec())));
    }

    #[test]
    fn mistakes_are_named() {
        for (spec, message) in [
            ("vlan=1", "dev= is missing"),
            ("dev=a,vlan=4095", "vlan=4095: \"4095\" is not in 0-4094"),
            ("dev=a,vlan=1,vlan=2", "\"vlan\" is given twice"),
            ("dev=a,speed=10", "unknown key \"speed\""),
            ("dev=a,up", "\"up\" is not of the form key=value"),
            (
                "dev=a,mac=01:00:00:00:00:00",
                "mac=01:00:00:00:00:00: a group address cannot be a station's",
            ),
        ] {
            assert_eq!(spec.parse::<AccessSpec>(), Err(message.to_owned()));
        }
    }
}
