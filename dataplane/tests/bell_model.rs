//! Sleeping and waking under the interleavings and memory orders that a model checker finds: the bell's
//! own source, on the checker's atomics.

#[allow(dead_code, unreachable_pub, reason = "the source of the crate")]
#[path = "../src/bell/flag.rs"]
mod flag;

mod shared {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

use flag::Bell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// What an eventfd does: once raised, a wait ends, whether it was begun before or not.
#[derive(Default)]
struct Alarm {
    raised: Mutex<bool>,
    change: Condvar,
}

impl Alarm {
    fn raise(&self) {
        if let Ok(mut raised) = self.raised.lock() {
            *raised = true;
        }
        self.change.notify_one();
    }

    fn wait(&self) {
        let mut raised = self.raised.lock().ok();
        while let Some(guard) = raised.take() {
            if *guard {
                return;
            }
            raised = self.change.wait(guard).ok();
        }
    }

    fn lower(&self) {
        if let Ok(mut raised) = self.raised.lock() {
            *raised = false;
        }
    }
}

#[derive(Default)]
struct Place {
    work: AtomicUsize,
    alarm: Alarm,
}

/// Sleeps until there is work, and takes it; a wait that nobody ends is a deadlock, which the checker finds.
fn sleep_for(place: &Place, bell: &Bell, wanted: usize) {
    let mut got = 0;
    while got < wanted {
        got += place.work.swap(0, Ordering::Acquire);
        if got >= wanted {
            return;
        }
        bell.lie_down();
        if place.work.load(Ordering::Relaxed) == 0 {
            place.alarm.wait();
        }
        bell.rise();
        place.alarm.lower();
    }
}

fn put(place: &Place, bell: &Bell) {
    place.work.fetch_add(1, Ordering::Release);
    if bell.must_ring() {
        place.alarm.raise();
    }
}

fn nobody_is_left_asleep(wakers: usize) {
    let mut model = loom::model::Builder::new();
    // All interleavings of three threads take hours; with up to three preemptions, a missing fence and a
    // flag that is merely stored are found.
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new((Place::default(), Bell::new()));
        let threads: Vec<_> = (0..wakers)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || put(&shared.0, &shared.1))
            })
            .collect();
        sleep_for(&shared.0, &shared.1, wakers);
        for waker in threads {
            assert!(waker.join().is_ok());
        }
    });
}

#[test]
fn work_put_at_any_moment_is_found_or_wakes_the_sleeper() {
    nobody_is_left_asleep(1);
}

#[test]
fn of_two_wakers_none_relies_on_the_other_in_vain() {
    nobody_is_left_asleep(2);
}
