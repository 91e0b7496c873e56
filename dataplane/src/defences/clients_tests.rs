//! Tests of counting clients' connections, of one worker and of several.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::clients::{Clients, Entered};

/// Spreads small numbers over all bits (SplitMix64's last step).
fn mixed(n: u64) -> u64 {
    let z = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

proptest! {
    #[test]
    fn counts_are_those_of_a_map(acts in prop::collection::vec((0..40_u64, any::<bool>()), 0..2000)) {
        const LIMIT: u32 = 5;
        let clients = Clients::new(0);
        let mut model = HashMap::<u64, u32>::new();
        for (client, enters) in acts {
            let (hash, count) = (mixed(client + 1), model.entry(client).or_default());
            if enters {
                let entered = clients.enter(hash, LIMIT);
                prop_assert_eq!(entered == Entered::Counted, *count < LIMIT);
                *count += u32::from(*count < LIMIT);
            } else if *count > 0 {
                clients.leave(hash);
                *count -= 1;
            }
            prop_assert_eq!(clients.of(hash), *count);
        }
        for (client, count) in model {
            for _ in 0..count {
                clients.leave(mixed(client + 1));
            }
        }
        prop_assert!((0..40).all(|client| clients.of(mixed(client + 1)) == 0));
    }
}

#[test]
fn as_many_clients_as_there_may_be_flows_are_counted() {
    let flows = 200_000;
    let clients = Clients::new(flows);
    let all = (0..flows as u64).map(mixed);
    let refused = all
        .clone()
        .filter(|hash| clients.enter(*hash, 1) != Entered::Counted)
        .count();
    // Two thirds full.
    assert!(refused < flows / 10_000, "{refused}");
    assert!(
        all.clone()
            .all(|hash| clients.enter(hash, 1) != Entered::Counted)
    );
    assert!(Clients::octets(flows) <= flows * 12 + 128);
}

#[test]
fn workers_that_count_at_once_lose_nothing_and_hold_the_limit() {
    let clients = Arc::new(Clients::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let clients = Arc::clone(&clients);
            std::thread::spawn(move || {
                let mut counted = 0;
                for n in 0..20_000_u64 {
                    let hash = mixed(n % 3 + 1);
                    if clients.enter(hash, 1000) == Entered::Counted {
                        counted += 1;
                        if n % 2 == 0 {
                            clients.leave(hash);
                            counted -= 1;
                        }
                    }
                }
                counted
            })
        })
        .collect();
    let counted: u32 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    let held: u32 = (0..3).map(|n| clients.of(mixed(n + 1))).sum();
    assert_eq!((counted, held), (3000, 3000));
}
