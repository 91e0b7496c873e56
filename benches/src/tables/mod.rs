//! Flow tables to compare: ours, hashbrown's and DPDK's, behind one trait.
//!
//! Each holds N flows under both of their tuples, 2 N keys in all, finds a flow by either, and
//! comes as far as its entry: an octet of it is read, for that is where the cache is missed. They
//! differ in what else they do: ours keeps timers and the state of the connection.

mod brown;
mod ours;
mod rte;

use net::FlowKey;

pub use brown::Brown;
pub use ours::Ours;
pub use rte::{KeyLength, Rte};

/// Keys looked up at once.
pub const BATCH: usize = 32;

/// What the comparison needs of a flow table.
pub trait FlowTable {
    /// Enters a flow under a key and under the key of the packets that come back; whether it could.
    fn insert(&mut self, original: &FlowKey, reply: &FlowKey) -> bool;

    /// How many of the keys (at most [`BATCH`]) belong to flows.
    fn look_up(&mut self, keys: &[FlowKey]) -> usize;

    /// Takes a flow out; whether it was there.
    fn remove(&mut self, original: &FlowKey, reply: &FlowKey) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site;
    use net::{IpProto, L4Port};

    fn keys(flow: u32) -> (FlowKey, FlowKey) {
        let client = site::client_addr(false, flow);
        let port = L4Port(site::client_port(flow));
        let original = FlowKey::new(
            client,
            site::virtual_addr(false, 0),
            port,
            L4Port(80),
            IpProto::TCP,
        );
        let reply = FlowKey::new(
            site::member_addr(false, flow % 7),
            site::self_addr(false),
            L4Port(8080),
            L4Port(u16::try_from(flow).unwrap()),
            IpProto::TCP,
        );
        (original, reply)
    }

    fn behaves(table: &mut impl FlowTable) {
        const FLOWS: u32 = 500;
        for flow in 0..FLOWS {
            let (original, reply) = keys(flow);
            assert!(table.insert(&original, &reply), "flow {flow}");
        }
        let all: Vec<FlowKey> = (0..FLOWS).flat_map(|f| [keys(f).0, keys(f).1]).collect();
        let found: usize = all.chunks(BATCH).map(|some| table.look_up(some)).sum();
        assert_eq!(found, 1000);
        let strangers: Vec<FlowKey> = (FLOWS..FLOWS + 32).map(|f| keys(f).0).collect();
        assert_eq!(table.look_up(&strangers), 0);
        for flow in 0..FLOWS / 2 {
            let (original, reply) = keys(flow);
            assert!(table.remove(&original, &reply), "flow {flow}");
            assert!(!table.remove(&original, &reply), "flow {flow} twice");
        }
        let found: usize = all.chunks(BATCH).map(|some| table.look_up(some)).sum();
        assert_eq!(found, 500);
    }

    #[test]
    fn our_table_finds_what_was_entered_by_both_tuples_and_nothing_else() {
        behaves(&mut Ours::new(500));
    }

    #[test]
    fn the_hashbrown_table_finds_what_was_entered_by_both_tuples_and_nothing_else() {
        behaves(&mut Brown::new(500));
    }

    #[test]
    fn the_tables_of_dpdk_find_what_was_entered_by_both_tuples_and_nothing_else() {
        let eal = dpdk::Eal::init(&dpdk::EalConfig {
            program: "tables".to_owned(),
            memory_mib: Some(64),
            hugepages: dpdk::HugePages::Never,
            log_level: dpdk::LogLevel::Error,
            ..dpdk::EalConfig::default()
        })
        .unwrap();
        for (name, length) in [("long", KeyLength::Long), ("short", KeyLength::Short)] {
            behaves(&mut Rte::new(&eal, name, 500, length).unwrap());
        }
    }
}
