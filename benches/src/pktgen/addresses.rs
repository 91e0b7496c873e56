//! Ranges of addresses as an operator writes them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use net::IpPrefix;

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
            format!(
                "{text:?} is no range of addresses ({why}): expected such as 10.1.0.0/16, 192.0.2.10-192.0.2.250 or 2001:db8::/112"
            )
        };
        let address = |text: &str| {
            text.trim()
                .parse::<IpAddr>()
                .map_err(|e| bad(&e.to_string()))
        };
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
    fn address_ranges_count_hosts_and_find_them_again() {
        let range: AddressRange = "10.1.0.0/24".parse().unwrap();
        assert_eq!(
            (range.first().to_string(), range.count()),
            ("10.1.0.1".into(), 254)
        );
        assert_eq!(range.position("10.1.0.254".parse().unwrap()), Some(253));
        assert_eq!(range.position("10.1.0.255".parse().unwrap()), None);
        assert_eq!(range.position("10.1.0.0".parse().unwrap()), None);
        let range: AddressRange = "2001:db8::10-2001:db8::1f".parse().unwrap();
        assert_eq!(range.count(), 16);
        assert_eq!(range.position(range.nth(15)), Some(15));
        assert_eq!("192.0.2.1".parse::<AddressRange>().unwrap().count(), 1);
        for bad in [
            "10.0.0.2-10.0.0.1",
            "10.0.0.1-2001:db8::1",
            "10.0.0.0/4",
            "x",
            "10.0.0.0/33",
        ] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn members_may_be_given_as_ranges() {
        assert_eq!(
            members("198.51.100.11-198.51.100.14:8080").unwrap().len(),
            4
        );
        assert_eq!(
            members("[2001:db8::1]:80").unwrap(),
            ["[2001:db8::1]:80".parse().unwrap()]
        );
        for bad in [
            "198.51.100.11",
            "2001:db8::1:80x",
            "10.0.0.1:0",
            "[10.0.0.1]:80",
        ] {
            assert!(members(bad).is_err(), "{bad}");
        }
    }
}
