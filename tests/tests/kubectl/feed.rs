//! What kubectl prints goes through `tmmctl feed`.

use tests::lab::resources::{self, VIP};

use crate::api::{KINDS, Kind};
use crate::site::Site;

/// What kubectl is started with for a kind, `$0`.
const WATCH: &str = "exec kubectl get $0 -A --watch --output-watch-events -o json";
const LIST_AND_WATCH: &str = "kubectl get $0 -A -o json && \
    exec kubectl get $0 -A --watch --output-watch-events -o json";

/// Objects of a whole site.
pub const ALL: usize = 9;

#[test]
fn a_kubectl_watch_of_each_kind_is_a_working_controller() {
    let site = Site::start();
    let feeds = site.feed_all(WATCH, &[]);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    assert_eq!(site.show("virtual-servers").len(), 6);
    for address in VIP {
        assert_eq!(site.members_up(address, 80), Some(3));
    }
    site.eventually("every kind is watched", Site::watches_all);

    let [service, slice, _] = resources::service([true, false, false]);
    site.api.put(&slice);
    site.eventually("two members of a family go down", |site| {
        site.members_up(VIP[0], 80) == Some(1)
    });
    assert_eq!(site.members_up(VIP[1], 80), Some(3));

    site.api.delete("Service", "web");
    let pending = ("Pending".to_owned(), "ServiceNotFound".to_owned());
    site.eventually("the virtual servers wait for their Service", |site| {
        ["http", "iperf", "echo"]
            .iter()
            .all(|name| site.state(name) == pending)
    });
    assert_ne!(site.members_up(VIP[0], 80), Some(1), "nothing listens");
    site.api.put(&service);
    site.eventually("they are back with it", |site| site.is_programmed(ALL));

    let mut wrong = resources::vlans(false, None)[1].clone();
    wrong["spec"]["tag"] = 5000.into();
    site.api.put(&wrong);
    let other = resources::virtual_server(
        "other",
        80,
        ["203.0.113.77", "2001:db8:ffff::77"],
        "SRC_TRANS_NONE",
        60,
    );
    site.api.put(&other);
    site.eventually(
        "what is right is carried out beside what is wrong",
        |site| site.members_up("203.0.113.77", 80) == Some(1),
    );
    for (feed, kind) in feeds.into_iter().zip(&KINDS) {
        let ran = feed.kill();
        let refused = kind.name == "F5SPKVlan";
        assert_eq!(ran.code, u8::from(refused), "{ran:?}");
        assert_eq!(ran.err.contains("spec.tag"), refused, "{ran:?}");
        let lower = kind.name.to_ascii_lowercase();
        // There are objects of some kinds only.
        let has = site.api.has(kind.name);
        assert_eq!(
            ran.out.contains(&format!("{lower}/default/")),
            has,
            "{ran:?}"
        );
    }
    assert_eq!(
        site.show("config").len(),
        ALL + 1,
        "feeders end, what they fed does not"
    );
}

#[test]
fn a_kubectl_that_is_killed_and_comes_back_has_missed_nothing() {
    let site = Site::start();
    let feed = |options: &[&str], script| {
        ["EndpointSlice", "f5-spk-ingresstcp"].map(|kind| site.feed(kind, script, options))
    };
    // Any name that the cluster has a kind by will do.
    for kind in [
        "f5-spk-vlan",
        "F5SPKStaticRoute.v1.k8s.f5net.com",
        "f5-spk-ingressudps",
        "services",
    ] {
        let fed = site.feed(kind, "exec kubectl get $0 -A -o json", &["--complete"]);
        let ran = fed.ended();
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let feeds = feed(&[], WATCH);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    for feed in feeds {
        feed.kill();
    }
    assert!(
        site.is_programmed(ALL),
        "a kubectl that ends removes nothing"
    );

    // While nobody looks, one object changes, one comes and one goes.
    site.api.put(&resources::service([false, false, true])[1]);
    site.api.put(&resources::virtual_server(
        "new",
        80,
        ["203.0.113.77", "2001:db8:ffff::77"],
        "SRC_TRANS_NONE",
        60,
    ));
    site.api.delete("F5SPKIngressTCP", "iperf");
    let feeds = feed(&[], WATCH);
    site.eventually("what has changed and what has come is fed", |site| {
        site.members_up(VIP[0], 80) == Some(1) && site.members_up("203.0.113.77", 80) == Some(1)
    });
    assert_eq!(
        site.members_up(VIP[0], 5201),
        Some(1),
        "a watch alone does not tell what went"
    );
    for feed in feeds {
        feed.kill();
    }

    // A list first tells that as well, and the watch goes on from there.
    let feeds = feed(&["--list-first"], LIST_AND_WATCH);
    site.eventually("what has gone is removed", |site| {
        site.members_up(VIP[0], 5201).is_none() && site.is_programmed(ALL)
    });
    site.eventually("kubectl watches", |site| {
        site.api.watches("F5SPKIngressTCP") == 1 && site.api.watches("EndpointSlice") == 1
    });
    site.api.delete("F5SPKIngressTCP", "new");
    site.eventually("the watch is followed", |site| site.is_programmed(ALL - 1));

    // A server ends every watch at last, and kubectl ends with it.
    site.api.expire_watches();
    for feed in feeds {
        let ran = feed.ended();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.out.contains("earlier sessions removed")
                && ran.err.contains("too old resource version"),
            "{ran:?}"
        );
    }
    assert!(site.is_programmed(ALL - 1));
}

#[test]
fn a_streamed_list_of_the_api_server_needs_no_second_request() {
    let site = Site::start();
    let kind = Kind::of("F5SPKIngressTCP");
    let stream = format!(
        "exec kubectl get --raw '{}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'",
        kind.path()
    );
    let feed = site.feed(kind.name, &stream, &[]);
    site.eventually("the list is fed", |site| site.show("config").len() == 2);
    site.api.end_watches();
    let ran = feed.ended();
    assert_eq!(ran.code, 0, "{ran:?}");
    site.api.delete(kind.name, "iperf");
    let feed = site.feed(kind.name, &stream, &[]);
    site.eventually("what went meanwhile is removed", |site| {
        site.show("config").len() == 1
    });
    site.api.end_watches();
    let ran = feed.ended();
    assert!(ran.out.contains("end of the list; 1 object"), "{ran:?}");
}

#[test]
fn a_watch_of_one_namespace_ends_at_its_time_limit_and_removes_nothing() {
    let site = Site::start();
    let mut elsewhere = resources::service([true; 3])[0].clone();
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    site.api.put(&elsewhere);
    let limited = WATCH.replace("-A", "-n default") + " --request-timeout=3s";
    let ran = site.feed("Service", &limited, &[]).ended();
    let once = ran.out.matches(" accepted\n").count() == 1;
    assert!(
        once && ran.out.starts_with("service/default/web accepted"),
        "{ran:?}"
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(site.is_programmed(1));
}
