//! Fragments and their notation.
//!
//! `frag=0+1480` makes of the packet that the line describes the fragment with its first 1480 octets
//! behind the IP header, which more follow as long as there are any; a `+` at the end says so in any case.
//! `frag=first` and `frag=later` are fragments whose content does not matter. A later fragment that left is
//! written `piece SOURCE>DESTINATION proto=17 at=1480 len=1480 from=217 more fid=7`: `from` is where in the
//! pattern its octets begin. `fid` is the identification. `nodf` is a whole IPv4 packet that may be cut.

use super::wire::mend_ipv4;

type Result<T> = std::result::Result<T, String>;

/// Cuts the fragment `which` out of a packet.
pub fn make(l3: &mut Vec<u8>, which: &str, ident: u32) -> Result<()> {
    match which {
        "first" => return mark(l3, (0, true), ident),
        "later" => return mark(l3, (1480, false), ident),
        _ => {}
    }
    let wrong = || "frag=OFFSET+LENGTH".to_owned();
    let (place, goes_on) = match which.strip_suffix('+') {
        Some(place) => (place, true),
        None => (which, false),
    };
    let (at, len) = place.split_once('+').ok_or_else(wrong)?;
    let at: usize = at.parse().map_err(|_| wrong())?;
    let len: usize = len.parse().map_err(|_| wrong())?;
    let header = if l3[0] >> 4 == 4 { 20 } else { 40 };
    let total = l3.len() - header;
    let end = at + len;
    if end > total {
        return Err(format!("it has {total} octets"));
    }
    l3.truncate(header + end);
    l3.drain(header..header + at);
    mark(l3, (at, goes_on || end < total), ident)
}

/// Makes a packet the fragment that begins at an octet, and that more follow or not.
pub fn mark(l3: &mut Vec<u8>, (at, more): (usize, bool), ident: u32) -> Result<()> {
    let eights = u16::try_from(at / 8).map_err(|_| "too far")?;
    let id = ident.to_be_bytes();
    if l3[0] >> 4 == 4 {
        let len = u16::try_from(l3.len()).map_err(|_| "too long")?;
        l3[2..4].copy_from_slice(&len.to_be_bytes());
        l3[4..6].copy_from_slice(&id[2..]);
        l3[6..8].copy_from_slice(&(u16::from(more) << 13 | eights).to_be_bytes());
        mend_ipv4(l3);
    } else {
        let [a, b] = (eights << 3 | u16::from(more)).to_be_bytes();
        let header = [l3[6], 0, a, b, id[0], id[1], id[2], id[3]];
        l3[6] = 44;
        l3.splice(40..40, header);
        let len = u16::try_from(l3.len() - 40).map_err(|_| "too long")?;
        l3[4..6].copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

/// Takes "don't fragment" away.
pub fn may_be_cut(l3: &mut [u8], ident: u16) {
    if l3[0] >> 4 == 4 {
        l3[4..6].copy_from_slice(&ident.to_be_bytes());
        l3[6..8].fill(0);
        mend_ipv4(l3);
    }
}

/// What is written down of a fragment.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub at: usize,
    pub more: bool,
    pub ident: u32,
}

impl Part {
    /// Of an IPv4 packet; none if it is whole.
    pub fn v4(l3: &[u8]) -> Option<Self> {
        let field = u16::from_be_bytes([*l3.get(6)?, *l3.get(7)?]);
        let ident = u16::from_be_bytes([*l3.get(4)?, *l3.get(5)?]);
        let part = Self {
            at: usize::from(field & 0x1fff) * 8,
            more: field & 0x2000 != 0,
            ident: u32::from(ident),
        };
        (part.more || part.at > 0).then_some(part)
    }

    /// Of an IPv6 fragment header.
    pub fn v6(header: &[u8]) -> Option<Self> {
        let field = u16::from_be_bytes([*header.get(2)?, *header.get(3)?]);
        Some(Self {
            at: usize::from(field & !7),
            more: field & 1 != 0,
            ident: u32::from_be_bytes(*header.get(4..)?.first_chunk()?),
        })
    }

    /// A later fragment in full.
    pub fn piece(&self, (src, dst): (String, String), proto: u8, payload: &[u8]) -> String {
        let mut text = format!("piece {src}>{dst} proto={proto} at={}", self.at);
        let from = payload.first().map_or(0, |octet| usize::from(*octet));
        if payload == super::pattern(from + payload.len()).split_off(from) {
            text.push_str(&format!(" len={} from={from}", payload.len()));
        } else {
            text.push_str(" data=");
            for octet in payload {
                text.push_str(&format!("{octet:02x}"));
            }
        }
        if self.more {
            text.push_str(" more");
        }
        format!("{text} fid={}", self.ident)
    }

    /// What is added to the text of a first fragment.
    pub fn suffix(&self, len: usize) -> String {
        format!(" frag=0+{len}+ fid={}", self.ident)
    }
}
