//! A frame taken apart as a switch needs it: addresses, tags, and everything behind them.

use std::io::IoSlice;

/// Ethertype of an 802.1Q tag.
const TPID_CUSTOMER: u16 = 0x8100;
/// Ethertype of an 802.1ad service tag.
const TPID_SERVICE: u16 = 0x88a8;
/// Shortest frame on a real wire, without its frame check sequence.
const MIN_FRAME: usize = 60;

static PADDING: [u8; MIN_FRAME] = [0; MIN_FRAME];

/// The VLAN a frame belongs to; 0 stands for "no such tag".
///
/// A priority tag (VLAN ID 0) therefore leaves its frame in the untagged VLAN, as 802.1Q wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vlan {
    /// ID of the 802.1ad service tag.
    pub outer: u16,
    /// ID of the 802.1Q tag.
    pub inner: u16,
}

/// The tag control words of a frame: priority, drop eligibility and VLAN ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    outer: Option<u16>,
    inner: Option<u16>,
}

impl Tags {
    /// The VLAN these tags name.
    pub fn vlan(self) -> Vlan {
        let id = |tci: Option<u16>| tci.unwrap_or(0) & 0x0fff;
        Vlan {
            outer: id(self.outer),
            inner: id(self.inner),
        }
    }

    /// Adds the next tag inwards: a service tag comes first, a customer tag last, nothing else at all.
    fn push(&mut self, tag: StrippedTag) -> bool {
        match tag.tpid {
            TPID_SERVICE if *self == Self::default() => self.outer = Some(tag.tci),
            TPID_CUSTOMER if self.inner.is_none() => self.inner = Some(tag.tci),
            _ => return false,
        }
        true
    }

    /// Writes the tags as they go on the wire; returns the bytes and how many of them count.
    fn emit(self) -> ([u8; 8], usize) {
        let mut bytes = [0; 8];
        let mut used = 0;
        for (tpid, tci) in [(TPID_SERVICE, self.outer), (TPID_CUSTOMER, self.inner)] {
            if let Some(tci) = tci {
                bytes[used..used + 2].copy_from_slice(&tpid.to_be_bytes());
                bytes[used + 2..used + 4].copy_from_slice(&tci.to_be_bytes());
                used += 4;
            }
        }
        (bytes, used)
    }
}

impl From<Vlan> for Tags {
    fn from(vlan: Vlan) -> Self {
        let tag = |id: u16| (id != 0).then_some(id);
        Self {
            outer: tag(vlan.outer),
            inner: tag(vlan.inner),
        }
    }
}

/// A tag the kernel took out of a frame before handing it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrippedTag {
    /// Ethertype of the tag.
    pub tpid: u16,
    /// Tag control word.
    pub tci: u16,
}

/// One frame, borrowed from the buffer it was received into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    addresses: &'a [u8],
    /// The tags the frame came with.
    pub tags: Tags,
    /// From the innermost ethertype to the end.
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a received frame apart, `stripped` being its outermost tag if the kernel removed it.
    ///
    /// `None` for a runt. More than a service and a customer tag are left in the body.
    pub fn parse(bytes: &'a [u8], stripped: Option<StrippedTag>) -> Option<Self> {
        if bytes.len() < 14 {
            return None;
        }
        let (addresses, mut body) = bytes.split_at(12);
        let mut tags = Tags::default();
        let mut pending = stripped;
        while let Some((tag, rest)) = pending
            .take()
            .map(|tag| (tag, body))
            .or_else(|| split_tag(body))
        {
            if !tags.push(tag) {
                break;
            }
            body = rest;
        }
        Some(Self {
            addresses,
            tags,
            body,
        })
    }

    /// Destination address.
    pub fn destination(&self) -> [u8; 6] {
        std::array::from_fn(|i| self.addresses[i])
    }

    /// Source address.
    pub fn source(&self) -> [u8; 6] {
        std::array::from_fn(|i| self.addresses[6 + i])
    }

    /// Hands the frame, tagged with `tags` and padded to the Ethernet minimum, to `write`.
    pub fn emit<T>(&self, tags: Tags, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let (tag_bytes, tag_len) = tags.emit();
        let len = self.addresses.len() + tag_len + self.body.len();
        write(&[
            IoSlice::new(self.addresses),
            IoSlice::new(&tag_bytes[..tag_len]),
            IoSlice::new(self.body),
            IoSlice::new(&PADDING[..MIN_FRAME.saturating_sub(len)]),
        ])
    }
}

/// Splits four bytes that could be a tag from what follows; the ethertype behind them must be there.
fn split_tag(body: &[u8]) -> Option<(StrippedTag, &[u8])> {
    let (&[a, b, c, d], rest) = body.split_first_chunk()?;
    let tag = StrippedTag {
        tpid: u16::from_be_bytes([a, b]),
        tci: u16::from_be_bytes([c, d]),
    };
    (rest.len() >= 2).then_some((tag, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&ADDRESSES[..], rest, &[0x45; 50]].concat()
    }

    fn emitted(frame: &Frame<'_>, tags: Tags) -> Vec<u8> {
        frame.emit(tags, |slices| {
            slices
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect()
        })
    }

    #[test]
    fn every_tag_stack_survives_parse_and_emit() {
        for (rest, outer, inner) in [
            (&[8, 0][..], 0, 0),
            (&[0x81, 0, 0x60, 100, 8, 0], 0, 100),
            (&[0x88, 0xa8, 0, 7, 8, 0], 7, 0),
            (&[0x88, 0xa8, 0x20, 7, 0x81, 0, 0, 9, 8, 0], 7, 9),
        ] {
            let bytes = frame(rest);
            let parsed = Frame::parse(&bytes, None).unwrap();
            assert_eq!(parsed.tags.vlan(), Vlan { outer, inner });
            assert_eq!(emitted(&parsed, parsed.tags), bytes);
            assert_eq!(emitted(&parsed, Tags::default()), frame(&[8, 0]));
        }
    }

    #[test]
    fn a_tag_stripped_by_the_kernel_is_the_outermost_again() {
        let bytes = frame(&[0x81, 0, 0, 9, 8, 0]);
        let parsed = Frame::parse(
            &bytes,
            Some(StrippedTag {
                tpid: 0x88a8,
                tci: 7,
            }),
        )
        .unwrap();
        assert_eq!(parsed.tags.vlan(), Vlan { outer: 7, inner: 9 });
        assert_eq!(
            emitted(&parsed, parsed.tags),
            frame(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0])
        );

        let bytes = frame(&[8, 0]);
        let parsed = Frame::parse(
            &bytes,
            Some(StrippedTag {
                tpid: 0x8100,
                tci: 0x6064,
            }),
        )
        .unwrap();
        assert_eq!(
            parsed.tags.vlan(),
            Vlan {
                outer: 0,
                inner: 100
            }
        );
        assert_eq!(
            emitted(&parsed, parsed.tags),
            frame(&[0x81, 0, 0x60, 0x64, 8, 0])
        );
    }

    #[test]
    fn a_third_tag_is_payload() {
        let bytes = frame(&[0x81, 0, 0, 9, 0x81, 0, 0, 10, 8, 0]);
        let parsed = Frame::parse(&bytes, None).unwrap();
        assert_eq!(parsed.tags.vlan(), Vlan { outer: 0, inner: 9 });
        assert_eq!(emitted(&parsed, parsed.tags), bytes);
    }

    #[test]
    fn a_short_frame_is_padded_to_the_minimum() {
        let bytes = [&ADDRESSES[..], &[8, 6], &[1; 28]].concat();
        let parsed = Frame::parse(&bytes, None).unwrap();
        let out = emitted(&parsed, Vlan { outer: 0, inner: 5 }.into());
        assert_eq!(out.len(), MIN_FRAME);
        assert!(out[46..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn runts_are_refused() {
        for len in 0..14 {
            assert_eq!(Frame::parse(&vec![0; len], None), None);
        }
        assert!(Frame::parse(&[0; 14], None).is_some());
        assert!(Frame::parse(&[[0x81; 12], [0x81; 12]].concat()[..14], None).is_some());
    }
}
