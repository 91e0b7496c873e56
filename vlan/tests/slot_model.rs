//! The sequence lock of a neighbour's slot under every interleaving and memory order that a model
//! checker finds: the slot's own source, on the checker's atomics.

use net::{Addr, MacAddr, VlanIndex};

#[allow(dead_code, reason = "the table's side of the slot is not modelled")]
#[path = "../src/neighbor/slot.rs"]
mod slot;

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

use loom::sync::Arc;
use loom::thread;
use slot::{Cell, Key, Slot};

/// The key of a neighbour whose words all differ from another's.
fn key(n: u8) -> Key {
    Key::new(VlanIndex(u16::from(n)), &Addr::from_v6([n; 16]))
}

fn mac(n: u8) -> Cell {
    Cell::Known(MacAddr([2, 0, 0, 0, 0, n]))
}

/// All interleavings with up to this many preemptions.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

#[test]
fn a_reader_never_sees_half_a_name() {
    model(|| {
        let slot = Arc::new(Slot::default());
        slot.write(key(1), mac(1));
        let writer = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.write(key(2), mac(2))
        });
        if let Some((version, found)) = slot.read() {
            let expected = if version == 2 { key(1) } else { key(2) };
            assert!(found == expected, "version {version}");
        }
        writer.join().unwrap();
        assert!(slot.read() == Some((4, key(2))));
    });
}

#[test]
fn a_reference_never_gives_the_mac_address_of_another_neighbor() {
    model(|| {
        let slot = Arc::new(Slot::default());
        let first = slot.write(key(1), mac(1));
        let writer = thread::spawn({
            let slot = Arc::clone(&slot);
            move || {
                slot.set_cell(mac(11));
                slot.write(key(2), mac(2));
                slot.set_cell(mac(22));
            }
        });
        if let Some(cell) = slot.read_cell(first) {
            assert!(cell == mac(1) || cell == mac(11), "{cell:?}");
        }
        writer.join().unwrap();
        assert!(slot.read_cell(first).is_none());
    });
}

#[test]
fn a_reference_just_looked_up_knows_what_was_published_with_the_name() {
    model(|| {
        let slot = Arc::new(Slot::default());
        let writer = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.write(key(1), mac(1))
        });
        if let Some((version, found)) = slot.read()
            && found == key(1)
        {
            assert!(slot.read_cell(version) == Some(mac(1)));
        }
        writer.join().unwrap();
    });
}
