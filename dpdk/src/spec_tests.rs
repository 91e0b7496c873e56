use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<PortSpec, SpecError> {
    text.parse()
}

#[test]
fn every_documented_form_is_read_and_written_back() {
    for text in [
        "af_packet:eth1",
        "af_xdp:eth1.100",
        "tap:tmm0",
        "memif:/run/a.sock,role=server",
        "memif:/run/a.sock,role=client,id=3",
        "memif:/run/a.sock,role=client,queues=4",
        "memif:/run/a.sock,role=server,id=1,queues=64",
        "pcap:in.pcap,out.pcap",
        "pcap:,out.pcap",
        "pcap:in.pcap,",
        "ring:a-b.c",
        "null",
        "pci:0000:3b:02.0",
        "net_null0",
        "net_pcap0,rx_pcap=a.pcap,infinite_rx=1",
        "virtio_user0,path=/dev/vhost-net",
    ] {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
    assert_eq!(
        parse("memif:/a").unwrap().to_string(),
        "memif:/a,role=client"
    );
    assert_eq!(parse("pcap:in.pcap").unwrap().to_string(), "pcap:in.pcap,");
    assert_eq!(
        parse("pci:3b:02.0").unwrap().to_string(),
        "pci:0000:3b:02.0"
    );
}

#[test]
fn wrong_specifications_say_what_was_expected() {
    for (text, part) in [
        ("", "expected af_packet:IFACE"),
        ("eth0", "expected af_packet:IFACE"),
        ("null:x", "is no port"),
        ("net_", "is no port"),
        ("net_null0 --log-level=8", "is no port"),
        ("af_packet:", "is no interface name"),
        ("af_packet:a,qpairs=9", "is no interface name"),
        ("tap:a_name_that_is_too_long", "1 to 15 bytes"),
        ("memif:relative", "absolute path"),
        ("memif:/a,role=master", "role=server"),
        ("memif:/a,id=x", "id=NUMBER"),
        ("memif:/a,queues=0", "queues=1 to 64"),
        ("memif:/a,queues=65", "queues=1 to 64"),
        ("pcap:", "a file to read"),
        ("pcap:a,b,c", "two files"),
        ("ring:", "is no name"),
        ("ring:a/b", "is no name"),
        ("pci:eth0", "is no PCI address"),
        ("pci:0000:3b:02.8", "is no PCI address"),
        ("pci:0000:3b:20.0", "is no PCI address"),
        ("pci:0000:+b:02.0", "is no PCI address"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn a_packet_ring_holds_whole_frames_in_whole_pages() {
    for mtu in [68, 1500, 1986, 2000, 9000, 9216, u16::MAX] {
        let ring = PacketRing::for_mtu(mtu);
        assert!(ring.frame >= u32::from(mtu) + 22 + 66, "{mtu}");
        assert_eq!(ring.block % 4096, 0, "{mtu}");
        assert_eq!(ring.block % ring.frame, 0, "{mtu}");
        for descriptors in [1, 64, 100, 1024, 8191] {
            let frames = PacketRing::frames(descriptors);
            assert_eq!(frames % (ring.block / ring.frame), 0, "{mtu} {descriptors}");
        }
    }
}

#[test]
fn an_mbuf_of_the_recommended_size_holds_every_frame_of_the_mtu() {
    for spec in ["null", "af_packet:a"] {
        for mtu in [68, 1500, 2026, 2027, 9000] {
            let room = parse(spec).unwrap().data_room(mtu);
            assert!(room >= 2048 && room >= mtu + 22, "{spec} {mtu}: {room}");
        }
    }
    assert_eq!(parse("null").unwrap().data_room(1500), 2048);
    assert_eq!(parse("af_packet:a").unwrap().data_room(1500), 2048);
}

#[test]
fn vdevs_carry_the_arguments_their_drivers_need() {
    let options = VdevOptions {
        mtu: 1500,
        queues: 2,
        ..VdevOptions::default()
    };
    let vdev = |text: &str| parse(text).unwrap().to_vdev(7, &options);
    assert_eq!(
        vdev("af_packet:eth1").unwrap(),
        "net_af_packet7,iface=eth1,qpairs=2,framesz=2048,blocksz=4096,framecnt=1024,qdisc_bypass=1"
    );
    assert_eq!(vdev("pcap:,o").unwrap(), "net_pcap7,tx_pcap=o");
    assert_eq!(vdev("net_ring5,x=1").unwrap(), "net_ring5,x=1");
    assert_eq!(vdev("pci:3b:02.0"), None);
}

proptest! {
    #[test]
    fn parsing_never_panics_and_display_is_read_back(text in "\\PC{0,40}") {
        if let Ok(spec) = parse(&text) {
            prop_assert_eq!(parse(&spec.to_string()).unwrap(), spec);
        }
    }

    #[test]
    fn pci_addresses_survive_a_round_trip(domain: u32, bus: u8, device in 0_u8..32, function in 0_u8..8) {
        let address = PciAddress { domain, bus, device, function };
        prop_assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
    }
}
