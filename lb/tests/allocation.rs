//! Deciding allocates nothing: neither lookup, nor selection, nor ports.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

use lb::{
    Listen, Member, MemberState, Method, Pool, Pools, PortStripe, Profile, Registry, Selector,
    Snat, VirtualServer, VirtualServers,
};
use net::{Addr, IpPrefix, IpProto, L4Port, VlanIndex};

thread_local! {
    // By thread: the test harness allocates on its own.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counted;

fn count() {
    // Not while a thread is being torn down.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: all that is asked for is asked of the system's allocator, as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

#[test]
fn a_new_flow_is_decided_without_allocating() {
    let mut registry = Registry::new();
    let (mut pools, mut servers) = (Vec::new(), Vec::new());
    for (at, method) in [
        Method::RoundRobin,
        Method::LeastConnections,
        Method::SourceAddressHash,
    ]
    .into_iter()
    .enumerate()
    {
        // Small and large, with a Maglev table and without.
        for size in [4, 40] {
            let name = format!("{at}-{size}");
            let pool = registry.pool(&name);
            let members = (0..size)
                .map(|n| {
                    let (addr, port) = (IpAddr::from([10, 0, 0, n]), L4Port(80));
                    Member {
                        id: registry.member(pool, addr, port),
                        addr,
                        port,
                        state: MemberState::Up,
                    }
                })
                .collect();
            let made = Pool::new(pool, name.as_str(), members);
            pools.push(if size == 4 { made } else { made.with_maglev() });
            servers.push(VirtualServer {
                id: registry.virtual_server(&name),
                name,
                proto: IpProto::TCP,
                destination: IpPrefix::host(IpAddr::from([192, 0, 2, size])),
                port: L4Port(80 + u16::try_from(at).unwrap()),
                listen: Listen::All,
                pool,
                method,
                snat: Snat::Automap,
                profile: Profile::default(),
            });
        }
    }
    let (servers, pools) = (VirtualServers::new(servers), Pools::new(pools));
    let stripe = PortStripe::new(1, 4, 1024, 65535).unwrap();
    let mut selector = Selector::new(1, 99);
    selector.refresh(&pools);
    let before = CALLS.get();
    assert!(before > 0, "the allocator is counted");
    let mut ports = 0;
    for n in 0..10_000u32 {
        let src = Addr::from_v4(n.to_be_bytes());
        for (host, port) in [4u8, 40]
            .into_iter()
            .flat_map(|h| (80..84).map(move |p| (h, p)))
        {
            let dst = Addr::from_v4([192, 0, 2, host]);
            let vlan = VlanIndex(3);
            let Some(server) = servers.lookup(IpProto::TCP, &dst, L4Port(port), vlan) else {
                continue;
            };
            let pool = pools.get(server.pool).unwrap();
            let member = selector.select(pool, server.method, &src).unwrap();
            selector.opened(member.id);
            ports += stripe.candidates(L4Port(port), n).count();
            if n % 2 == 0 {
                selector.closed(member.id);
            }
        }
    }
    // The same generation again needs nothing either.
    selector.refresh(&pools);
    assert_eq!(CALLS.get(), before);
    assert_eq!(ports, 10_000 * 6 * 64);
}
