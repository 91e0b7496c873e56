//! The parts of the packet path by themselves: parsing, checksums, look-up, selection.

#![allow(missing_docs, clippy::unwrap_used)] // made by macros; a bench that cannot be set up must end

use std::hint::black_box;

use conntrack::{NewFlow, Table, TableConfig, Timeouts};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use net::emit::{TcpFields, ethernet, tcp};
use net::header::tcp_flags::ACK;
use net::{
    Addr, Encap, FlowKey, IpProto, L4Port, Layers, MacAddr, Packet, Rewrite, RxMeta, Timestamp,
    VlanId,
};

fn key(n: u32) -> FlowKey {
    FlowKey::new(
        Addr::from_v4((0x0a00_0000 + (n & 0x00ff_ffff)).to_be_bytes()),
        Addr::from_v4([203, 0, 113, 10]),
        L4Port(40_000),
        L4Port(80),
        IpProto::TCP,
    )
}

fn frame(payload: usize) -> Vec<u8> {
    let fields = TcpFields {
        seq: 1,
        ack: 1,
        flags: ACK,
        window: 1000,
    };
    let l3 = tcp(&key(1), fields, &vec![0x5a; payload]);
    let encap = Encap::tagged(VlanId::new(100).unwrap());
    ethernet(
        MacAddr([2, 0, 0, 0, 0, 1]),
        MacAddr([2, 0, 0, 0, 0, 2]),
        encap,
        0x0800,
        &l3,
    )
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for payload in [0, 512, 1446] {
        let mut bytes = frame(payload);
        let len = bytes.len();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            let packet = Packet::new(&mut bytes, 0, len, RxMeta::default());
            b.iter(|| Layers::parse(black_box(&packet)).unwrap());
        });
    }
    group.finish();
}

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20, 64, 1500, 9000] {
        let data = vec![0xa5; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| net::checksum::of(black_box(&data)));
        });
    }
    group.finish();
}

fn rewrite(c: &mut Criterion) {
    let to = FlowKey::new(
        Addr::from_v4([198, 51, 100, 1]),
        Addr::from_v4([198, 51, 100, 11]),
        L4Port(2000),
        L4Port(8080),
        IpProto::TCP,
    );
    let rewrite = Rewrite::new(&key(1), &to);
    c.bench_function("rewrite", |b| {
        let mut bytes = frame(0);
        let len = bytes.len();
        let mut packet = Packet::new(&mut bytes, 0, len, RxMeta::default());
        let layers = Layers::parse(&packet).unwrap();
        // The fields are overwritten with the same values each time; the work is the same.
        b.iter(|| {
            packet.data_mut()[26] = 64;
            rewrite.apply(black_box(&mut packet), &layers).unwrap();
        });
    });
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for flows in [1_000u32, 100_000, 1_000_000] {
        let mut table = Table::new(TableConfig {
            capacity: flows as usize,
            seed: 7,
            hugetlb: true,
        });
        let now = Timestamp::from_secs(1);
        for n in 0..flows {
            let original = key(n);
            let new = NewFlow {
                original,
                reply: original.inverted(),
                timeouts: Timeouts::tcp(),
                data: [0u8; 48],
            };
            table.insert(new, now).unwrap();
        }
        let mut n = 0u32;
        group.bench_function(BenchmarkId::from_parameter(flows), |b| {
            b.iter(|| {
                n = (n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % flows;
                table.lookup(black_box(&key(n))).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, checksum, rewrite, lookup);
criterion_main!(benches);
