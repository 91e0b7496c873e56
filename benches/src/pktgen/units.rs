//! Rates, sizes, spans of time and ranges of addresses as an operator writes them, and as reports show
//! them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use net::IpPrefix;

/// What a frame takes on the wire beside itself: preamble, start delimiter and the gap after it,
/// octets (IEEE 802.3).
pub const WIRE_OVERHEAD: u16 = 20;
/// The check sequence behind every frame, octets: part of a frame's size, but not of what a port is
/// given.
pub const FCS: u16 = 4;

/// A count as a floating-point number. Exact below 2^53, which is 28 years of a million a second.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// A floating-point number cut to a count; what is negative or not a number is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is wanted"
)]
pub fn whole(number: f64) -> u64 {
    number as u64
}

/// The nanoseconds of a span; saturates after 584 years.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How fast frames are offered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// As fast as the port takes them.
    Max,
    /// Frames (or connections) per second.
    Packets(f64),
    /// Bits per second on the wire, with preamble and gap.
    Bits(f64),
}

impl Rate {
    /// Frames per second for frames of `mean_size` octets (check sequence counted); `None` is
    /// unlimited.
    pub fn packets_per_second(self, mean_size: f64) -> Option<f64> {
        match self {
            Self::Max => None,
            Self::Packets(rate) => Some(rate),
            Self::Bits(rate) => Some(rate / (8.0 * (mean_size + f64::from(WIRE_OVERHEAD)))),
        }
    }
}

/// Splits `10kpps` into the number, the multiplier and the unit behind it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let value: f64 = digits.replace('_', "").parse().ok()?;
    let rest = rest.trim_start();
    let (factor, unit) = match rest.chars().next() {
        Some('k' | 'K') => (1e3, &rest[1..]),
        Some('M') => (1e6, &rest[1..]),
        Some('G') => (1e9, &rest[1..]),
        _ => (1.0, rest),
    };
    Some((value * factor, unit))
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no rate: expected max, frames per second such as 10kpps or 1.5Mpps, or \
                 bits per second on the wire such as 1Gbps"
            )
        };
        let text = text.trim();
        if text == "max" {
            return Ok(Self::Max);
        }
        let (value, unit) = number(text).ok_or_else(bad)?;
        if !value.is_finite() || value <= 0.0 {
            return Err(bad());
        }
        match unit {
            "" | "pps" | "cps" | "/s" => Ok(Self::Packets(value)),
            "bps" | "bit/s" => Ok(Self::Bits(value)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Max => f.write_str("max"),
            Self::Packets(rate) => write!(f, "{}pps", scaled(rate)),
            Self::Bits(rate) => write!(f, "{}bps", scaled(rate)),
        }
    }
}

/// A number with three or four digits and a multiplier: `1.25 M`.
pub fn scaled(value: f64) -> String {
    for (limit, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= limit {
            return format!("{:.3} {suffix}", value / limit);
        }
    }
    format!("{value:.0} ")
}

/// A span in nanoseconds, in the unit that reads best.
pub fn span(nanos: u64) -> String {
    let value = float(nanos);
    if nanos < 10_000 {
        format!("{nanos} ns")
    } else if nanos < 10_000_000 {
        format!("{:.1} µs", value / 1e3)
    } else if nanos < 10_000_000_000 {
        format!("{:.1} ms", value / 1e6)
    } else {
        format!("{:.1} s", value / 1e9)
    }
}

/// Reads `500ms`, `10s`, `2m`, or seconds without a unit.
///
/// Errors: what is no span, is negative, or is longer than a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no span of time: expected such as 10s, 500ms, 100us or 2m");
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let value: f64 = digits.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "" | "s" => value,
        "ms" => value / 1e3,
        "us" | "µs" => value / 1e6,
        "m" | "min" => value * 60.0,
        _ => return Err(bad()),
    };
    if seconds > 86_400.0 {
        return Err(format!("{text:?} is longer than a day"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

/// Frame sizes and how often each occurs, in octets with the check sequence, as RFC 2544 section 9
/// counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    name: String,
    /// One size per frame; the sequence repeats.
    pattern: Vec<u16>,
}

/// The smallest frame of Ethernet and the largest one we make, octets with the check sequence.
pub const SIZE_RANGE: std::ops::RangeInclusive<u16> = 64..=9000;
/// The sizes of RFC 2544 section 9.1.
pub const RFC2544_SIZES: [u16; 7] = [64, 128, 256, 512, 1024, 1280, 1518];

impl Mix {
    /// Frames of one size.
    pub fn fixed(size: u16) -> Self {
        Self {
            name: size.to_string(),
            pattern: vec![size],
        }
    }

    /// Seven frames of 64 octets, four of 594 and one of 1518, spread evenly: the "simple IMIX".
    pub fn imix() -> Self {
        Self {
            name: "imix".to_owned(),
            pattern: vec![64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594],
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sizes in the order they are sent.
    pub fn pattern(&self) -> &[u16] {
        &self.pattern
    }

    /// The mean size, octets.
    pub fn mean(&self) -> f64 {
        let sum: u64 = self.pattern.iter().map(|size| u64::from(*size)).sum();
        float(sum) / float(self.pattern.len().max(1) as u64)
    }

    /// The largest size, octets.
    pub fn largest(&self) -> u16 {
        self.pattern.iter().copied().max().unwrap_or(64)
    }

    /// The same with every size raised to `least`.
    #[must_use]
    pub fn at_least(&self, least: u16) -> Self {
        Self {
            name: self.name.clone(),
            pattern: self.pattern.iter().map(|size| (*size).max(least)).collect(),
        }
    }
}

/// The size a letter of an IMIX genome stands for (RFC 6985 section 4).
fn gene(letter: char) -> Option<u16> {
    Some(match letter {
        'a' => 64,
        'b' => 128,
        'c' => 256,
        'd' => 512,
        'e' => 1024,
        'f' => 1280,
        'g' => 1518,
        'h' => 2112,
        'i' => 9000,
        _ => return None,
    })
}

impl FromStr for Mix {
    type Err = String;

    /// Reads a size, `imix`, `imix:64x7,594x4,1518x1` or `genome:aaaaaaaddddg` (RFC 6985).
    fn from_str(text: &str) -> Result<Self, String> {
        let range = format!("{} to {}", SIZE_RANGE.start(), SIZE_RANGE.end());
        let size = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|size| SIZE_RANGE.contains(size))
                .ok_or_else(|| {
                    format!("{text:?} is no frame size: expected {range} octets, imix, imix:64x7,1518x1 or genome:aaadg")
                })
        };
        let text = text.trim();
        if text == "imix" {
            return Ok(Self::imix());
        }
        let named = |pattern: Vec<u16>| Self {
            name: text.to_owned(),
            pattern,
        };
        if let Some(letters) = text.strip_prefix("genome:") {
            let pattern: Option<Vec<u16>> = letters.chars().map(gene).collect();
            return pattern
                .filter(|pattern| (1..=256).contains(&pattern.len()))
                .map(named)
                .ok_or_else(|| {
                    format!("{letters:?} is no genome: 1 to 256 letters of a (64 octets) to i (9000), see RFC 6985")
                });
        }
        if let Some(parts) = text.strip_prefix("imix:") {
            let mut classes = Vec::new();
            for part in parts.split([',', '+']) {
                let (octets, share) = part.split_once('x').unwrap_or((part, "1"));
                let share = share
                    .parse::<usize>()
                    .ok()
                    .filter(|n| (1..=100).contains(n));
                let share = share.ok_or_else(|| {
                    format!("{part:?}: expected SIZExSHARE, a share from 1 to 100")
                })?;
                classes.push((size(octets)?, share));
            }
            return Ok(named(interleave(&classes)));
        }
        Ok(Self::fixed(size(text)?))
    }
}

/// Spreads each class evenly over one round: the class that is furthest behind its share is next.
fn interleave(classes: &[(u16, usize)]) -> Vec<u16> {
    let total: usize = classes.iter().map(|(_, share)| share).sum();
    let share_of = |share: usize| i64::try_from(share).unwrap_or(0);
    let mut credit = vec![0i64; classes.len()];
    let mut pattern = Vec::with_capacity(total);
    for _ in 0..total {
        for (credit, (_, share)) in credit.iter_mut().zip(classes) {
            *credit += share_of(*share);
        }
        let next = (0..classes.len()).max_by_key(|i| (credit[*i], std::cmp::Reverse(*i)));
        if let Some(next) = next {
            credit[next] -= share_of(total);
            pattern.push(classes[next].0);
        }
    }
    pattern
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

/// Consecutive addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    count: u32,
}

impl AddressRange {
    /// One address.
    pub const fn one(addr: IpAddr) -> Self {
        Self {
            first: addr,
            count: 1,
        }
    }

    /// The first address.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// How many there are, at least 1.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it is of IPv4.
    pub const fn is_v4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// The `index`-th address.
    #[inline]
    pub fn nth(&self, index: u32) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => IpAddr::V4(first.to_bits().wrapping_add(index).into()),
            IpAddr::V6(first) => IpAddr::V6(first.to_bits().wrapping_add(index.into()).into()),
        }
    }

    /// Which one `addr` is.
    #[inline]
    pub fn position(&self, addr: IpAddr) -> Option<u32> {
        let index = match (self.first, addr) {
            (IpAddr::V4(first), IpAddr::V4(addr)) => addr.to_bits().wrapping_sub(first.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(addr)) => {
                u32::try_from(addr.to_bits().wrapping_sub(first.to_bits())).ok()?
            }
            _ => return None,
        };
        (index < self.count).then_some(index)
    }
}

impl FromStr for AddressRange {
    type Err = String;

    /// Reads an address, `FIRST-LAST`, or a prefix (of an IPv4 prefix up to /30, all but its first and
    /// last address).
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!("{text:?} is no range of addresses ({why}): expected such as 10.1.0.0/16, 192.0.2.10-192.0.2.250 or 2001:db8::/112")
        };
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|e| bad(&e.to_string()));
        if let Some((first, last)) = text.split_once('-') {
            let first = address(first)?;
            let last = address(last)?;
            let all = Self {
                first,
                count: u32::MAX,
            };
            let index = all
                .position(last)
                .ok_or_else(|| bad("the last address must not lie before the first"))?;
            return Ok(Self {
                first,
                count: index + 1,
            });
        }
        let Some((_, len)) = text.split_once('/') else {
            return Ok(Self::one(address(text)?));
        };
        let prefix: IpPrefix = text.trim().parse().map_err(|_| bad("no prefix"))?;
        let len: u8 = len.trim().parse().map_err(|_| bad("no prefix length"))?;
        let bits = if prefix.addr().is_ipv4() { 32 } else { 128 } - len;
        if bits > 24 {
            return Err(bad("a prefix of more than 2^24 addresses"));
        }
        let count = 1u32 << bits;
        let all = Self {
            first: prefix.addr(),
            count,
        };
        // The network's own and its broadcast address are no hosts'.
        Ok(if all.is_v4() && count > 2 {
            Self {
                first: all.nth(1),
                count: count - 2,
            }
        } else {
            all
        })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 1 {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.nth(self.count - 1))
        }
    }
}

/// Reads pool members: `198.51.100.11:8080`, or a range of addresses before the port,
/// `198.51.100.11-198.51.100.14:8080` or `[2001:db8::11-2001:db8::14]:8080`.
pub fn members(text: &str) -> Result<Vec<SocketAddr>, String> {
    let bad = || format!("{text:?}: expected ADDRESS:PORT, FIRST-LAST:PORT or [FIRST-LAST]:PORT");
    let (addresses, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let bracketed = addresses
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let range: AddressRange = bracketed.unwrap_or(addresses).parse()?;
    if range.is_v4() == bracketed.is_some() || port == 0 || range.count() > 65_536 {
        return Err(bad());
    }
    Ok((0..range.count())
        .map(|index| SocketAddr::new(range.nth(index), port))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_packets_and_bits() {
        assert_eq!("10kpps".parse(), Ok(Rate::Packets(10e3)));
        assert_eq!("1.5Mpps".parse(), Ok(Rate::Packets(1.5e6)));
        assert_eq!("250".parse(), Ok(Rate::Packets(250.0)));
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("1Gbps".parse(), Ok(Rate::Bits(1e9)));
        for bad in ["", "fast", "0", "-1", "1Tbps", "1e9999pps", "kpps", "1 lightyear"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_gigabit_of_smallest_frames_is_what_everybody_knows() {
        let rate = Rate::Bits(1e9).packets_per_second(64.0).unwrap();
        assert_eq!(whole(rate), 1_488_095);
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_mins(1)));
        assert_eq!(duration("0.25s"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "1y", "-1s", "100000s", "1.2.3"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mixes_keep_their_shares() {
        let count = |mix: &Mix, size: u16| mix.pattern().iter().filter(|s| **s == size).count();
        for mix in [Mix::imix(), "imix:64x7,594x4,1518x1".parse().unwrap()] {
            assert_eq!(mix.pattern().len(), 12);
            assert_eq!([count(&mix, 64), count(&mix, 594), count(&mix, 1518)], [7, 4, 1]);
        }
        let genome: Mix = "genome:aag".parse().unwrap();
        assert_eq!(genome.pattern(), [64, 64, 1518]);
        assert!((genome.mean() - 548.666).abs() < 0.01);
        for bad in ["63", "9001", "imix:", "imix:64x0", "genome:", "genome:az", "large"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn address_ranges_count_hosts_and_find_them_again() {
        let range: AddressRange = "10.1.0.0/24".parse().unwrap();
        assert_eq!((range.first().to_string(), range.count()), ("10.1.0.1".into(), 254));
        assert_eq!(range.position("10.1.0.254".parse().unwrap()), Some(253));
        assert_eq!(range.position("10.1.0.255".parse().unwrap()), None);
        assert_eq!(range.position("10.1.0.0".parse().unwrap()), None);
        let range: AddressRange = "2001:db8::10-2001:db8::1f".parse().unwrap();
        assert_eq!(range.count(), 16);
        assert_eq!(range.position(range.nth(15)), Some(15));
        assert_eq!("192.0.2.1".parse::<AddressRange>().unwrap().count(), 1);
        for bad in ["10.0.0.2-10.0.0.1", "10.0.0.1-2001:db8::1", "10.0.0.0/4", "x", "10.0.0.0/33"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn members_may_be_given_as_ranges() {
        assert_eq!(members("198.51.100.11-198.51.100.14:8080").unwrap().len(), 4);
        assert_eq!(members("[2001:db8::1]:80").unwrap(), ["[2001:db8::1]:80".parse().unwrap()]);
        for bad in ["198.51.100.11", "2001:db8::1:80x", "10.0.0.1:0", "[10.0.0.1]:80"] {
            assert!(members(bad).is_err(), "{bad}");
        }
    }
}
