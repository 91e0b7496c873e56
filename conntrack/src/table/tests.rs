use super::*;

/// With as much data as fits into two cache lines.
type Usual = Table<[u32; 8]>;

#[test]
fn a_flow_takes_at_most_160_octets_all_told() {
    for flows in [1_000_000, 10_000_000] {
        let (all, apart) = (Usual::octets(flows, false), Usual::octets(flows, true));
        assert!(all <= flows * 160, "{}", all / flows);
        assert!(apart <= flows * 224, "{}", apart / flows);
    }
    assert!(Usual::octets(10_000_000, false) <= 2 << 30);
}

/// An IPv6 flow of client `n`, by one of 64 ways.
fn v6_flow(n: u32) -> (Tuple, Tuple) {
    let (client, way) = ([1, u64::from(n >> 12)], u64::from(n % 64));
    let (ports, proto) = (n, net::IpProto::TCP);
    let original = Tuple::V6 {
        addrs: [client[0], client[1], 2, way],
        ports,
        proto,
    };
    let reply = Tuple::V6 {
        addrs: [3, way, 4, 4],
        ports,
        proto,
    };
    (original, reply)
}

#[test]
fn ipv6_flows_share_what_is_not_the_clients_and_cost_no_more_than_ipv4_flows() {
    let flows = 50_000_u32;
    let mut table = Usual::new(TableConfig {
        capacity: flows as usize,
        seed: 1,
        hugetlb: false,
    });
    let now = Timestamp::ZERO;
    for n in 0..flows {
        let (original, reply) = v6_flow(n);
        let (original, reply) = (table.hashed(original), table.hashed(reply));
        let entered = table.enter(original, reply, TimeoutsId::TCP, [n; 8], now);
        assert!(entered.is_ok(), "{n}");
    }
    assert_eq!(table.address_sets(), 64);
    for n in 0..flows {
        let (original, reply) = v6_flow(n);
        for (tuple, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
            let key = FlowKey::from(tuple);
            let (id, found) = table.lookup(&key).unwrap();
            assert_eq!((found, table.get(id).unwrap().data()[0]), (direction, n));
            assert_eq!(table.get(id).unwrap().key(direction), key);
        }
    }
    // All told, half of them IPv4: the 64 sets are 4 KiB.
    let all = Usual::octets(10_000_000, false) + 64 * size_of::<Shared>();
    assert!(all <= 160 * 10_000_000);
    let mut ended = 0;
    table.expire(
        now + std::time::Duration::from_hours(1),
        1 << 20,
        &mut |_, _| ended += 1,
    );
    assert_eq!((ended, table.address_sets()), (flows, 0));
}
