//! A port of the pipeline on a real DPDK queue pair, with captures for a wire.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helpers of tests are not tests to the lint

use dataplane::dpdk_port::DpdkPort;
use dataplane::port::{Burst, Frame, Port};
use dpdk::{Eal, EalConfig, EthPort, HugePages, Mempool, MempoolConfig, PortConfig, VdevOptions};
use pcap_file::pcap::{PcapPacket, PcapWriter};

fn capture(path: &std::path::Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(std::fs::File::create(path).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        let packet = PcapPacket::new(std::time::Duration::ZERO, len, frame);
        writer.write_packet(&packet).unwrap();
    }
}

#[test]
fn a_frame_in_more_segments_than_one_buffer_holds_is_dropped_counted_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.pcap");
    // The middle one takes two buffers and does not fit into one.
    capture(&input, &[vec![1; 60], vec![2; 4000], vec![3; 1514]]);
    let eal = Eal::init(&EalConfig {
        program: "dataplane-test".into(),
        hugepages: HugePages::Never,
        memory_mib: Some(64),
        ..EalConfig::default()
    })
    .unwrap();
    let pool = Mempool::new(&eal, &MempoolConfig::new("port", 1023)).unwrap();
    let spec = format!("pcap:{},", input.display()).parse().unwrap();
    let device = eal.attach(&spec, &VdevOptions::default()).unwrap();
    let mut device = EthPort::configure(device, &PortConfig::default(), &pool).unwrap();
    device.start().unwrap();
    let (mut rx, mut tx) = device.split().unwrap();
    let mut port = DpdkPort::new(rx.pop().unwrap(), tx.pop().unwrap(), pool.clone());
    let counters = port.counters();

    let mut frames = Burst::new();
    for _ in 0..3 {
        port.rx_burst(&mut frames);
    }
    let got: Vec<_> = frames
        .iter_mut()
        .map(|frame| (frame.packet().data()[0], frame.packet().len()))
        .collect();
    assert_eq!(got, [(1, 60), (3, 1514)]);
    assert_eq!(counters.rx_segmented_packets.get(), 1);
    port.tx_burst(&mut frames);
    assert_eq!(counters.tx_rejected_packets.get(), 0);
    drop((frames, port, device));
    assert_eq!(pool.in_use(), 0);
}
