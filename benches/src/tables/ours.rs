//! Our own table, called as the pipeline calls it: in passes over the burst.

use conntrack::table::Probe;
use conntrack::{EndReason, NewFlow, Table, TableConfig, Timeouts};
use net::tuple::Tuple;
use net::{FlowKey, Timestamp};

use super::{BATCH, FlowTable};

/// `conntrack::Table` with as much data in a flow as the pipeline has.
pub struct Ours {
    table: Table<[u64; 4]>,
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
            data: [1; 4],
        };
        self.table.insert(flow, Timestamp::from_secs(1)).is_ok()
    }

    fn look_up(&mut self, keys: &[FlowKey]) -> usize {
        let mut tuples = [(0u64, 0u32, 0u8); BATCH];
        let mut hashes = [0u64; BATCH];
        for ((tuple, hash), key) in tuples.iter_mut().zip(&mut hashes).zip(keys) {
            if let Tuple::V4 {
                addrs,
                ports,
                proto,
            } = Tuple::from(key)
            {
                *tuple = (addrs, ports, proto.0);
                *hash = self.table.hash_v4(addrs, ports, proto.0);
                self.table.prefetch(*hash);
            }
        }
        let mut probes = [Probe::NONE; BATCH];
        for (probe, hash) in probes.iter_mut().zip(&hashes[..keys.len()]) {
            *probe = self.table.probe(*hash);
        }
        let mut found = 0;
        for (at, key) in keys.iter().enumerate() {
            let (addrs, ports, proto) = tuples[at];
            let state = match self.table.confirm_v4(probes[at], addrs, ports, proto) {
                Some(hit) => self.table.hit(hit).map(|flow| flow.data()[0]),
                // Another flow has the same tag; rare.
                None => self
                    .table
                    .lookup_hashed(hashes[at], key)
                    .and_then(|(id, _)| self.table.get(id))
                    .map(|flow| flow.data()[0]),
            };
            found += usize::from(state == Some(1));
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
