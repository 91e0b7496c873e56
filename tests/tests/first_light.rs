//! The main job in memory: a client's connection through a virtual server to a pool member.
#![allow(clippy::unwrap_used)] // its helpers are part of the tests

use dataplane::memory::MemoryFrame;
use dataplane::rig::{Rig, RigConfig, port_mac};
use net::emit::{TcpFields, ethernet, tcp};
use net::header::tcp_flags::{ACK, SYN};
use net::{Addr, Encap, FlowKey, IpProto, L4Port, Layers, MacAddr, PortId, Timestamp, VlanId};
use serde_json::{Value, json};

const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn objects(snat: &str) -> Vec<Value> {
    vec![
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKVlan","metadata":{"name":"external"},
            "spec":{"name":"external","tag":100,"interfaces":["1.1"],"selfip_v4s":["192.0.2.1"],"prefixlen_v4":24}}),
        json!({"apiVersion":"k8s.f5net.com/v1","kind":"F5SPKVlan","metadata":{"name":"internal"},
            "spec":{"name":"internal","tag":200,"interfaces":["1.2"],"internal":true,"selfip_v4s":["198.51.100.1"],"prefixlen_v4":24}}),
        json!({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"name":"http","port":80}]}}),
        json!({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-1","labels":{"kubernetes.io/service-name":"web"}},
            "addressType":"IPv4","ports":[{"name":"http","port":8080}],
            "endpoints":[{"addresses":["198.51.100.11"],"conditions":{"ready":true}}]}),
        json!({"apiVersion":"ingresstcp.k8s.f5net.com/v1","kind":"F5SPKIngressTCP","metadata":{"name":"web"},
            "service":{"name":"web","port":80},
            "spec":{"destinationAddress":"203.0.113.10","destinationPort":80,"snat":snat}}),
    ]
}

fn vid(v: u16) -> Encap {
    Encap::tagged(VlanId::new(v).unwrap())
}

fn v4(a: [u8; 4]) -> Addr {
    Addr::from_v4(a)
}

#[test]
fn a_connection_reaches_a_member_and_its_reply_the_client() {
    for snat in ["SRC_TRANS_NONE", "SRC_TRANS_AUTOMAP"] {
        let mut rig = Rig::new(&RigConfig::default());
        rig.apply(&objects(snat)).unwrap();
        let mut now = Timestamp::from_secs(1);
        rig.advance(now);
        for state in rig.states() {
            assert_eq!(state.reason(), "Programmed", "{state:?}");
        }
        for port in [0, 1] {
            while rig.receive(PortId(port)).is_some() {}
        }
        let key = FlowKey::new(
            v4([192, 0, 2, 7]),
            v4([203, 0, 113, 10]),
            L4Port(40000),
            L4Port(80),
            IpProto::TCP,
        );
        let syn = tcp(
            &key,
            TcpFields {
                seq: 100,
                flags: SYN,
                window: 1000,
                ..TcpFields::default()
            },
            &[],
        );
        rig.send(
            PortId(0),
            MemoryFrame::new(&ethernet(
                port_mac(PortId(0)),
                CLIENT,
                vid(100),
                0x0800,
                &syn,
            )),
        );
        rig.advance(now);
        // The member's MAC address is not known yet: an ARP request first.
        let arp = rig.receive(PortId(1)).expect("an ARP request");
        assert_eq!(&arp.octets()[12..18], &[0x81, 0, 0, 200, 0x08, 0x06]);
        let mut reply = ethernet(
            port_mac(PortId(1)),
            SERVER,
            vid(200),
            0x0806,
            &arp.octets()[18..46],
        );
        reply[18 + 7] = 2;
        reply[18 + 8..18 + 14].copy_from_slice(&SERVER.0);
        reply[18 + 14..18 + 18].copy_from_slice(&[198, 51, 100, 11]);
        reply[18 + 18..18 + 24].copy_from_slice(&port_mac(PortId(1)).0);
        reply[18 + 24..18 + 28].copy_from_slice(&[198, 51, 100, 1]);
        rig.send(PortId(1), MemoryFrame::new(&reply));
        now = now + std::time::Duration::from_millis(1);
        rig.advance(now);
        let mut out = rig
            .receive(PortId(1))
            .unwrap_or_else(|| panic!("the SYN: {:#?}", rig.control().counters()));
        let packet = dataplane::port::Frame::packet(&mut out);
        let layers = Layers::parse(&packet).unwrap();
        assert_eq!(layers.encap, vid(200));
        assert_eq!(
            net::emit::macs(packet.data()),
            (port_mac(PortId(1)), SERVER)
        );
        assert_eq!(layers.key.dst, v4([198, 51, 100, 11]));
        assert_eq!(layers.key.dport(), L4Port(8080));
        let source = if snat == "SRC_TRANS_NONE" {
            [192, 0, 2, 7]
        } else {
            [198, 51, 100, 1]
        };
        assert_eq!(layers.key.src, v4(source));
        assert_eq!(layers.ttl, 63);
        // And back.
        let answer = tcp(
            &layers.key.inverted(),
            TcpFields {
                seq: 500,
                ack: 101,
                flags: SYN | ACK,
                window: 1000,
            },
            &[],
        );
        rig.send(
            PortId(1),
            MemoryFrame::new(&ethernet(
                port_mac(PortId(1)),
                SERVER,
                vid(200),
                0x0800,
                &answer,
            )),
        );
        rig.advance(now);
        let mut back = rig
            .receive(PortId(0))
            .unwrap_or_else(|| panic!("the SYN-ACK: {:#?}", rig.control().counters()));
        let packet = dataplane::port::Frame::packet(&mut back);
        let layers = Layers::parse(&packet).unwrap();
        assert_eq!((layers.encap, layers.key), (vid(100), key.inverted()));
        assert_eq!(
            net::emit::macs(packet.data()),
            (port_mac(PortId(0)), CLIENT)
        );
    }
}
