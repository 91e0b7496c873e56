//! The sequence lock of a neighbour's slot under the interleavings and memory orders that a model
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

/// Runs `write` against `read` on a slot that names neighbour 1 as version 2. The checker lets the
/// thread that goes first run on, so that each side gets its turn to be first.
fn race(write: fn(&Slot), read: fn(&Slot)) {
    for (first, second) in [(write, read), (read, write)] {
        loom::model(move || {
            let slot = Arc::new(Slot::default());
            assert_eq!(slot.write(key(1), mac(1)), 2);
            let other = Arc::clone(&slot);
            let first = thread::spawn(move || first(&other));
            second(&slot);
            assert!(first.join().is_ok());
        });
    }
}

#[test]
fn a_reader_never_sees_half_a_name() {
    race(
        |slot| {
            slot.write(key(2), mac(2));
        },
        |slot| {
            if let Some((version, found)) = slot.read() {
                let expected = if version == 2 { key(1) } else { key(2) };
                assert!(found == expected && version % 2 == 0, "version {version}");
            }
        },
    );
}

#[test]
fn a_reference_never_gives_the_mac_address_of_another_neighbor() {
    race(
        |slot| {
            slot.set_cell(mac(11));
            slot.write(key(2), mac(2));
            slot.set_cell(mac(22));
        },
        |slot| {
            if let Some(cell) = slot.read_cell(2, u32::MAX) {
                assert!(cell == mac(1) || cell == mac(11), "{cell:?}");
            }
        },
    );
}

#[test]
fn a_reference_just_looked_up_knows_what_was_published_with_the_name() {
    race(
        |slot| {
            slot.write(key(2), mac(2));
        },
        |slot| {
            if let Some((version, found)) = slot.read()
                && found == key(2)
            {
                assert!(slot.read_cell(version, u32::MAX) == Some(mac(2)));
            }
        },
    );
}

#[test]
fn the_checker_looks_at_every_version() {
    // Or the tests above would show little.
    use std::sync::Mutex;
    static SEEN: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    race(
        |slot| {
            slot.write(key(2), mac(2));
        },
        |slot| {
            if let Some((version, _)) = slot.read() {
                let mut seen = SEEN.lock().unwrap();
                if !seen.contains(&version) {
                    seen.push(version);
                }
            }
        },
    );
    let mut seen = SEEN.lock().unwrap();
    seen.sort_unstable();
    assert_eq!(*seen, [2, 4]);
}
