//! Nothing is allocated or freed per burst: an allocator that counts, and a port that has all its
//! buffers before the first frame.
#![allow(clippy::unwrap_used)]

mod bench;
mod guarded;
mod hairpin;
mod ordinary;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Calls of the allocator by this thread while it is watched.
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: everything is left to the system's allocator; counting touches a cell that needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` called the allocator.
fn calls(f: impl FnOnce()) -> u64 {
    CALLS.with(|calls| calls.set(Some(0)));
    f();
    CALLS.with(Cell::take).unwrap()
}

#[test]
fn the_allocator_of_this_test_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
    assert_eq!(calls(|| ()), 0);
}
