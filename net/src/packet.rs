//! One frame, borrowed from whoever owns its buffer.

use thiserror::Error;

use crate::addr::MacAddr;
use crate::tag::{Encap, TPID_8021AD, TPID_8021Q};

/// The shortest Ethernet frame, octets without FCS.
const MIN_FRAME: usize = 60;

/// The buffer has too little room in front of or behind the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no room in the packet's buffer")]
pub struct NoRoom;

/// What the receiving device already found out about a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// Not looked at: software checks.
    #[default]
    Unknown,
    /// Verified by the device.
    Good,
    /// Found wrong by the device.
    Bad,
}

/// What a receiving device says about a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RxMeta {
    /// The tag control information of an 802.1Q tag that the device took out of the frame.
    pub stripped_tci: Option<u16>,
    /// The same of an 802.1ad service tag, which stood before it.
    pub stripped_service_tci: Option<u16>,
    /// The IPv4 header checksum.
    pub ip_checksum: RxChecksum,
    /// The TCP, UDP or SCTP checksum.
    pub l4_checksum: RxChecksum,
}

/// Where the frame lies in its buffer, for the owner to take over after the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Offset of the first octet of the Ethernet header.
    pub start: usize,
    /// Length of the frame in octets, without FCS.
    pub len: usize,
    /// Tag control information that the device must insert (802.1Q), if it was asked to.
    pub insert_tci: Option<u16>,
}

/// One frame in a borrowed buffer with room in front of and behind it.
#[derive(Debug)]
pub struct Packet<'a> {
    buf: &'a mut [u8],
    start: usize,
    /// Behind the last octet: at most the length of `buf`, at least `start`.
    end: usize,
    insert_tci: Option<u16>,
    /// What the device said about the frame.
    pub rx: RxMeta,
}

impl<'a> Packet<'a> {
    /// The frame at `start..start + len` of `buf`; clipped to the buffer.
    pub fn new(buf: &'a mut [u8], start: usize, len: usize, rx: RxMeta) -> Self {
        let start = start.min(buf.len());
        let end = start + len.min(buf.len() - start);
        Self {
            buf,
            start,
            end,
            insert_tci: None,
            rx,
        }
    }

    /// The frame.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or(&[])
    }

    /// The frame, to be changed in place.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Length of the frame in octets, without FCS.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no octet in the frame.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Octets in front of the frame.
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Octets behind the frame.
    pub fn tailroom(&self) -> usize {
        self.buf.len() - self.end
    }

    /// What the owner of the buffer must record.
    #[inline]
    pub fn shape(&self) -> Shape {
        Shape {
            start: self.start,
            len: self.len(),
            insert_tci: self.insert_tci,
        }
    }

    /// Makes the frame `len` octets long; octets that it gains are zero.
    pub fn set_len(&mut self, len: usize) -> Result<(), NoRoom> {
        if len > self.buf.len() - self.start {
            return Err(NoRoom);
        }
        if let Some(gained) = self.buf.get_mut(self.end..self.start + len) {
            gained.fill(0);
        }
        self.end = self.start + len;
        Ok(())
    }

    /// Makes a frame shorter than Ethernet's least, 60 octets without FCS, that long (IEEE 802.3
    /// 4A.2.3.2.4); not every device does. Without room it stays as it is.
    #[inline(always)]
    pub fn pad(&mut self) {
        let len = self.len();
        if len >= MIN_FRAME {
            return;
        }
        // As a rule few octets are missing; beyond the frame there may be anything.
        let behind = self.buf.get_mut(self.end..);
        match behind.and_then(<[u8]>::first_chunk_mut) {
            Some(eight) if MIN_FRAME - len <= 8 => {
                *eight = [0; 8];
                self.end = self.start + MIN_FRAME;
            }
            _ => {
                let _ = self.set_len(MIN_FRAME);
            }
        }
    }

    /// Cuts off what lies behind `end`.
    #[inline(always)]
    pub fn cut(&mut self, end: usize) {
        self.end = self.end.min(self.start.saturating_add(end));
    }

    /// Puts `octets` in front of what begins at `at`, in place of what was there: the packet begins with
    /// them now.
    ///
    /// # Errors
    /// There is no room for them in front; the packet is as it was.
    pub fn put_before(&mut self, at: usize, octets: &[u8]) -> Result<(), NoRoom> {
        let end = (self.start + at).min(self.end);
        let start = end.checked_sub(octets.len()).ok_or(NoRoom)?;
        let room = self.buf.get_mut(start..end).ok_or(NoRoom)?;
        room.copy_from_slice(octets);
        self.start = start;
        Ok(())
    }

    /// Replaces all before the network header, which begins at `l3`, by `header` with the destination
    /// `dst`. Returns the new offset of the network header.
    #[inline(always)]
    pub fn set_header(
        &mut self,
        l3: usize,
        dst: MacAddr,
        header: &EthernetHeader,
    ) -> Result<usize, NoRoom> {
        let len = usize::from(header.len);
        let l3_abs = (self.start + l3).min(self.end);
        let start = l3_abs.checked_sub(len).ok_or(NoRoom)?;
        let room = self.buf.get_mut(start..l3_abs).ok_or(NoRoom)?;
        // Copies of a length that the compiler knows are a few moves.
        if let Ok(room) = <&mut [u8; 18]>::try_from(&mut *room) {
            room[..6].copy_from_slice(&dst.0);
            room[6..].copy_from_slice(&header.rest[..12]);
        } else if let Ok(room) = <&mut [u8; 14]>::try_from(&mut *room) {
            room[..6].copy_from_slice(&dst.0);
            room[6..].copy_from_slice(&header.rest[..8]);
        } else if let Ok(room) = <&mut [u8; 22]>::try_from(room) {
            room[..6].copy_from_slice(&dst.0);
            room[6..].copy_from_slice(&header.rest);
        }
        self.start = start;
        self.insert_tci = header.insert_tci;
        self.rx.stripped_tci = None;
        self.rx.stripped_service_tci = None;
        Ok(len)
    }

    /// [`set_header`](Self::set_header) with a header made for the purpose, see
    /// [`EthernetHeader::new`].
    #[inline]
    pub fn set_ethernet(
        &mut self,
        l3: usize,
        dst: MacAddr,
        src: MacAddr,
        encap: Encap,
        ethertype: u16,
        insert: bool,
    ) -> Result<usize, NoRoom> {
        self.set_header(l3, dst, &EthernetHeader::new(src, encap, ethertype, insert))
    }
}

/// All of an Ethernet header but the destination, to be written many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetHeader {
    /// Source, tags and ethertype.
    rest: [u8; 16],
    /// With the destination: 14, 18 or 22.
    len: u8,
    insert_tci: Option<u16>,
}

impl EthernetHeader {
    /// A header from `src` with the tags of `encap` (priority 0). Where `insert` is set, the
    /// outermost 802.1Q tag goes to the device instead of into the frame.
    pub fn new(src: MacAddr, encap: Encap, ethertype: u16, insert: bool) -> Self {
        let insert = insert && encap.service_vid() == 0 && encap.vid() != 0;
        let in_frame = if insert { Encap::UNTAGGED } else { encap };
        let mut rest = [0; 16];
        rest[..6].copy_from_slice(&src.0);
        let mut at = 6;
        let tags = [
            (TPID_8021AD, in_frame.service_vid()),
            (TPID_8021Q, in_frame.vid()),
        ];
        for (tpid, vid) in tags.into_iter().filter(|(_, vid)| *vid != 0) {
            rest[at..at + 2].copy_from_slice(&tpid.to_be_bytes());
            rest[at + 2..at + 4].copy_from_slice(&vid.to_be_bytes());
            at += 4;
        }
        rest[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
        Self {
            rest,
            len: match at {
                6 => 14,
                10 => 18,
                _ => 22,
            },
            insert_tci: insert.then(|| encap.vid()),
        }
    }

    /// Its length in the frame, octets.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Never: a header has 14 octets at least.
    pub const fn is_empty(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VlanId;

    fn vid(v: u16) -> VlanId {
        VlanId::new(v).unwrap()
    }

    #[test]
    fn tags_are_pushed_changed_and_popped_without_moving_the_payload() {
        let mut buf = [0u8; 128];
        buf[64 + 12..64 + 14].copy_from_slice(&0x0800u16.to_be_bytes());
        buf[64 + 14..64 + 24].copy_from_slice(b"0123456789");
        let mut p = Packet::new(&mut buf, 64, 24, RxMeta::default());
        let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let mut l3 = 14;
        for encap in [
            Encap::tagged(vid(100)),
            Encap::stacked(vid(7), vid(200)),
            Encap::UNTAGGED,
            Encap::tagged(vid(4094)),
        ] {
            l3 = p.set_ethernet(l3, a, b, encap, 0x0800, false).unwrap();
            assert_eq!(l3, encap.header_len());
            assert_eq!(&p.data()[l3..], b"0123456789");
            assert_eq!(&p.data()[l3 - 2..l3], &[0x08, 0x00]);
        }
        assert_eq!(&p.data()[12..16], &[0x81, 0x00, 0x0f, 0xfe]);
        let l3 = p
            .set_ethernet(l3, a, b, Encap::tagged(vid(5)), 0x0800, true)
            .unwrap();
        assert_eq!(l3, 14);
        assert_eq!(p.shape().insert_tci, Some(5));
    }

    #[test]
    fn a_buffer_without_headroom_refuses_a_tag_and_stays_as_it_was() {
        let mut buf = [7u8; 60];
        let mut p = Packet::new(&mut buf, 0, 60, RxMeta::default());
        let refused = p.set_ethernet(
            14,
            MacAddr::ZERO,
            MacAddr::ZERO,
            Encap::tagged(vid(1)),
            0x0800,
            false,
        );
        assert_eq!(refused, Err(NoRoom));
        assert_eq!(p.data(), [7u8; 60]);
    }
}
