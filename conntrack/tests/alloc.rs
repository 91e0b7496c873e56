//! Nothing is allocated after the table was made.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{new_flow, secs, segment, table};
use conntrack::Direction::{Original, Reply};
use conntrack::{EndReason, FlowRef, Segment};
use net::IpProto;

thread_local! {
    // Per thread, so that the harness's own threads do not count.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // Allocations while a thread ends are nobody's business here.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
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

#[test]
fn nothing_is_allocated_after_new() {
    let mut table = table(5000);
    let before = CALLS.get();
    assert!(before > 0, "the counter counts");
    let mut ended = 0;
    for n in 0..200_000_u32 {
        let now = secs(u64::from(n / 1000));
        let proto = if n % 2 == 0 {
            IpProto::TCP
        } else {
            IpProto::UDP
        };
        let flow = new_flow(proto, n);
        if let Ok(id) = table.insert(flow, now) {
            let first = match proto {
                IpProto::TCP => segment("S", n, 0, 0),
                _ => Segment::datagram(60),
            };
            let _ = table.observe(id, Original, &first, now);
            let reply = match proto {
                IpProto::TCP => segment("SA", 5, n.wrapping_add(1), 0),
                _ => Segment::datagram(60),
            };
            if n % 3 != 0 {
                let (found, direction) = table.lookup(&flow.reply).unwrap();
                assert_eq!((found, direction), (id, Reply));
                let _ = table.observe(found, direction, &reply, now);
            }
            if n % 7 == 0 {
                let _ = table.remove(id, EndReason::Removed);
            }
        }
        if n % 64 == 0 {
            ended += table.expire(now, 256, &mut |_: FlowRef<'_, u32>, _| {});
        }
    }
    assert_eq!(CALLS.get(), before);
    assert!(ended > 50_000);
}
