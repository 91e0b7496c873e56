//! The values that arguments of `tmm-pktgen` can have.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::ValueEnum;
use net::VlanId;

use super::addresses;
use super::units::Rate;

/// What the device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Balances requests over members, who answer
    Balance,
    /// Passes requests on; nobody answers
    OneWay,
    /// Sends frames back by the port they came from (see --swap)
    Loop,
}

/// What is swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SwapArg {
    /// Nothing
    None,
    /// MAC addresses
    Mac,
    /// MAC addresses, IP addresses and ports
    #[value(name = "5-tuple")]
    FiveTuple,
}

/// Protocol of the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtoArg {
    /// UDP
    Udp,
    /// TCP
    Tcp,
}

/// Order of the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderArg {
    /// One after the other
    Sequential,
    /// At random
    Random,
}

/// Whether packet memory comes from hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HugepagesArg {
    /// If enough of them are free
    Auto,
    /// Never
    Never,
    /// Or the start fails
    Required,
}

/// Some members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersArg(pub(super) Vec<SocketAddr>);

impl FromStr for MembersArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        addresses::members(text).map(Self)
    }
}

/// A rise in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    /// The first rate.
    pub from: Rate,
    /// The last rate.
    pub to: Rate,
    /// How many trials.
    pub steps: u32,
}

impl FromStr for Ramp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("{text:?} is no ramp: expected FROM:TO:STEPS such as 100kpps:1Mpps:10");
        let parts: Vec<&str> = text.split(':').collect();
        let [from, to, steps] = parts.as_slice() else {
            return Err(bad());
        };
        let ramp = Self {
            from: from.parse()?,
            to: to.parse()?,
            steps: steps
                .parse()
                .ok()
                .filter(|n| (2..=1000).contains(n))
                .ok_or_else(bad)?,
        };
        match (ramp.from, ramp.to) {
            (Rate::Max, _) | (_, Rate::Max) => Err(bad()),
            _ => Ok(ramp),
        }
    }
}

impl Ramp {
    /// The rates of the trials, frames per second, for frames of this mean size.
    pub fn rates(&self, mean_size: f64) -> Vec<f64> {
        let rate = |rate: Rate| rate.packets_per_second(mean_size).unwrap_or(1.0);
        let (from, to) = (rate(self.from), rate(self.to));
        (0..self.steps)
            .map(|step| from + (to - from) * f64::from(step) / f64::from(self.steps - 1))
            .collect()
    }
}

pub(super) fn vlan(text: &str) -> Result<VlanId, String> {
    text.parse::<u16>()
        .ok()
        .and_then(VlanId::new)
        .ok_or_else(|| "a VLAN id is a number from 1 to 4094".to_owned())
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    text.trim_end_matches('%')
        .parse::<f64>()
        .ok()
        .filter(|p| (0.0..=50.0).contains(p))
        .ok_or_else(|| "expected a percentage from 0 to 50".to_owned())
}

pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let bad = || format!("{text:?} is no range of ports: expected such as 1024-65535");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
    let range = port(first)?..=port(last)?;
    if range.is_empty() || *range.start() == 0 {
        return Err(bad());
    }
    Ok(range)
}
