//! One place of the table, and the sequence lock that its readers rely on.

use net::{Addr, MacAddr, VlanIndex};

use super::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// First key word of a slot that was never used, and ends a probe.
pub(crate) const EMPTY: u64 = 0;
/// First key word of a slot whose neighbour was removed: the probe goes on behind it.
pub(crate) const TOMBSTONE: u64 = 1 << 17;
/// Marks the first key word of a neighbour; below it is the VLAN.
const NAMED: u64 = 1 << 16;

/// MAC address and state of a neighbour as the writer gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Pending,
    Failed,
    Known(MacAddr),
}

impl Cell {
    const PENDING: u64 = 0;
    const KNOWN: u64 = 1 << 48;
    const FAILED: u64 = 2 << 48;

    const fn to_word(self) -> u64 {
        match self {
            Self::Pending => Self::PENDING,
            Self::Failed => Self::FAILED,
            Self::Known(mac) => Self::KNOWN | mac.to_u64(),
        }
    }

    #[inline]
    const fn from_word(word: u64) -> Self {
        match word & !0xffff_ffff_ffff {
            Self::KNOWN => Self::Known(MacAddr::from_u64(word)),
            Self::FAILED => Self::Failed,
            _ => Self::Pending,
        }
    }
}

/// VLAN and address as words.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u64; 3]);

impl Key {
    #[inline]
    pub(crate) fn new(vlan: VlanIndex, addr: &Addr) -> Self {
        let (high, low) = addr.octets().split_at(8);
        let word = |octets: &[u8]| octets.iter().fold(0, |w, &o| w << 8 | u64::from(o));
        Self([NAMED | u64::from(vlan.0), word(high), word(low)])
    }
}

/// One neighbour, one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Slot {
    /// Odd while the key changes.
    version: AtomicU32,
    /// Set by readers that send to the neighbour, taken by the writer.
    used: AtomicU32,
    key: [AtomicU64; 3],
    cell: AtomicU64,
}

impl Slot {
    /// The name of the slot if it was not being changed, with its version.
    #[inline]
    pub(crate) fn read(&self) -> Option<(u32, Key)> {
        let version = self.version.load(Ordering::Acquire);
        let key = Key([
            self.key[0].load(Ordering::Relaxed),
            self.key[1].load(Ordering::Relaxed),
            self.key[2].load(Ordering::Relaxed),
        ]);
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version;
        (same && version.is_multiple_of(2)).then_some((version, key))
    }

    /// Gives the slot another name. Only the one writer calls this.
    pub(crate) fn write(&self, key: Key, cell: Cell) -> u32 {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.key.iter().zip(key.0) {
            word.store(value, Ordering::Relaxed);
        }
        self.cell.store(cell.to_word(), Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        let version = version.wrapping_add(2);
        self.version.store(version, Ordering::Release);
        version
    }

    /// What is known of the neighbour, if the slot still names the one of `version`, of which the bits
    /// of `mask` are known.
    #[inline(always)]
    pub(crate) fn read_cell(&self, version: u32, mask: u32) -> Option<Cell> {
        let before = self.version.load(Ordering::Acquire);
        let word = self.cell.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.version.load(Ordering::Relaxed);
        (before == after && before & mask == version).then(|| Cell::from_word(word))
    }

    /// Publishes what is known of the neighbour.
    pub(crate) fn set_cell(&self, cell: Cell) {
        self.cell.store(cell.to_word(), Ordering::Release);
    }

    /// Notes that somebody sends to the neighbour. Written once per check of the resolver, so that
    /// the line stays shared between workers.
    #[inline]
    pub(crate) fn mark_used(&self) {
        if !self.is_used() {
            self.used.store(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(0, Ordering::Relaxed) != 0
    }

    /// For the writer, which needs no version to know what is there.
    pub(crate) fn first_word(&self) -> u64 {
        self.key[0].load(Ordering::Relaxed)
    }
}
