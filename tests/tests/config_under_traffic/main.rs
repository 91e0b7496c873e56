//! Configuration under traffic: whatever is created, changed, deleted and created anew, in whatever order, while
//! connections are open.
//!
//! What must hold, after each configuration that is taken up, for each flow whose packets come:
//!
//! - **An unchanged flow goes on**: to the same member, from the same source address and port, without a reset; its
//!   fragments, and errors about it, arrive as well. A flow
//!   is unchanged as long as, in every configuration since it was opened,
//!   its virtual server is there (the same object of the same protocol; its other fields may change) and has not lost
//!   its destination to an older one (which its state says),
//!   its member is an endpoint of its Service that is ready or terminating and serves on, or any endpoint if
//!   `serviceDownAction` is `NONE`
//!   (with `NONE`, the member may go altogether, but of datagrams: the flow is left to its ends),
//!   the VLANs of its client and of its member have the tags that they had and the ports that its frames come by
//!   (another link may join them in a LAG),
//!   and an address that its source was translated to is a self IP or in the SNAT pool still;
//!   of a flow out of the cluster, which has no member, the VLAN it began on is an internal one, and the egress is
//!   for its family.
//!   A flow of `datagramLoadBalancing` has a member for each datagram, so nothing is said of it; nor of one that was
//!   opened while the timeout was short. One that was opened before keeps its timeout.
//! - **No other flow goes astray**: a segment in the middle of a connection reaches the member that it belongs to, or is
//!   refused, or is dropped. It never reaches another member.
//! - **Whoever is to go takes nothing new**: a flow that is opened has a member that is ready now.
//! - **A mapping stays as it is**: a client's port is the same towards everybody as long as a flow of it lives and the
//!   egress translates to its address, it is nobody else's, and strangers are let in by it only while the egress says so.
//! - **Clients see each other as others see them**: what one sends to another's port comes from where it is translated to,
//!   never from itself, and answers come back.
#![allow(clippy::unwrap_used, clippy::panic)]

mod flows;
mod history;
mod mappings;
mod objects;
mod protocols;
mod world;

use flows::ASKED;
use history::{History, Step, step};
use objects::place;
use proptest::prelude::*;

/// How many histories; `HISTORIES=5000` plays more.
fn histories() -> u32 {
    std::env::var("HISTORIES").map_or(200, |many| many.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flow_of_an_unchanged_virtual_server_and_member_is_ever_touched(
        workers in prop_oneof![2 => Just(1), 1 => Just(2), 2 => Just(4)],
        nic in prop::sample::select(vec!["tuple", "source", "destination", "turns", "one-queue"]),
        straight in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut history = History::new(workers, nic, straight);
        for step in &steps {
            history.step(step);
        }
        history.talk();
    }
}

/// An object becomes another way.
fn becomes(name: &str, way: usize) -> Step {
    Step::Configure(vec![(place(name), way)])
}

#[test]
fn a_flow_of_a_mapping_goes_on_when_its_egress_maps_no_longer_whichever_worker_has_it() {
    for nic in ["tuple", "source", "destination", "turns", "one-queue"] {
        for way in [0, 1, 5] {
            let mut history = History::new(4, nic, true);
            history.step(&becomes("F5SPKEgress away", 2));
            for (asked, port) in (7..18).flat_map(|asked| [(asked, 1), (asked, 2)]) {
                history.step(&Step::Open(asked, port));
            }
            history.step(&becomes("F5SPKEgress away", way));
            assert!(history.flows.values().all(|flow| flow.unchanged));
            history.step(&Step::Talk);
            assert!(!history.flows.is_empty());
        }
    }
}

#[test]
fn clients_reach_each_other_by_their_mappings_whichever_workers_have_them() {
    for nic in ["tuple", "source", "destination", "turns", "one-queue"] {
        let mut history = History::new(4, nic, true);
        history.step(&becomes("F5SPKEgress away", 3));
        for (asked, port) in (10..17).flat_map(|asked| [(asked, 1), (asked, 2), (asked, 3)]) {
            history.step(&Step::Open(asked, port));
        }
        for round in [0, 1] {
            let turned: usize = (0..225).map(|which| history.hairpin(which)).sum();
            assert!(turned >= 200, "{nic} {turned}");
            // An address more, and filtering: what goes on, goes on.
            history.step(&becomes("F5SPKSnatpool pool", 1 - round));
            history.step(&becomes("F5SPKEgress away", 2));
            history.step(&Step::Talk);
            history.step(&becomes("F5SPKEgress away", 3));
        }
        assert!(history.flows.values().all(|flow| flow.unchanged));
    }
}

/// The property must have something to say: flows are opened, go on, and are touched.
#[test]
fn histories_have_flows_of_all_sorts() {
    let mut history = History::new(1, "tuple", true);
    for asked in 0..ASKED.len() {
        history.step(&Step::Open(asked, 1));
    }
    assert_eq!(history.flows.len(), ASKED.len(), "{:?}", history.story);
    history.step(&Step::Talk);
    // Fields of virtual servers change, members, VLANs, pools and timeouts: all go on.
    let changes = [
        ("F5SPKIngressTCP web", 1),
        ("F5SPKIngressTCP auto", 1),
        ("F5SPKIngressUDP dns", 5),
        ("F5SPKIngressNGAP amf", 2),
        ("F5SPKIngressDiameter hss", 1),
        ("F5SPKEgress away", 3),
        ("EndpointSlice web", 4),
        ("EndpointSlice web:80/1", 2),
        ("EndpointSlice web:38412", 3),
        ("F5SPKVlan external", 3),
        ("F5SPKVlan other", 2),
        ("F5SPKStaticRoute far", 1),
        ("F5SPKSnatpool pool", 1),
        ("F5SPKSnatpool elsewhere", 1),
    ];
    let changes = changes.map(|(name, way)| (place(name), way)).to_vec();
    history.step(&Step::Configure(changes));
    history.step(&Step::Wait(19));
    assert!(history.flows.values().all(|flow| flow.unchanged));
    history.step(&Step::Talk);
    // A virtual server goes, and comes back: its flow is touched, and no other.
    history.step(&becomes("F5SPKIngressTCP auto", 9));
    history.step(&becomes("F5SPKIngressTCP auto", 0));
    let touched: Vec<_> = history
        .flows
        .iter()
        .filter(|(_, flow)| !flow.unchanged)
        .collect();
    assert_eq!(touched.len(), 1, "{touched:?}");
    history.step(&Step::Talk);
    assert_eq!(history.flows.len(), ASKED.len() - 1);
    // Deleted and created anew before it was taken up.
    for name in [
        "F5SPKIngressTCP web",
        "EndpointSlice web",
        "F5SPKSnatpool pool",
        "F5SPKEgress away",
    ] {
        history.step(&Step::Recreate(place(name)));
    }
    history.step(&Step::Resync);
    assert!(history.flows.values().all(|flow| flow.unchanged));
    history.step(&Step::Talk);
    // Flows out of the cluster that are opened now are of mappings, by which strangers come.
    for asked in 7..ASKED.len() {
        history.step(&Step::Open(asked, 2));
    }
    let mapped = history.flows.values().filter(|flow| flow.mapped).count();
    assert_eq!(mapped, 11);
    for which in 0..mapped {
        history.step(&Step::Stranger(which));
    }
    // And by which they reach each other.
    history.step(&becomes("F5SPKEgress away", 3));
    let turned: usize = (0..100).map(|which| history.hairpin(which)).sum();
    assert!(turned >= 50, "{turned}");
    history.step(&Step::Talk);
}
