//! Publishing under the interleavings and memory orders that a model checker finds: the publisher's own
//! source, on the checker's locks and atomics.

#[allow(dead_code, unreachable_pub, reason = "the source of the crate")]
#[path = "../src/tables/publish.rs"]
mod publish;

mod shared {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Arc, Mutex};
    pub(super) use std::sync::PoisonError;
}

use loom::sync::Arc;
use loom::thread;
use publish::{Generation, Publisher};

/// Tables whose parts must be of one generation.
struct Tables {
    generation: u64,
    content: u64,
}

impl Generation for Tables {
    fn generation(&self) -> u64 {
        self.generation
    }
}

fn tables(generation: u64) -> Arc<Tables> {
    let content = generation * 100;
    Arc::new(Tables {
        generation,
        content,
    })
}

/// One look of a worker: what it holds is whole and never older than before.
fn look(publisher: &Publisher<Tables>, mine: &mut Arc<Tables>) {
    let before = mine.generation;
    let newer = publisher.refresh(mine);
    assert_eq!(mine.content, mine.generation * 100);
    assert!(if newer {
        mine.generation > before
    } else {
        mine.generation == before
    });
}

#[test]
fn workers_see_whole_tables_in_order_and_hold_up_nobody() {
    loom::model(|| {
        let publisher = Arc::new(Publisher::new(tables(1)));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let publisher = Arc::clone(&publisher);
                let mut mine = publisher.newest();
                thread::spawn(move || {
                    look(&publisher, &mut mine);
                    mine
                })
            })
            .collect();
        let old = publisher.publish(tables(2));
        assert_eq!(old.generation, 1);
        let ended = workers.into_iter().map(|worker| worker.join().ok());
        let held: Vec<_> = ended.collect();
        for mut mine in held.into_iter().flatten() {
            // Nobody else has the lock any more: the next look finds the newest.
            look(&publisher, &mut mine);
            assert_eq!(mine.generation, 2);
        }
        // Whoever published is the last to hold what was replaced, and so the one to free it.
        assert_eq!(Arc::strong_count(&old), 1);
    });
}

#[test]
fn generations_that_follow_each_other_are_skipped_but_never_go_back() {
    loom::model(|| {
        let publisher = Arc::new(Publisher::new(tables(1)));
        let worker = {
            let publisher = Arc::clone(&publisher);
            let mut mine = publisher.newest();
            thread::spawn(move || {
                look(&publisher, &mut mine);
                look(&publisher, &mut mine);
                mine.generation
            })
        };
        publisher.publish(tables(2));
        publisher.publish(tables(3));
        let seen = worker.join().unwrap_or_default();
        assert!((1..=3).contains(&seen));
    });
}
