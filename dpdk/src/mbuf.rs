//! One packet buffer, owned.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

/// Bytes left free before the data of a received frame.
#[allow(clippy::cast_possible_truncation)] // RTE_PKTMBUF_HEADROOM is a u16 by DPDK's definition
pub const HEADROOM: u16 = sys::SHIM_MBUF_HEADROOM as u16;

/// A packet buffer taken from a [`Mempool`](crate::Mempool); dropping it gives it back.
///
/// Fields are read and written in place, at the offsets this DPDK release has them: no call into C
/// per packet. [`free_bulk`] gives many back at once.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an `Mbuf` is the only owner of its buffer, and mempools take mbufs back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: shared references only read.
unsafe impl Sync for Mbuf {}

/// Offset of a field of type `T` in an mbuf.
#[derive(Clone, Copy)]
struct Field<T>(usize, PhantomData<T>);

/// The fields in use, as the installed DPDK has them.
mod field {
    use super::{Field, PhantomData, sys};

    const fn at<T>(offset: u32) -> Field<T> {
        Field(offset as usize, PhantomData)
    }

    pub(super) const BUF_ADDR: Field<*mut u8> = at(sys::SHIM_MBUF_BUF_ADDR);
    pub(super) const BUF_LEN: Field<u16> = at(sys::SHIM_MBUF_BUF_LEN);
    pub(super) const DATA_OFF: Field<u16> = at(sys::SHIM_MBUF_DATA_OFF);
    pub(super) const DATA_LEN: Field<u16> = at(sys::SHIM_MBUF_DATA_LEN);
    pub(super) const PKT_LEN: Field<u32> = at(sys::SHIM_MBUF_PKT_LEN);
    pub(super) const NB_SEGS: Field<u16> = at(sys::SHIM_MBUF_NB_SEGS);
    pub(super) const PORT: Field<u16> = at(sys::SHIM_MBUF_PORT);
    pub(super) const OL_FLAGS: Field<u64> = at(sys::SHIM_MBUF_OL_FLAGS);
    pub(super) const VLAN_TCI: Field<u16> = at(sys::SHIM_MBUF_VLAN_TCI);
    pub(super) const VLAN_TCI_OUTER: Field<u16> = at(sys::SHIM_MBUF_VLAN_TCI_OUTER);
    pub(super) const RSS_HASH: Field<u32> = at(sys::SHIM_MBUF_RSS_HASH);
    pub(super) const TX_OFFLOAD: Field<u64> = at(sys::SHIM_MBUF_TX_OFFLOAD);
}

/// Data bounds that lie outside the buffer, or an mbuf of several segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "data of {len} bytes at {offset} does not fit an mbuf of {buffer} bytes in {segments} segment(s)"
)]
pub struct ShapeError {
    /// Where the data was to begin.
    pub offset: u16,
    /// How long it was to be.
    pub len: u16,
    /// Bytes the buffer has.
    pub buffer: u16,
    /// Segments the packet has; shaping needs 1.
    pub segments: u16,
}

/// What a device says of a checksum it looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumStatus {
    /// It did not look.
    #[default]
    Unknown,
    /// The checksum is right.
    Good,
    /// The checksum is wrong.
    Bad,
    /// The field is not filled in, but the data is intact: a virtual device that passes a local
    /// sender's frame on. It must be computed before the frame leaves the machine.
    Absent,
}

/// What a device found out about a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RxFlags {
    /// The tag control information (priority, DEI, VLAN id) of a tag taken out of the frame; the
    /// inner one of two.
    pub vlan_stripped: Option<u16>,
    /// The same of an outer tag taken out of the frame (802.1ad).
    pub qinq_stripped: Option<u16>,
    /// The IPv4 header checksum.
    pub ip_checksum: ChecksumStatus,
    /// The TCP, UDP or SCTP checksum.
    pub l4_checksum: ChecksumStatus,
    /// The hash that chose the queue.
    pub rss_hash: Option<u32>,
}

/// The network layer of a frame whose checksums the device shall compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxL3 {
    /// IPv4; the device also fills in the header checksum, which must be zero.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The transport checksum the device shall compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxL4 {
    /// None: only the IPv4 header's.
    None,
    /// TCP; the field must hold the pseudo-header's sum (the port's preparation sees to it).
    Tcp,
    /// UDP; likewise.
    Udp,
    /// SCTP's CRC-32c; the field must be zero.
    Sctp,
}

impl Mbuf {
    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// `raw` must be a live mbuf (first segment) with reference count 1 that nothing else owns.
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    #[inline]
    fn read<T: Copy>(&self, field: Field<T>) -> T {
        // SAFETY: the mbuf is live and ours; a `Field<T>` is the offset of a field of type `T`,
        // which DPDK aligns naturally.
        unsafe { self.0.as_ptr().cast::<u8>().add(field.0).cast::<T>().read() }
    }

    #[inline]
    fn write<T: Copy>(&mut self, field: Field<T>, value: T) {
        // SAFETY: as in `read`, and `&mut self` makes this the only access.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u8>()
                .add(field.0)
                .cast::<T>()
                .write(value);
        }
    }

    /// The first segment's whole buffer, headroom and tailroom included.
    #[inline]
    pub fn buffer(&self) -> &[u8] {
        let len = self.read(field::BUF_LEN);
        let address = self.read(field::BUF_ADDR);
        // SAFETY: `buf_addr` points to `buf_len` bytes of the mbuf's own memory, which came zeroed
        // from the kernel, and the returned borrow keeps the mbuf.
        unsafe { std::slice::from_raw_parts(address, usize::from(len)) }
    }

    /// The first segment's whole buffer, to write into.
    #[inline]
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        let len = self.read(field::BUF_LEN);
        let address = self.read(field::BUF_ADDR);
        // SAFETY: as in `buffer`; nothing else refers to the buffer, since the reference count is 1.
        unsafe { std::slice::from_raw_parts_mut(address, usize::from(len)) }
    }

    /// Where in the buffer the frame begins.
    #[inline]
    pub fn data_offset(&self) -> u16 {
        self.read(field::DATA_OFF)
    }

    /// Bytes of the frame in the first segment: all of it when [`nb_segs`](Self::nb_segs) is 1.
    #[inline]
    pub fn data_len(&self) -> u16 {
        self.read(field::DATA_LEN)
    }

    /// Bytes of the frame in all segments.
    #[inline]
    pub fn packet_len(&self) -> u32 {
        self.read(field::PKT_LEN)
    }

    /// Segments the frame lies in. The packet path handles 1; see [`linearize`](Self::linearize).
    #[inline]
    pub fn nb_segs(&self) -> u16 {
        self.read(field::NB_SEGS)
    }

    /// The port the frame came in by.
    #[inline]
    pub fn port(&self) -> u16 {
        self.read(field::PORT)
    }

    /// The frame's bytes in the first segment; empty should a driver have got its bounds wrong.
    #[inline]
    pub fn data(&self) -> &[u8] {
        let start = usize::from(self.data_offset());
        let end = start + usize::from(self.data_len());
        self.buffer().get(start..end).unwrap_or_default()
    }

    /// The frame's bytes in the first segment, to write into.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.data_offset());
        let end = start + usize::from(self.data_len());
        self.buffer_mut().get_mut(start..end).unwrap_or_default()
    }

    /// Says where in the buffer the frame lies now.
    ///
    /// # Errors
    /// [`ShapeError`] when it would not lie in the buffer, or the packet has several segments;
    /// nothing is changed then.
    #[inline]
    pub fn set_shape(&mut self, offset: u16, len: u16) -> Result<(), ShapeError> {
        let buffer = self.read(field::BUF_LEN);
        let segments = self.nb_segs();
        if u32::from(offset) + u32::from(len) > u32::from(buffer) || segments != 1 {
            return Err(ShapeError {
                offset,
                len,
                buffer,
                segments,
            });
        }
        self.write(field::DATA_OFF, offset);
        self.write(field::DATA_LEN, len);
        self.write(field::PKT_LEN, u32::from(len));
        Ok(())
    }

    /// Replaces the frame by a copy of `frame` behind the usual headroom.
    ///
    /// # Errors
    /// [`ShapeError`] when it does not fit.
    pub fn copy_from(&mut self, frame: &[u8]) -> Result<(), ShapeError> {
        let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        self.set_shape(HEADROOM, len)?;
        let target = self.data_mut();
        if target.len() == frame.len() {
            target.copy_from_slice(frame);
        }
        Ok(())
    }

    /// Moves a packet of several segments into its first. Returns whether it fitted; if not, the
    /// packet is as before.
    pub fn linearize(&mut self) -> bool {
        if self.nb_segs() == 1 {
            return true;
        }
        // SAFETY: the mbuf and its chain are live and ours.
        unsafe { sys::shim_mbuf_linearize(self.0.as_ptr()) == 0 }
    }

    /// The raw `ol_flags`.
    #[inline]
    pub fn ol_flags(&self) -> u64 {
        self.read(field::OL_FLAGS)
    }

    /// The raw `vlan_tci`; meaningful only as [`rx_flags`](Self::rx_flags) says.
    #[inline]
    pub fn vlan_tci(&self) -> u16 {
        self.read(field::VLAN_TCI)
    }

    /// What the device found out about the frame.
    #[inline]
    pub fn rx_flags(&self) -> RxFlags {
        let flags = self.ol_flags();
        if flags == 0 {
            return RxFlags::default();
        }
        RxFlags {
            vlan_stripped: (flags & sys::SHIM_RX_VLAN_STRIPPED != 0).then(|| self.vlan_tci()),
            qinq_stripped: (flags & sys::SHIM_RX_QINQ_STRIPPED != 0)
                .then(|| self.read(field::VLAN_TCI_OUTER)),
            ip_checksum: match flags & sys::SHIM_RX_IP_CKSUM_MASK {
                sys::SHIM_RX_IP_CKSUM_GOOD => ChecksumStatus::Good,
                sys::SHIM_RX_IP_CKSUM_BAD => ChecksumStatus::Bad,
                sys::SHIM_RX_IP_CKSUM_NONE => ChecksumStatus::Absent,
                _ => ChecksumStatus::Unknown,
            },
            l4_checksum: match flags & sys::SHIM_RX_L4_CKSUM_MASK {
                sys::SHIM_RX_L4_CKSUM_GOOD => ChecksumStatus::Good,
                sys::SHIM_RX_L4_CKSUM_BAD => ChecksumStatus::Bad,
                sys::SHIM_RX_L4_CKSUM_NONE => ChecksumStatus::Absent,
                _ => ChecksumStatus::Unknown,
            },
            rss_hash: (flags & sys::SHIM_RX_RSS_HASH != 0).then(|| self.read(field::RSS_HASH)),
        }
    }

    /// Forgets what the device said on receive and what it was to do on transmit. To be called when
    /// the frame has been changed and is about to be sent, before the `set_tx_…` functions.
    #[inline]
    pub fn clear_flags(&mut self) {
        let kept = self.ol_flags() & sys::SHIM_MBUF_OWNERSHIP;
        self.write(field::OL_FLAGS, kept);
        self.write(field::TX_OFFLOAD, 0);
    }

    /// Has the device insert an 802.1Q tag. Only on a port with
    /// [`Offloads::VLAN_INSERT`](crate::Offloads::VLAN_INSERT) enabled.
    #[inline]
    pub fn set_tx_vlan(&mut self, tci: u16) {
        self.write(field::VLAN_TCI, tci);
        let flags = self.ol_flags();
        self.write(field::OL_FLAGS, flags | sys::SHIM_TX_VLAN);
    }

    /// Has the device insert two tags. Only on a port with
    /// [`Offloads::QINQ_INSERT`](crate::Offloads::QINQ_INSERT) enabled.
    #[inline]
    pub fn set_tx_qinq(&mut self, outer_tci: u16, inner_tci: u16) {
        self.write(field::VLAN_TCI_OUTER, outer_tci);
        self.write(field::VLAN_TCI, inner_tci);
        let flags = self.ol_flags();
        self.write(
            field::OL_FLAGS,
            flags | sys::SHIM_TX_QINQ | sys::SHIM_TX_VLAN,
        );
    }

    /// Has the device compute checksums. `l2_len` counts the Ethernet header and the tags in the
    /// frame (at most 127 bytes), `l3_len` the IP header with options or extensions (at most 511).
    /// Returns whether the lengths fit; nothing is asked of the device if not.
    #[inline]
    pub fn set_tx_checksum(&mut self, l2_len: u16, l3_len: u16, l3: TxL3, l4: TxL4) -> bool {
        if l2_len >> sys::SHIM_TX_L2_LEN_BITS != 0 || l3_len >> sys::SHIM_TX_L3_LEN_BITS != 0 {
            return false;
        }
        let lengths = (u64::from(l2_len) << sys::SHIM_TX_L2_LEN_SHIFT)
            | (u64::from(l3_len) << sys::SHIM_TX_L3_LEN_SHIFT);
        let l3 = match l3 {
            TxL3::Ipv4 => sys::SHIM_TX_IPV4 | sys::SHIM_TX_IP_CKSUM,
            TxL3::Ipv6 => sys::SHIM_TX_IPV6,
        };
        let l4 = match l4 {
            TxL4::None => 0,
            TxL4::Tcp => sys::SHIM_TX_TCP_CKSUM,
            TxL4::Udp => sys::SHIM_TX_UDP_CKSUM,
            TxL4::Sctp => sys::SHIM_TX_SCTP_CKSUM,
        };
        let asked =
            sys::SHIM_TX_IPV4 | sys::SHIM_TX_IPV6 | sys::SHIM_TX_IP_CKSUM | sys::SHIM_TX_L4_MASK;
        let flags = self.ol_flags() & !asked;
        self.write(field::TX_OFFLOAD, lengths);
        self.write(field::OL_FLAGS, flags | l3 | l4);
        true
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mbuf is live and ours, and goes back to its pool exactly once: here.
        unsafe { sys::shim_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("data_offset", &self.data_offset())
            .field("data_len", &self.data_len())
            .field("nb_segs", &self.nb_segs())
            .finish_non_exhaustive()
    }
}

/// Gives all mbufs of a burst back to their pools in one call.
#[inline]
pub fn free_bulk<const N: usize>(burst: &mut ArrayVec<Mbuf, N>) {
    let len = burst.len();
    let Ok(count) = u32::try_from(len) else {
        burst.clear();
        return;
    };
    // SAFETY: the first `len` slots hold mbufs we own. They leave the burst before they are freed,
    // so each is freed once.
    unsafe {
        burst.set_len(0);
        sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), count);
    }
}
