use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;

const V: VlanIndex = VlanIndex(7);

fn addr(n: u32) -> Addr {
    Addr::from_v4(n.to_be_bytes())
}

fn mac(n: u32) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | u64::from(n))
}

#[test]
fn a_slot_is_one_cache_line() {
    assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (64, 64));
}

#[test]
fn a_reference_follows_the_mac_address_and_dies_with_the_neighbor() {
    let mut writer = Writer::new(16, 1);
    let readers = Arc::clone(writer.table());
    assert_eq!(readers.lookup(V, &addr(1)), None);
    let slot = writer.insert(V, &addr(1), Cell::Pending).unwrap();
    let neighbor = readers.lookup(V, &addr(1)).unwrap();
    assert_eq!(readers.mac(neighbor), Resolution::Pending);
    for n in [1, 2] {
        writer.set(slot, Cell::Known(mac(n)));
        assert_eq!(readers.mac(neighbor), Resolution::Reachable(mac(n)));
    }
    writer.set(slot, Cell::Failed);
    assert_eq!(readers.mac(neighbor), Resolution::Failed);
    assert_eq!(readers.lookup(VlanIndex(8), &addr(1)), None, "another VLAN");

    writer.remove(slot);
    assert_eq!(readers.mac(neighbor), Resolution::Stale);
    assert_eq!(readers.lookup(V, &addr(1)), None);
    writer.insert(V, &addr(1), Cell::Known(mac(3))).unwrap();
    assert_eq!(
        readers.mac(neighbor),
        Resolution::Stale,
        "a new entry, a new reference"
    );
    let beyond = NeighborRef::from_bits((1 << 25) - 1);
    assert_eq!(readers.mac(beyond), Resolution::Stale);
}

#[test]
fn use_is_seen_by_the_writer_once() {
    let mut writer = Writer::new(16, 1);
    let slot = writer.insert(V, &addr(1), Cell::Known(mac(1))).unwrap();
    let neighbor = writer.table().lookup(V, &addr(1)).unwrap();
    assert!(!writer.take_used(slot));
    writer.table().mac(neighbor);
    assert!(writer.is_used(slot) && writer.take_used(slot) && !writer.take_used(slot));
}

#[test]
fn a_table_at_its_capacity_takes_every_neighbor() {
    for seed in 0..8 {
        let mut writer = Writer::new(4096, seed);
        for n in 0..4096 {
            assert!(writer.insert(V, &addr(n), Cell::Known(mac(n))).is_some());
        }
        for n in 0..4096 {
            let found = writer.table().lookup(V, &addr(n)).unwrap();
            assert_eq!(writer.table().mac(found), Resolution::Reachable(mac(n)));
        }
    }
}

#[test]
fn removal_leaves_no_tombstones_behind_when_all_are_gone() {
    let mut writer = Writer::new(64, 3);
    for round in 0..1000u32 {
        let slots: Vec<_> = (0..64)
            .map(|n| {
                writer
                    .insert(V, &addr(round * 64 + n), Cell::Pending)
                    .unwrap()
            })
            .collect();
        for slot in slots {
            writer.remove(slot);
        }
        assert!(
            writer
                .table()
                .slots
                .iter()
                .all(|slot| slot.first_word() == EMPTY)
        );
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, u32),
    Set(u32, u32),
    Remove(u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0u32..200, any::<u32>()).prop_map(|(n, m)| Op::Insert(n, m)),
        1 => (0u32..200, any::<u32>()).prop_map(|(n, m)| Op::Set(n, m)),
        2 => (0u32..200).prop_map(Op::Remove),
    ];
    proptest::collection::vec(op, 1..600)
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_map(ops in ops(), seed: u64) {
        // The smallest table: 128 slots, so that probes are long and meet tombstones.
        let mut writer = Writer::new(1, seed);
        let mut model: HashMap<u32, u32> = HashMap::new();
        let mut refs: HashMap<u32, NeighborRef> = HashMap::new();
        let mut dead: Vec<NeighborRef> = vec![];
        for op in ops {
            match op {
                Op::Insert(n, m) if !model.contains_key(&n) && model.len() < 64 => {
                    writer.insert(V, &addr(n), Cell::Known(mac(m))).unwrap();
                    model.insert(n, m);
                    refs.insert(n, writer.table().lookup(V, &addr(n)).unwrap());
                }
                Op::Set(n, m) if model.contains_key(&n) => {
                    writer.set(writer.find(V, &addr(n)).unwrap(), Cell::Known(mac(m)));
                    model.insert(n, m);
                }
                Op::Remove(n) if model.contains_key(&n) => {
                    writer.remove(writer.find(V, &addr(n)).unwrap());
                    model.remove(&n);
                    dead.extend(refs.remove(&n));
                }
                _ => {}
            }
        }
        let table = writer.table();
        for n in 0..200 {
            let found = table.lookup(V, &addr(n));
            prop_assert_eq!(found, refs.get(&n).copied());
            let known = found.map(|f| table.mac(f));
            prop_assert_eq!(known, model.get(&n).map(|&m| Resolution::Reachable(mac(m))));
        }
        for gone in dead {
            prop_assert_eq!(table.mac(gone), Resolution::Stale);
        }
    }
}

#[test]
fn readers_never_see_the_mac_address_of_another_neighbor() {
    // Every neighbour's MAC address is made of its address and a round, and neighbours come and go
    // in few slots. A reader that mixes two of them up gets an address that does not fit.
    const ADDRS: u32 = 96;
    const READERS: usize = 3;
    let mut writer = Writer::new(1, 11);
    let table = Arc::clone(writer.table());
    let stop = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|id| {
                let (table, stop) = (&table, &stop);
                scope.spawn(move || {
                    let mut refs: HashMap<u32, NeighborRef> = HashMap::new();
                    let (mut seen, mut n) = (0u64, u32::try_from(id).unwrap());
                    while !stop.load(Ordering::Relaxed) {
                        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let who = (n >> 16) % ADDRS;
                        // Old references too: what they name must be right or stale.
                        let neighbor = match refs.get(&who) {
                            Some(&old) if n & 0x100 != 0 => old,
                            _ => match table.lookup(V, &addr(who)) {
                                Some(new) => new,
                                None => continue,
                            },
                        };
                        refs.insert(who, neighbor);
                        if let Resolution::Reachable(found) = table.mac(neighbor) {
                            assert_eq!(found.to_u64() & 0xff, u64::from(who), "torn");
                            seen += 1;
                        }
                    }
                    seen
                })
            })
            .collect();
        let mut live: Vec<u32> = vec![];
        let mut n = 1u32;
        for round in 0..300_000u32 {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let who = (n >> 16) % ADDRS;
            match writer.find(V, &addr(who)) {
                Some(slot) if n & 0x300 == 0 => {
                    writer.set(slot, Cell::Known(mac((round << 8) | who)));
                }
                Some(slot) => {
                    writer.remove(slot);
                    live.retain(|&l| l != who);
                }
                None if live.len() < 64 => {
                    let cell = Cell::Known(mac((round << 8) | who));
                    writer.insert(V, &addr(who), cell).unwrap();
                    live.push(who);
                }
                None => {}
            }
            if round % 1000 == 0 {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|r| r.join().unwrap()).sum::<u64>()
    });
    assert!(seen > 0, "the readers ran");
}
