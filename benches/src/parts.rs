//! Parts of the packet path by themselves, for counting instructions.

use std::hint::black_box;

use conntrack::{NewFlow, Table, TableConfig, Timeouts};
use net::{Layers, Packet, RxMeta, Timestamp};

use crate::frames::{Buffer, Flow, HEADROOM, Kind, Maker};
use crate::site::{Layout, Traffic};

/// Parses `bursts` × 32 frames. Returns how many were sound.
pub fn parse(traffic: Traffic, bursts: usize) -> usize {
    let maker = Maker::new(&Layout::for_flows(traffic, 1), Kind::Request);
    let mut buffer: Buffer = [0; 256];
    let len = maker.make(&mut buffer, Flow::default());
    let packet = Packet::new(&mut buffer, HEADROOM, len, RxMeta::default());
    (0..bursts).map(|_| stretch_parse(&packet)).sum()
}

#[inline(never)]
fn stretch_parse(packet: &Packet<'_>) -> usize {
    // A closure that is not inlined would end the counting: its name matches too.
    let mut sound = 0;
    for _ in 0..32 {
        sound += usize::from(Layers::parse(black_box(packet)).is_ok());
    }
    sound
}

/// Looks up `bursts` × 32 keys among `flows` flows. Returns how many were found.
///
/// Errors: a frame of ours that cannot be parsed, or a flow that cannot be entered.
pub fn look_up(traffic: Traffic, flows: usize, bursts: usize) -> Result<usize, String> {
    let maker = Maker::new(&Layout::for_flows(traffic, flows), Kind::Request);
    let mut table = Table::new(TableConfig {
        capacity: flows,
        seed: 7,
        hugetlb: true,
    });
    let mut buffer: Buffer = [0; 256];
    let mut keys = Vec::with_capacity(flows);
    for client in 0..u32::try_from(flows).unwrap_or(u32::MAX) {
        let flow = Flow {
            client,
            ..Flow::default()
        };
        let len = maker.make(&mut buffer, flow);
        let packet = Packet::new(&mut buffer, HEADROOM, len, RxMeta::default());
        let key = Layers::parse(&packet)
            .map_err(|error| error.to_string())?
            .key;
        let new = NewFlow {
            original: key,
            reply: key.inverted(),
            timeouts: Timeouts::tcp(),
            data: [0u64; 4],
        };
        table
            .insert(new, Timestamp::from_secs(1))
            .map_err(|error| error.to_string())?;
        keys.push(key);
    }
    Ok(keys
        .chunks(32)
        .take(bursts)
        .map(|keys| stretch_look_up(&table, keys))
        .sum())
}

#[inline(never)]
fn stretch_look_up(table: &Table<[u64; 4]>, keys: &[net::FlowKey]) -> usize {
    let mut found = 0;
    for key in keys {
        found += usize::from(table.lookup(black_box(key)).is_some());
    }
    found
}
