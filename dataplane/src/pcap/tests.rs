//! Captures in every form there is, damaged ones, and captures of another implementation.

#![allow(clippy::cast_possible_truncation)]

use std::borrow::Cow;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;

use super::*;

const FRAME: [u8; 60] = [0x5a; 60];
const TIME: Duration = Duration::new(1_700_000_000, 123_456_789);

/// All frames, and the error that ended it, if any.
fn read(octets: &[u8]) -> (Vec<Record>, Option<PcapError>) {
    let mut records = Vec::new();
    let mut reader = match Reader::new("test", octets) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(error)),
    };
    let mut record = Record::default();
    loop {
        match reader.next_record(&mut record) {
            Ok(true) => records.push(record.clone()),
            Ok(false) => return (records, None),
            Err(error) => {
                assert!(
                    !reader.next_record(&mut record).unwrap(),
                    "an end is an end"
                );
                return (records, Some(error));
            }
        }
    }
}

fn good(octets: &[u8]) -> Vec<Record> {
    let (records, error) = read(octets);
    assert!(error.is_none(), "{error:?}");
    records
}

fn failed(octets: &[u8]) -> PcapError {
    read(octets).1.expect("an error")
}

fn classic(endianness: Endianness, ts_resolution: TsResolution) -> Vec<u8> {
    let header = PcapHeader {
        endianness,
        ts_resolution,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for step in 0..3 {
        let time = TIME + Duration::from_millis(step);
        writer
            .write_packet(&PcapPacket::new(time, 60, &FRAME))
            .unwrap();
    }
    writer.into_writer()
}

fn ng(
    endianness: Endianness,
    options: Vec<InterfaceDescriptionOption<'static>>,
    ticks: u64,
) -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
    let interface = InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: 0xffff,
        options,
    };
    writer.write_pcapng_block(interface).unwrap();
    let packet = EnhancedPacketBlock {
        interface_id: 0,
        timestamp: Duration::from_nanos(ticks),
        original_len: 60,
        data: Cow::Borrowed(&FRAME),
        options: vec![],
    };
    writer.write_pcapng_block(packet).unwrap();
    writer.into_inner()
}

#[test]
fn pcap_is_read_in_both_byte_orders_and_resolutions() {
    for endianness in [Endianness::Big, Endianness::Little] {
        for (resolution, nanos) in [
            (TsResolution::NanoSecond, 123_456_789),
            (TsResolution::MicroSecond, 123_456_000),
        ] {
            let records = good(&classic(endianness, resolution));
            assert_eq!(records.len(), 3);
            let start = 1_700_000_000_000_000_000 + nanos;
            for (step, record) in (0..).zip(&records) {
                assert_eq!(record.time.as_nanos(), start + step * 1_000_000);
                assert_eq!(record.octets, FRAME);
                assert!(!record.is_cut());
            }
        }
    }
}

#[test]
fn pcapng_is_read_in_both_byte_orders_and_every_resolution() {
    use InterfaceDescriptionOption::{IfTsOffset, IfTsResol};
    for endianness in [Endianness::Big, Endianness::Little] {
        for (options, ticks, nanos) in [
            // Microseconds where nothing is said.
            (vec![], 1_700_000_000_123_456, 1_700_000_000_123_456_000),
            (
                vec![IfTsResol(9)],
                1_700_000_000_123_456_789,
                1_700_000_000_123_456_789,
            ),
            (vec![IfTsResol(0)], 1_700_000_000, 1_700_000_000_000_000_000),
            (
                vec![IfTsResol(3)],
                1_700_000_000_123,
                1_700_000_000_123_000_000,
            ),
            (
                vec![IfTsResol(12)],
                1_700_000_123_456_789_012,
                1_700_000_123_456_789,
            ),
            // Halves, quarters, eighths of a second.
            (vec![IfTsResol(0x80 | 3)], 8 * 7 + 3, 7_375_000_000),
            (vec![IfTsResol(9), IfTsOffset(5)], 1, 5_000_000_001),
            (
                vec![IfTsResol(9), IfTsOffset((-5_i64).cast_unsigned())],
                1,
                0,
            ),
            // Absurd, but no reason to fail.
            (vec![IfTsResol(127)], u64::MAX, 0),
            (vec![IfTsResol(0xff)], u64::MAX, 0),
            (vec![IfTsResol(0)], u64::MAX, u64::MAX),
        ] {
            let records = good(&ng(endianness, options.clone(), ticks));
            let times: Vec<u64> = records.iter().map(|r| r.time.as_nanos()).collect();
            assert_eq!(times, [nanos], "{options:?}");
            assert_eq!(records[0].octets, FRAME);
        }
    }
}

#[test]
fn a_second_section_has_its_own_byte_order_and_interfaces() {
    let mut octets = ng(Endianness::Big, vec![], 1);
    octets.extend(ng(
        Endianness::Little,
        vec![InterfaceDescriptionOption::IfTsResol(9)],
        2,
    ));
    let times: Vec<u64> = good(&octets).iter().map(|r| r.time.as_nanos()).collect();
    assert_eq!(times, [1000, 2]);
}

/// A little-endian block.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let len = (padded.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, &padded, &len].concat()
}

/// A section header, and an Ethernet interface with these options.
fn section(link_type: u16, options: &[u8]) -> Vec<u8> {
    let header = [
        &0x1a2b_3c4d_u32.to_le_bytes()[..],
        &[1, 0, 0, 0],
        &[0xff; 8],
    ]
    .concat();
    let interface = [&link_type.to_le_bytes()[..], &[0, 0, 0, 0, 1, 0], options].concat();
    [block(0x0a0d_0d0a, &header), block(1, &interface)].concat()
}

fn words(words: &[u32], octets: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    body.extend_from_slice(octets);
    body
}

#[test]
fn blocks_that_do_not_matter_are_passed_over_and_options_may_lack_their_end() {
    // Options: a comment that is not UTF-8, a resolution of nanoseconds, no end of options.
    let options = [1, 0, 1, 0, 0xe9, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0];
    let mut octets = section(1, &options);
    octets.extend(block(5, &[1; 32]));
    octets.extend(block(0x0bad_cafe, &[]));
    octets.extend(block(6, &words(&[0, 0, 77, 60, 60], &FRAME)));
    let records = good(&octets);
    assert_eq!((records.len(), records[0].time.as_nanos()), (1, 77));
}

#[test]
fn simple_and_obsolete_packet_blocks_are_read() {
    let mut octets = section(1, &[]);
    // Interface 0, 3 drops; then one without a time of its own, cut at the 65,536 of the interface.
    octets.extend(block(2, &words(&[0x0003_0000, 0, 5, 60, 60], &FRAME)));
    octets.extend(block(3, &words(&[60], &FRAME)));
    let records = good(&octets);
    let times: Vec<u64> = records.iter().map(|r| r.time.as_nanos()).collect();
    assert_eq!(times, [5000, 5000]);
    assert!(records.iter().all(|r| r.octets == FRAME && !r.is_cut()));
}

#[test]
fn frames_that_the_capture_cut_are_told_from_whole_ones_and_the_fcs_is_taken_off() {
    let header = |link: u32| {
        let mut octets = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        octets.extend_from_slice(&words(&[0x0004_0002, 0, 0, 65_535, link], &[]));
        octets
    };
    let frame = |kept: u32, on_wire: u32| words(&[1, 2, kept, on_wire], &FRAME[..kept as usize]);
    let records = good(&[header(1), frame(40, 60), frame(60, 60), frame(60, 0)].concat());
    let cut: Vec<(usize, bool)> = records
        .iter()
        .map(|r| (r.octets.len(), r.is_cut()))
        .collect();
    assert_eq!(cut, [(40, true), (60, false), (60, false)]);
    // Bit 26: two words of FCS behind each frame.
    let with_fcs = header(0x2400_0001);
    let records = good(&[with_fcs, frame(60, 60), frame(58, 60), frame(50, 60)].concat());
    let cut: Vec<(usize, bool)> = records
        .iter()
        .map(|r| (r.octets.len(), r.is_cut()))
        .collect();
    assert_eq!(cut, [(56, false), (56, false), (50, true)]);
}

#[test]
fn what_comes_before_a_damage_is_good_and_the_error_says_where_and_what() {
    let octets = classic(Endianness::Little, TsResolution::MicroSecond);
    for end in 25..octets.len() {
        let (records, error) = read(&octets[..end]);
        let whole = (end - 24) / 76;
        assert_eq!(records.len(), whole);
        assert_eq!(error.is_some(), !(end - 24).is_multiple_of(76));
        if let Some(error) = error {
            assert_eq!(error.offset, 24 + 76 * whole as u64);
            assert!(matches!(error.cause, Cause::Truncated { .. }), "{error}");
        }
    }
    let error = failed(&octets[..octets.len() - 10]);
    assert_eq!(
        error.to_string(),
        "test: octet 176: the file ends 10 octets too early"
    );
    let octets = ng(Endianness::Little, vec![], 1);
    for end in 0..octets.len() {
        let (records, error) = read(&octets[..end]);
        assert_eq!(records.len(), 0);
        // A file may end between blocks.
        assert!(error.is_some() || [28, 48].contains(&end), "{end}");
    }
}

#[test]
fn each_damage_has_its_own_words() {
    let frame = |kept: u32| {
        let mut octets = classic(Endianness::Little, TsResolution::MicroSecond);
        octets[32..36].copy_from_slice(&kept.to_le_bytes());
        octets
    };
    let mut other_link = classic(Endianness::Big, TsResolution::NanoSecond);
    other_link[23] = 113;
    let ng = section(1, &[]);
    let with = |more: Vec<u8>| [ng.clone(), more].concat();
    let mut two_lengths = with(block(6, &words(&[0, 0, 0, 60, 60], &FRAME)));
    *two_lengths.last_mut().unwrap() = 1;
    for (octets, words) in [
        (b"".to_vec(), "neither a pcap nor a pcapng"),
        (
            b"PK\x03\x04 and so on".to_vec(),
            "neither a pcap nor a pcapng",
        ),
        (frame(0xffff_ffff), "longer than any capture"),
        (frame(300_000), "longer than any capture"),
        (other_link, "link type 113, but only Ethernet (1)"),
        (
            [
                section(228, &[]),
                block(6, &words(&[0, 0, 0, 60, 60], &FRAME)),
            ]
            .concat(),
            "link type 228",
        ),
        (
            with(block(6, &words(&[1, 0, 0, 60, 60], &FRAME))),
            "not described",
        ),
        (
            with(block(6, &words(&[0, 0, 0, 61, 61], &FRAME))),
            "longer than its block",
        ),
        (with(block(6, &words(&[0, 0], &[]))), "too short"),
        (with(block(3, &[])), "too short"),
        (with(block(1, &[1, 0])), "too short"),
        (with(vec![6, 0, 0, 0, 13, 0, 0, 0]), "impossible length"),
        (with(vec![6, 0, 0, 0, 0, 0, 0, 0]), "impossible length"),
        (
            with(vec![6, 0, 0, 0, 0, 0, 0, 0x40]),
            "longer than any frame",
        ),
        (with(vec![9, 0, 0, 0, 0, 0, 0, 0x40]), "too early"),
        (
            section(1, &[9, 0, 200, 0, 9, 0, 0, 0]),
            "longer than its block",
        ),
        (two_lengths, "two lengths differ"),
        (
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\0\0\0\0".to_vec(),
            "byte-order magic",
        ),
    ] {
        let error = failed(&octets).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn an_interface_of_another_link_type_is_no_reason_to_refuse_the_others() {
    let mut octets = section(228, &[]);
    octets.extend(block(1, &[1, 0, 0, 0, 0, 0, 1, 0]));
    octets.extend(block(6, &words(&[1, 0, 9, 60, 60], &FRAME)));
    assert_eq!(good(&octets).len(), 1);
}

#[test]
fn what_is_written_is_read_by_another_implementation() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer
        .write(Timestamp::from_nanos(1_700_000_000_123_456_789), &FRAME)
        .unwrap();
    writer.write(Timestamp::from_nanos(u64::MAX), &[]).unwrap();
    assert_eq!((writer.frames(), writer.octets()), (2, 60));
    let octets = writer.finish().unwrap();
    let mut reader = PcapReader::new(&octets[..]).unwrap();
    assert_eq!(reader.header().datalink, DataLink::ETHERNET);
    let packet = reader.next_packet().unwrap().unwrap();
    assert_eq!((packet.timestamp, &*packet.data), (TIME, &FRAME[..]));
    let packet = reader.next_packet().unwrap().unwrap();
    assert_eq!(packet.timestamp.as_secs(), u64::from(u32::MAX));
    assert!(reader.next_packet().is_none());
}

proptest! {
    #[test]
    fn no_octets_make_the_reader_panic_or_go_on_for_ever(
        mut octets in prop::collection::vec(any::<u8>(), 0..400),
        form in 0..4_usize,
    ) {
        let start: Vec<u8> = match form {
            0 => vec![],
            1 => classic(Endianness::Little, TsResolution::NanoSecond),
            2 => ng(Endianness::Big, vec![], 5),
            _ => section(1, &[]),
        };
        octets.splice(0..0, start);
        let (records, _) = read(&octets);
        prop_assert!(records.len() <= octets.len() / 16 + 1);
    }

    #[test]
    fn a_changed_octet_is_survived(at in 0..200_usize, to in any::<u8>(), little in any::<bool>()) {
        let order = if little { Endianness::Little } else { Endianness::Big };
        for mut octets in [classic(order, TsResolution::MicroSecond), ng(order, vec![], 5)] {
            let at = at % octets.len();
            octets[at] = to;
            let _ = read(&octets);
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        frames in prop::collection::vec(
            (0..4_000_000_000_000_000_000_u64, prop::collection::vec(any::<u8>(), 0..200)),
            0..20,
        ),
    ) {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (time, octets) in &frames {
            writer.write(Timestamp::from_nanos(*time), octets).unwrap();
        }
        let records = good(&writer.finish().unwrap());
        let read: Vec<(u64, Vec<u8>)> =
            records.into_iter().map(|r| (r.time.as_nanos(), r.octets)).collect();
        prop_assert_eq!(read, frames);
    }
}
