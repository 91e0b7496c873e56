//! Fragments: how they are cut, and somebody who puts them together.

use std::collections::BTreeMap;

use net::emit::ethernet;
use net::{Encap, FlowKey, Layers, Packet, RxMeta};

use super::site::{CLIENT, MEMBER};

/// Extension headers of eight octets each: those before the fragment header, and those behind it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers {
    pub before: &'static [u8],
    pub behind: &'static [u8],
}

/// What stands before the fragment header, what is cut into fragments, and the kind of its first header.
pub fn parts(whole: &[u8], headers: Headers) -> (Vec<u8>, Vec<u8>, u8) {
    let v4 = whole[0] >> 4 == 4;
    if v4 {
        return (whole[..20].to_vec(), whole[20..].to_vec(), 0);
    }
    let mut before = whole[..40].to_vec();
    let chain = |kinds: &[u8], last: u8| -> (u8, Vec<u8>) {
        let mut octets = Vec::new();
        for (at, _) in kinds.iter().enumerate() {
            let next = kinds.get(at + 1).copied().unwrap_or(last);
            // Routing headers with no segments left; options are padding.
            octets.extend(if kinds[at] == 43 {
                [next, 0, 0, 0, 0, 0, 0, 0]
            } else {
                [next, 0, 1, 4, 0, 0, 0, 0]
            });
        }
        (kinds.first().copied().unwrap_or(last), octets)
    };
    let (first, octets) = chain(headers.behind, 17);
    let payload = [octets, whole[40..].to_vec()].concat();
    let (next, octets) = chain(headers.before, 44);
    before[6] = next;
    before.extend(octets);
    (before, payload, first)
}

/// The fragment of `payload` from `start` to `end`.
pub fn fragment(
    (before, payload, first): &(Vec<u8>, Vec<u8>, u8),
    (start, end): (usize, usize),
    ident: u32,
) -> Vec<u8> {
    let more = end < payload.len();
    let mut l3 = before.clone();
    let place = u16::try_from(start / 8).unwrap();
    if l3[0] >> 4 == 4 {
        l3.extend(&payload[start..end]);
        let len = u16::try_from(l3.len()).unwrap();
        l3[2..4].copy_from_slice(&len.to_be_bytes());
        l3[4..6].copy_from_slice(&u16::try_from(ident).unwrap().to_be_bytes());
        l3[6..8].copy_from_slice(&(place | u16::from(more) << 13).to_be_bytes());
        l3[10..12].fill(0);
        let sum = net::checksum::of(&l3[..20]);
        l3[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let [a, b] = (place << 3 | u16::from(more)).to_be_bytes();
        l3.extend([*first, 0, a, b]);
        l3.extend(ident.to_be_bytes());
        l3.extend(&payload[start..end]);
        let len = u16::try_from(l3.len() - 40).unwrap();
        l3[4..6].copy_from_slice(&len.to_be_bytes());
    }
    l3
}

pub type Parts = (Vec<u8>, Vec<Option<u8>>, Option<usize>);

/// One who puts datagrams together: knows nothing but what is in the fragments.
#[derive(Default)]
pub struct Assembler {
    /// By what names a datagram: its header, its octets as far as they have come, and its length.
    pub open: BTreeMap<(Vec<u8>, u32), Parts>,
    pub done: Vec<Vec<u8>>,
}

impl Assembler {
    pub fn take(&mut self, l3: &[u8]) {
        let v4 = l3[0] >> 4 == 4;
        let (header, ident, place, more, next) = if v4 {
            let field = u16::from_be_bytes([l3[6], l3[7]]);
            assert_eq!(net::checksum::of(&l3[..20]), 0, "wrong header checksum");
            let ident = u32::from(u16::from_be_bytes([l3[4], l3[5]]));
            (
                20,
                ident,
                usize::from(field & 0x1fff) * 8,
                field & 0x2000 != 0,
                None,
            )
        } else {
            let (mut kind, mut at) = (l3[6], 40);
            while kind != 44 {
                kind = l3[at];
                at += 8;
            }
            let field = u16::from_be_bytes([l3[at + 2], l3[at + 3]]);
            let ident = u32::from_be_bytes(l3[at + 4..at + 8].try_into().unwrap());
            (
                at + 8,
                ident,
                usize::from(field & !7),
                field & 1 != 0,
                Some(l3[at]),
            )
        };
        let end = if v4 {
            usize::from(u16::from_be_bytes([l3[2], l3[3]]))
        } else {
            40 + usize::from(u16::from_be_bytes([l3[4], l3[5]]))
        };
        let payload = &l3[header..end];
        let name = (l3[if v4 { 12..20 } else { 8..40 }].to_vec(), ident);
        let entry = self.open.entry(name.clone()).or_default();
        if place == 0 {
            entry.0 = l3[..header].to_vec();
        }
        let octets = &mut entry.1;
        octets.resize(octets.len().max(place + payload.len()), None);
        for (room, octet) in octets[place..].iter_mut().zip(payload) {
            assert!(room.is_none(), "fragments that left overlap");
            *room = Some(*octet);
        }
        if !more {
            entry.2 = Some(place + payload.len());
        }
        let complete = entry.2 == Some(entry.1.len()) && entry.1.iter().all(Option::is_some);
        if complete {
            let (mut header, octets, _) = self.open.remove(&name).unwrap();
            let octets: Vec<u8> = octets.into_iter().flatten().collect();
            if v4 {
                header[6..8].fill(0);
                let len = u16::try_from(20 + octets.len()).unwrap();
                header[2..4].copy_from_slice(&len.to_be_bytes());
                header[10..12].fill(0);
                let sum = net::checksum::of(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            } else {
                header.truncate(40);
                header[6] = next.unwrap();
                let len = u16::try_from(octets.len()).unwrap();
                header[4..6].copy_from_slice(&len.to_be_bytes());
            }
            self.done.push([header, octets].concat());
        }
    }
}

/// Reads a whole packet; its checksums must be right.
pub fn read(l3: &[u8]) -> (FlowKey, Vec<u8>) {
    let kind = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let mut frame = ethernet(CLIENT, MEMBER, Encap::UNTAGGED, kind, l3);
    let len = frame.len();
    let packet = Packet::new(&mut frame, 0, len, RxMeta::default());
    let layers = Layers::parse(&packet).expect("what is put together is well formed");
    (
        layers.key,
        packet.data()[layers.payload..layers.end].to_vec(),
    )
}

/// Where to cut, in eights.
pub fn cuts(total: usize, at: &[u16]) -> Vec<(usize, usize)> {
    let mut places: Vec<usize> = at
        .iter()
        .map(|at| usize::from(*at) * 8)
        .filter(|at| *at > 0 && *at < total)
        .collect();
    places.extend([0, total]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Orders by random numbers.
pub fn shuffle<T: Clone>(all: &[T], order: &[u32]) -> Vec<T> {
    let mut tagged: Vec<(u32, usize)> = all
        .iter()
        .enumerate()
        .map(|(at, _)| {
            (
                order[at % order.len()].rotate_left(u32::try_from(at % 32).unwrap()),
                at,
            )
        })
        .collect();
    tagged.sort_unstable();
    tagged.iter().map(|(_, at)| all[*at].clone()).collect()
}

pub fn assemble(pieces: &[Vec<u8>]) -> Assembler {
    let mut assembler = Assembler::default();
    for piece in pieces {
        assembler.take(piece);
    }
    assembler
}

/// The datagrams that fragments amount to, of which none may be left.
pub fn whole(pieces: &[Vec<u8>]) -> Vec<(FlowKey, Vec<u8>)> {
    let assembler = assemble(pieces);
    assert!(assembler.open.is_empty(), "not all of it came out");
    assembler.done.iter().map(|whole| read(whole)).collect()
}

pub fn whole_ones(pieces: &[Vec<u8>]) -> Vec<(FlowKey, Vec<u8>)> {
    let done = assemble(pieces).done;
    done.iter().map(|whole| read(whole)).collect()
}
