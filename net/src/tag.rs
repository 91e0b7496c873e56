//! 802.1Q and 802.1ad tags.

use std::fmt;

use crate::addr::VlanId;

/// Tag protocol identifier of a C-tag (IEEE 802.1Q).
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol identifier of an S-tag (IEEE 802.1ad).
pub const TPID_8021AD: u16 = 0x88a8;

/// Which tags a frame carries, priorities aside: none, one (802.1Q), or an outer service tag
/// around it (802.1ad, "QinQ"). A priority tag (VID 0) counts as no tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Encap {
    service: u16,
    tag: u16,
}

impl Encap {
    /// No tag.
    pub const UNTAGGED: Self = Self { service: 0, tag: 0 };

    /// One 802.1Q tag.
    pub const fn tagged(vid: VlanId) -> Self {
        Self {
            service: 0,
            tag: vid.get(),
        }
    }

    /// An 802.1Q tag inside an 802.1ad service tag.
    pub const fn stacked(service: VlanId, vid: VlanId) -> Self {
        Self {
            service: service.get(),
            tag: vid.get(),
        }
    }

    /// From optional ids: what a configuration names.
    pub fn from_ids(service: Option<VlanId>, vid: Option<VlanId>) -> Self {
        Self {
            service: service.map_or(0, VlanId::get),
            tag: vid.map_or(0, VlanId::get),
        }
    }

    pub(crate) const fn raw(service: u16, tag: u16) -> Self {
        Self { service, tag }
    }

    /// VID of the service tag, 0 if there is none.
    #[inline]
    pub const fn service_vid(self) -> u16 {
        self.service
    }

    /// VID of the (inner) 802.1Q tag, 0 if there is none.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.tag
    }

    /// Length in octets of the Ethernet header that carries these tags: 14, 18 or 22.
    #[inline]
    pub const fn header_len(self) -> usize {
        14 + if self.tag != 0 { 4 } else { 0 } + if self.service != 0 { 4 } else { 0 }
    }
}

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.service, self.tag) {
            (0, 0) => f.write_str("untagged"),
            (0, tag) => write!(f, "{tag}"),
            (service, tag) => write!(f, "{service}.{tag}"),
        }
    }
}

impl fmt::Debug for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encap({self})")
    }
}

impl serde::Serialize for Encap {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
