//! Liveness: workers that stand still, and those that only seem to.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use dataplane::control::health::{Check, Probe};
use dataplane::rig::{Rig, RigConfig};
use net::Timestamp;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

fn live(rig: &Rig, now: Timestamp) -> Vec<bool> {
    let checks = rig.control().health(now);
    let live = checks.iter().filter(|check| check.probe == Probe::Live);
    live.map(|check| check.ok).collect()
}

#[test]
fn a_worker_that_stands_still_is_not_live_and_lives_again_when_it_turns() {
    let mut rig = Rig::new(&RigConfig {
        workers: 2,
        ..RigConfig::default()
    });
    for millis in (0..4_000).step_by(50) {
        rig.turn(0, at(millis));
        rig.control_mut().poll(at(millis));
    }
    assert_eq!(live(&rig, at(4_000)), [true, true]);
    for millis in (4_000..6_500).step_by(50) {
        rig.turn(0, at(millis));
        rig.control_mut().poll(at(millis));
    }
    assert_eq!(live(&rig, at(6_500)), [true, false]);
    let checks = rig.control().health(at(6_500));
    let stuck: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    assert_eq!(stuck[0].check, "worker 1");
    assert_eq!(stuck[0].reason, "Stuck");
    assert!(stuck[0].message.contains("to be started anew"));
    rig.turn(1, at(6_600));
    rig.control_mut().poll(at(6_700));
    assert_eq!(live(&rig, at(6_700)), [true, true]);
}

#[test]
fn a_worker_that_turns_four_times_a_second_is_live() {
    let mut rig = Rig::new(&RigConfig::default());
    for millis in (0..20_000).step_by(10) {
        if millis % 250 == 0 {
            rig.turn(0, at(millis));
        }
        rig.control_mut().poll(at(millis));
        assert_eq!(live(&rig, at(millis)), [true], "at {millis} ms");
    }
}

#[test]
fn nobody_is_to_blame_for_time_in_which_the_whole_process_stood_still() {
    let mut rig = Rig::new(&RigConfig::default());
    rig.turn(0, at(0));
    rig.control_mut().poll(at(0));
    // Suspended for an hour, and the control thread is the first to run again.
    rig.control_mut().poll(at(3_600_000));
    rig.control_mut().poll(at(3_600_200));
    assert_eq!(live(&rig, at(3_600_200)), [true]);
}

#[test]
fn workers_that_keep_to_an_old_configuration_are_not_ready() {
    let mut rig = Rig::new(&RigConfig::default());
    rig.advance(at(0));
    let vlan = serde_json::json!({
        "apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": {"name": "a"},
        "spec": {"name": "a", "interfaces": ["1.1"], "selfip_v4s": ["192.0.2.1"], "prefixlen_v4": 24},
    });
    rig.apply(&[vlan]).unwrap();
    let reasons = |rig: &Rig, now| -> Vec<&str> {
        let wrong = rig.control().health(now).into_iter().filter(|c| !c.ok);
        wrong.map(|check| check.reason).collect()
    };
    for millis in (0..4_000).step_by(50) {
        // The worker does not get to it.
        rig.control_mut().poll(at(millis));
    }
    assert_eq!(reasons(&rig, at(4_000)), ["Behind"]);
    rig.advance(at(4_000));
    rig.control_mut().poll(at(4_100));
    assert!(reasons(&rig, at(4_100)).is_empty());
}

#[test]
fn a_drain_ends_when_all_workers_have_counted_no_flow_or_time_is_up() {
    use dataplane::control::drain::Drained;
    let mut rig = Rig::new(&RigConfig {
        workers: 3,
        ..RigConfig::default()
    });
    rig.advance(at(0));
    assert_eq!(rig.control_mut().drained(at(0)), None);
    rig.control_mut()
        .start_drain(Duration::from_secs(10), at(0));
    let not_counted = Some(Drained::NotYet { flows_left: None });
    assert_eq!(rig.control_mut().drained(at(1)), not_counted);
    rig.control_mut().poll(at(1));
    // Two of three: not all have said that they take no new flows.
    for worker in [0, 1] {
        rig.turn(worker, at(2));
    }
    assert_eq!(rig.control_mut().drained(at(2)), not_counted);
    rig.turn(2, at(3));
    assert_eq!(rig.control_mut().drained(at(3)), not_counted);
    for worker in [0, 1] {
        rig.turn(worker, at(4));
    }
    assert_eq!(rig.control_mut().drained(at(4)), not_counted);
    // The third stands still for good.
    let up = Some(Drained::TimeIsUp { flows_left: None });
    assert_eq!(rig.control_mut().drained(at(10_000)), up);
    rig.turn(2, at(10_001));
    assert_eq!(rig.control_mut().drained(at(10_001)), Some(Drained::Empty));
}
