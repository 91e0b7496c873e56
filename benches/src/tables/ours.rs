//! Our own table, called as the pipeline calls it.

use conntrack::{EndReason, NewFlow, Table, TableConfig, Timeouts};
use net::{FlowKey, Timestamp};

use super::{BATCH, FlowTable};

/// `conntrack::Table` with as much data in a flow as the pipeline has.
pub struct Ours {
    table: Table<[u8; 48]>,
}

impl Ours {
    /// Room for that many flows.
    pub fn new(flows: usize) -> Self {
        Self {
            table: Table::new(TableConfig {
                capacity: flows,
                seed: 7,
                hugetlb: true,
            }),
        }
    }
}

impl FlowTable for Ours {
    fn insert(&mut self, original: &FlowKey, reply: &FlowKey) -> bool {
        let flow = NewFlow {
            original: *original,
            reply: *reply,
            timeouts: Timeouts::tcp(),
            data: [1; 48],
        };
        self.table.insert(flow, Timestamp::from_secs(1)).is_ok()
    }

    fn look_up(&mut self, keys: &[FlowKey]) -> usize {
        let mut hashes = [0u64; BATCH];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.table.hash(key);
        }
        let mut found = 0;
        for (hash, key) in hashes.iter().zip(keys) {
            if let Some((id, _)) = self.table.lookup_hashed(*hash, key) {
                let state = self.table.get(id).map(|flow| flow.data()[0]);
                found += usize::from(state == Some(1));
            }
        }
        found
    }

    fn remove(&mut self, original: &FlowKey, _reply: &FlowKey) -> bool {
        self.table
            .lookup(original)
            .and_then(|(id, _)| self.table.remove(id, EndReason::Removed))
            .is_some()
    }
}
