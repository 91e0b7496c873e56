//! The table of neighbours' MAC addresses: one writer, many readers, no lock.
//!
//! A fixed array of slots, one cache line each, open addressing with a bounded probe. A slot names
//! one neighbour at a time; its `version` is odd while the writer changes the name and grows with
//! each change, so that a reader that saw the same even version before and after knows that what it
//! read in between belongs together (a sequence lock over atomics). The MAC address and state are
//! one word, [`Cell`], that changes under a name without a new version: a flow that keeps a
//! [`NeighborRef`] sees a new MAC address at once, and never another neighbour's.
//!
//! Entries never move, so a reader misses one only if it was not there all along; it then asks
//! for it once more than needed.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use foldhash::fast::FixedState;
use net::{Addr, MacAddr, VlanIndex};

/// The most slots looked at for one neighbour. At the half load that the table is kept to, a run
/// this long is not seen by chance; the hash is keyed, so nor on purpose.
const PROBE: usize = 64;

/// First key word of a slot that was never used, and ends a probe.
const EMPTY: u64 = 0;
/// First key word of a slot whose neighbour was removed: the probe goes on behind it.
const TOMBSTONE: u64 = 1 << 17;
/// Marks the first key word of a neighbour; below it is the VLAN.
const NAMED: u64 = 1 << 16;

/// Names a neighbour for as long as it is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighborRef {
    /// Position in the table.
    pub slot: u32,
    /// The slot's version when it was looked up.
    pub version: u32,
}

/// What is known of a neighbour's MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Send to this MAC address (it may be due for a check, which is the resolver's business).
    Reachable(MacAddr),
    /// Asked for, no answer yet: wait.
    Pending,
    /// Nobody answered; asked again when the hold-down is over.
    Failed,
    /// The reference names no neighbour any more: look it up again.
    Stale,
}

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
struct Key([u64; 3]);

impl Key {
    #[inline]
    fn new(vlan: VlanIndex, addr: &Addr) -> Self {
        let (high, low) = addr.octets().split_at(8);
        let word = |octets: &[u8]| octets.iter().fold(0, |w, &o| w << 8 | u64::from(o));
        Self([NAMED | u64::from(vlan.0), word(high), word(low)])
    }
}

/// One neighbour, one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
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
    fn read(&self) -> Option<(u32, Key)> {
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
    fn write(&self, key: Key, cell: Cell) -> u32 {
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

    fn first_word(&self) -> u64 {
        self.key[0].load(Ordering::Relaxed)
    }
}

/// The neighbours of all VLANs, as workers see them.
#[derive(Debug)]
pub struct Neighbors {
    slots: Box<[Slot]>,
    hash: FixedState,
}

impl Neighbors {
    /// Room for `capacity` neighbours in at least twice as many slots of 64 octets; `seed` keys the
    /// hash.
    fn new(capacity: usize, seed: u64) -> Self {
        let slots = (capacity.clamp(PROBE, 1 << 24) * 2).next_power_of_two();
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            hash: FixedState::with_seed(seed),
        }
    }

    /// The slots where `key` may be, in the order they are tried.
    #[inline]
    fn probe(&self, key: Key) -> impl Iterator<Item = (u32, &Slot)> {
        let mask = self.slots.len() - 1;
        // Truncation to the width of usize is the point: only the low bits count.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "masked to the table's size"
        )]
        let home = self.hash.hash_one(key) as usize;
        (0..PROBE).filter_map(move |i| {
            let at = home.wrapping_add(i) & mask;
            Some((u32::try_from(at).ok()?, self.slots.get(at)?))
        })
    }

    /// The neighbour's place, if it is known or being asked for.
    #[inline]
    pub fn lookup(&self, vlan: VlanIndex, addr: &Addr) -> Option<NeighborRef> {
        let key = Key::new(vlan, addr);
        for (slot, place) in self.probe(key) {
            match place.read() {
                Some((version, found)) if found == key => {
                    return Some(NeighborRef { slot, version });
                }
                Some((_, Key([EMPTY, ..]))) => return None,
                _ => {}
            }
        }
        None
    }

    /// What is known of the neighbour that `neighbor` names; touches one cache line. Marks the
    /// neighbour as used, which keeps it fresh.
    #[inline]
    pub fn mac(&self, neighbor: NeighborRef) -> Resolution {
        let Some(slot) = usize::try_from(neighbor.slot)
            .ok()
            .and_then(|at| self.slots.get(at))
        else {
            return Resolution::Stale;
        };
        let before = slot.version.load(Ordering::Acquire);
        let word = slot.cell.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = slot.version.load(Ordering::Relaxed);
        if before != neighbor.version || after != before {
            return Resolution::Stale;
        }
        // Written once per check of the resolver, so that the line stays shared between workers.
        if slot.used.load(Ordering::Relaxed) == 0 {
            slot.used.store(1, Ordering::Relaxed);
        }
        match Cell::from_word(word) {
            Cell::Known(mac) => Resolution::Reachable(mac),
            Cell::Pending => Resolution::Pending,
            Cell::Failed => Resolution::Failed,
        }
    }
}

/// The one writer of a table. It cannot be cloned, so there is no second one.
#[derive(Debug)]
pub(crate) struct Writer {
    table: Arc<Neighbors>,
}

impl Writer {
    /// An empty table for `capacity` neighbours.
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            table: Arc::new(Neighbors::new(capacity, seed)),
        }
    }

    /// The table that readers share.
    pub(crate) fn table(&self) -> &Arc<Neighbors> {
        &self.table
    }

    /// Where the neighbour is.
    pub(crate) fn find(&self, vlan: VlanIndex, addr: &Addr) -> Option<u32> {
        self.table.lookup(vlan, addr).map(|found| found.slot)
    }

    /// Puts a neighbour in that is not there yet; `None` if every slot it could have is taken.
    pub(crate) fn insert(&mut self, vlan: VlanIndex, addr: &Addr, cell: Cell) -> Option<u32> {
        let key = Key::new(vlan, addr);
        let (at, slot) = self
            .table
            .probe(key)
            .find(|(_, slot)| matches!(slot.first_word(), EMPTY | TOMBSTONE))?;
        slot.write(key, cell);
        Some(at)
    }

    /// Takes a neighbour out; references to it are stale from now on.
    pub(crate) fn remove(&mut self, at: u32) {
        let slots = &self.table.slots;
        let mask = slots.len() - 1;
        let Some(mut at) = usize::try_from(at).ok().filter(|&at| at <= mask) else {
            return;
        };
        let word = |at: usize| slots.get(at & mask).map_or(EMPTY, Slot::first_word);
        let name = |at: usize, word: u64| {
            if let Some(slot) = slots.get(at & mask) {
                slot.write(Key([word, 0, 0]), Cell::Failed);
            }
        };
        if word(at + 1) != EMPTY {
            name(at, TOMBSTONE);
            return;
        }
        // No probe leads past here, so neither this slot nor the tombstones before it are needed.
        name(at, EMPTY);
        for _ in 0..slots.len() {
            at = at.wrapping_sub(1) & mask;
            if word(at) != TOMBSTONE {
                break;
            }
            name(at, EMPTY);
        }
    }

    /// Publishes what is known of the neighbour at `at`.
    pub(crate) fn set(&mut self, at: u32, cell: Cell) {
        if let Some(slot) = self.slot(at) {
            slot.cell.store(cell.to_word(), Ordering::Release);
        }
    }

    /// Whether a reader sent to the neighbour since this was last asked.
    pub(crate) fn take_used(&mut self, at: u32) -> bool {
        self.slot(at)
            .is_some_and(|slot| slot.used.swap(0, Ordering::Relaxed) != 0)
    }

    /// Whether a reader sent to the neighbour since [`take_used`](Self::take_used).
    pub(crate) fn is_used(&self, at: u32) -> bool {
        self.slot(at)
            .is_some_and(|slot| slot.used.load(Ordering::Relaxed) != 0)
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.table.slots.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests;
