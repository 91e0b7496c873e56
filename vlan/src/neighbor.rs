//! The table of neighbours' MAC addresses: one writer, many readers, no lock.
//!
//! A fixed array of slots, one cache line each, open addressing with a bounded probe. A slot names
//! one neighbour at a time; its `version` is odd while the writer changes the name and grows with
//! each change, so that a reader that saw the same even version before and after knows that what it
//! read in between belongs together (a sequence lock over atomics). The MAC address and state are
//! one word, a `Cell`, that changes under a name without a new version: a flow that keeps a
//! [`NeighborRef`] sees a new MAC address at once, and never another neighbour's.
//!
//! Entries never move, so a reader misses one only if it was not there all along; it then asks
//! for it once more than needed.

mod slot;

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use net::{Addr, MacAddr, VlanIndex};

pub(crate) use slot::Cell;
use slot::{EMPTY, Key, Slot, TOMBSTONE};

/// What slots are made of. The slots' own tests put a model checker's here.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

/// The most slots looked at for one neighbour. At the half load that the table is kept to, a run
/// this long is not seen by chance; the hash is keyed, so nor on purpose.
const PROBE: usize = 64;

/// The most slots of a table, as a power of two.
const SLOT_BITS: u32 = 25;
/// Bits of a version that a reference keeps: a slot would have to be named anew two million times (to
/// be given to a neighbour is one, to be taken from it another), and not once more, for a reference
/// that was not used in all that time to be wrong.
const VERSION_BITS: u32 = 22;

/// Names a neighbour for as long as it is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighborRef {
    /// Position in the table, below 2^25.
    slot: u32,
    /// The slot's version when it was looked up, modulo 2^22; it was even.
    version: u32,
}

impl NeighborRef {
    /// How many bits [`to_bits`](Self::to_bits) has.
    pub const BITS: u32 = SLOT_BITS + VERSION_BITS - 1;

    /// The reference as a number of 46 bits.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        (self.version as u64 >> 1) << SLOT_BITS | self.slot as u64
    }

    /// The reference that was made to these bits.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both parts fit")]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            slot: (bits & ((1 << SLOT_BITS) - 1)) as u32,
            version: ((bits >> SLOT_BITS) << 1) as u32 & VERSION_MASK,
        }
    }
}

const VERSION_MASK: u32 = (1 << VERSION_BITS) - 1;

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
        let slots = (capacity.clamp(PROBE, 1 << (SLOT_BITS - 1)) * 2).next_power_of_two();
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
                    let version = version & VERSION_MASK;
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
    #[inline(always)]
    pub fn mac(&self, neighbor: NeighborRef) -> Resolution {
        let Some(slot) = usize::try_from(neighbor.slot)
            .ok()
            .and_then(|at| self.slots.get(at))
        else {
            return Resolution::Stale;
        };
        let Some(cell) = slot.read_cell(neighbor.version, VERSION_MASK) else {
            return Resolution::Stale;
        };
        slot.mark_used();
        match cell {
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
            slot.set_cell(cell);
        }
    }

    /// Whether a reader sent to the neighbour since this was last asked.
    pub(crate) fn take_used(&mut self, at: u32) -> bool {
        self.slot(at).is_some_and(Slot::take_used)
    }

    /// Whether a reader sent to the neighbour since [`take_used`](Self::take_used).
    pub(crate) fn is_used(&self, at: u32) -> bool {
        self.slot(at).is_some_and(Slot::is_used)
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.table.slots.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests;
