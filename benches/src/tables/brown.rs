//! The baseline: `hashbrown::HashTable` as an index over an array of entries.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use net::FlowKey;

use super::{BATCH, FlowTable};

/// As much as a flow needs: both tuples, and as much again for state and translation.
#[derive(Clone)]
struct Entry {
    keys: [FlowKey; 2],
    state: [u64; 10],
}

/// hashbrown's table of slot numbers; a number is twice the slot, plus one for the reply.
pub struct Brown {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    hasher: FixedState,
}

impl Brown {
    /// Room for that many flows.
    pub fn new(flows: usize) -> Self {
        Self {
            index: HashTable::with_capacity(flows * 2),
            entries: Vec::with_capacity(flows),
            free: Vec::new(),
            hasher: FixedState::with_seed(7),
        }
    }

    fn key(entries: &[Entry], place: u32) -> &FlowKey {
        &entries[(place >> 1) as usize].keys[(place & 1) as usize]
    }
}

impl FlowTable for Brown {
    fn insert(&mut self, original: &FlowKey, reply: &FlowKey) -> bool {
        let entry = Entry {
            keys: [*original, *reply],
            state: [1; 10],
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = entry;
            slot
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        for (key, place) in [(original, slot << 1), (reply, slot << 1 | 1)] {
            let hash = self.hasher.hash_one(key);
            let (entries, hasher) = (&self.entries, &self.hasher);
            self.index.insert_unique(hash, place, |place| {
                hasher.hash_one(Self::key(entries, *place))
            });
        }
        true
    }

    fn look_up(&mut self, keys: &[FlowKey]) -> usize {
        // Hashes first, so that the processor can begin the next look-up before the last is done.
        let mut hashes = [0u64; BATCH];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hasher.hash_one(key);
        }
        let mut found = 0;
        for (hash, key) in hashes.iter().zip(keys) {
            let place = self
                .index
                .find(*hash, |place| Self::key(&self.entries, *place) == key);
            if let Some(place) = place {
                let state = self.entries[(place >> 1) as usize].state;
                found += usize::from(state[0] != 0);
            }
        }
        found
    }

    fn remove(&mut self, original: &FlowKey, reply: &FlowKey) -> bool {
        let mut slot = None;
        for key in [original, reply] {
            let hash = self.hasher.hash_one(key);
            let entries = &self.entries;
            let found = self
                .index
                .find_entry(hash, |place| Self::key(entries, *place) == key);
            if let Ok(entry) = found {
                slot = Some(entry.remove().0 >> 1);
            }
        }
        self.free.extend(slot);
        slot.is_some()
    }
}
