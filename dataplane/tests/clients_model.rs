//! Counting clients' connections under the interleavings and memory orders that a model checker finds: the
//! source itself, on the checker's atomics, with two words for all clients.

#[allow(dead_code, unreachable_pub, reason = "the source of the crate")]
#[path = "../src/defences/clients.rs"]
mod clients;

mod shared {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};

    pub(super) const WAYS: usize = 1;
    pub(super) const LEAST: usize = 1;
    pub(super) const TRIES: usize = 2;

    pub(super) fn zeroes(words: usize) -> Box<[AtomicU64]> {
        (0..words).map(|_| AtomicU64::new(0)).collect()
    }
}

use clients::{Clients, Entered};
use loom::sync::Arc;
use loom::thread;

/// A client that may be in either of the two words there are.
const CLIENT: u64 = 0xffff_ffff;

/// Workers that each open connections of one client at once, which it had `before` already; they may have
/// `limit` in all.
fn open(workers: u32, limit: u32, before: u32, ends: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let clients = Arc::new(Clients::new(2));
        for _ in 0..before {
            assert_eq!(clients.enter(CLIENT, limit), Entered::Counted);
        }
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let clients = Arc::clone(&clients);
                thread::spawn(move || {
                    let counted = clients.enter(CLIENT, limit) == Entered::Counted;
                    // The first connection ends meanwhile.
                    if ends && worker == 0 && counted {
                        clients.leave(CLIENT);
                    }
                    u32::from(counted && !(ends && worker == 0))
                })
            })
            .collect();
        let counted: u32 = threads.into_iter().filter_map(|t| t.join().ok()).sum();
        let all = before + counted;
        assert!(all <= limit, "{all} of {limit}");
        // Nothing is counted that was refused, and all that was not.
        assert_eq!(clients.of(CLIENT), all);
        for left in (0..all).rev() {
            clients.leave(CLIENT);
            assert_eq!(clients.of(CLIENT), left);
        }
    });
}

#[test]
fn two_workers_that_meet_a_new_client_at_once_let_it_have_no_more_than_its_limit() {
    open(2, 1, 0, false);
}

#[test]
fn the_last_of_a_clients_connections_goes_to_one_worker() {
    open(2, 2, 1, false);
}

#[test]
fn a_connection_that_ends_meanwhile_leaves_the_count_right() {
    open(2, 1, 0, true);
    open(2, 2, 1, true);
}
