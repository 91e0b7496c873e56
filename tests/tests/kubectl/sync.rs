//! `tmmctl sync`, which starts kubectl itself.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::lab::resources;
use tests::served::Served;

use crate::api::KINDS;
use crate::feed::ALL;
use crate::site::{Group, Site};

/// A running `tmmctl sync`.
struct Sync {
    group: Group,
    log: PathBuf,
}

impl Site {
    fn sync(&self, options: &[&str]) -> Sync {
        let tmmctl = tests::lab::program("tmmctl").unwrap();
        let log = self.directory.path().join("sync.log");
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut command = self.command(tmmctl.to_str().unwrap());
        command.arg("sync").args(options).env_remove("POD_NAME");
        command.stderr(out.try_clone().unwrap()).stdout(out);
        let group = Group(command.spawn().unwrap());
        Sync { group, log }
    }

    /// Status and reason of the condition of a custom resource, and the generation it is about.
    fn condition(&self, kind: &str, name: &str) -> Option<(String, String, u64)> {
        let object = self.api.get(kind, name)?;
        let all = object["status"]["conditions"].as_array()?;
        let [condition] = all.as_slice() else {
            panic!("{all:?}");
        };
        assert_eq!(condition["type"], "Programmed");
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        let generation = condition["observedGeneration"].as_u64().unwrap();
        Some((text("status"), text("reason"), generation))
    }

    /// Every custom resource says that it is programmed.
    fn all_say_programmed(&self) -> bool {
        let custom = [
            ("F5SPKVlan", "external"),
            ("F5SPKVlan", "internal"),
            ("F5SPKIngressTCP", "http"),
            ("F5SPKIngressUDP", "echo"),
        ];
        custom.iter().all(|(kind, name)| {
            let said = self.condition(kind, name);
            said.is_some_and(|(status, reason, _)| (&*status, &*reason) == ("True", "Programmed"))
        })
    }
}

impl Sync {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Asks it to end; its exit code and how long it took.
    fn terminate(mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        let kill = format!("kill -s TERM {}", self.group.0.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        let status = self.group.0.wait().unwrap();
        (status.code(), begin.elapsed())
    }
}

#[test]
fn sync_outlives_watches_and_tmm_and_ends_when_asked() {
    let mut site = Site::start();
    let sync = site.sync(&[]);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    site.eventually("every kind is watched", Site::watches_all);

    // The watches end; an object goes before the next ones begin.
    site.api.end_watches();
    site.api.delete("F5SPKIngressTCP", "iperf");
    site.eventually("what went between two watches is removed", |site| {
        site.is_programmed(ALL - 1) && site.show("virtual-servers").len() == 4
    });
    site.api.expire_watches();
    site.eventually(
        "a watch that is too far behind begins anew",
        Site::watches_all,
    );

    // tmm ends, and another one begins with nothing.
    site.tmm = None;
    site.tmm = Some(Served::start(&site.socket));
    site.eventually("a new tmm is fed all there is", |site| {
        site.is_programmed(ALL - 1)
    });
    site.eventually(
        "every kind is watched once, and no watch is left that nobody reads",
        |site| KINDS.iter().all(|kind| site.api.watches(kind.name) == 1),
    );
    let log = sync.log();
    assert!(
        log.contains("f5spkvlan/default/external: Programmed"),
        "{log}"
    );
    let (code, took) = sync.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    site.eventually("its kubectls have ended with it", |site| {
        KINDS.iter().all(|kind| site.api.watches(kind.name) == 0)
    });
    assert!(site.is_programmed(ALL - 1), "what was fed stays");
}

#[test]
fn sync_says_in_the_status_what_became_of_each_object_and_says_it_once() {
    let site = Site::start();
    let _sync = site.sync(&[]);
    site.eventually("all say that they are programmed", Site::all_say_programmed);

    // A new generation, which is refused.
    let mut wrong = resources::vlans(false, None)[1].clone();
    wrong["spec"]["tag"] = 5000.into();
    site.api.put(&wrong);
    let name = wrong["metadata"]["name"].as_str().unwrap();
    site.eventually("what is wrong says so", |site| {
        site.condition("F5SPKVlan", name) == Some(("False".to_owned(), "Invalid".to_owned(), 2))
    });
    let object = site.api.get("F5SPKVlan", name).unwrap();
    let message = object["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert_eq!(message, "spec.tag: 5000 is not in 1-4094");

    // What depends on something else says what it waits for.
    site.api.delete("Service", "web");
    site.eventually("a virtual server says what it lacks", |site| {
        let said = site.condition("F5SPKIngressTCP", "http");
        said == Some(("False".to_owned(), "ServiceNotFound".to_owned(), 1))
    });

    // Its own writing comes back by the watch, and is not answered by more of it.
    std::thread::sleep(Duration::from_secs(2));
    let writes = site.api.status_writes();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(
        site.api.status_writes(),
        writes,
        "nothing is written without need"
    );
    assert!(writes <= 2 * ALL, "{writes}");
}

#[test]
fn sync_of_another_replica_or_without_the_right_to_leaves_the_status_alone() {
    let site = Site::start();
    let sync = site.sync(&["--replica", "1"]);
    site.eventually("the lists are carried out", |site| site.is_programmed(ALL));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.api.status_writes(), 0);
    assert_eq!(sync.terminate().0, Some(0));

    site.api.set_read_only(true);
    let sync = site.sync(&["--status", "always"]);
    site.eventually("it says that it may not, and what would help", |_| {
        sync.log()
            .contains("the role needs the verb update on the kind's status")
    });
    site.api.set_read_only(false);
    site.eventually("and writes as soon as it may", Site::all_say_programmed);
}

#[test]
fn sync_of_namespaces_takes_theirs_and_no_others() {
    let site = Site::start();
    let mut elsewhere = resources::service([true; 3])[0].clone();
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    site.api.put(&elsewhere);
    let _sync = site.sync(&["-n", "elsewhere", "-n", "nowhere"]);
    site.eventually("the one object is fed", |site| site.is_programmed(1));
    site.eventually("both namespaces are watched", |site| {
        KINDS.iter().all(|kind| site.api.watches(kind.name) == 2)
    });
    assert!(site.is_programmed(1));
}

#[test]
fn sync_without_a_kubectl_says_so_and_goes_on_trying() {
    let site = Site::start();
    let sync = site.sync(&["--kubectl", "/nowhere/kubectl"]);
    site.eventually("it says what it cannot run", |_| {
        sync.log().contains("cannot run /nowhere/kubectl")
    });
    assert_eq!(sync.terminate().0, Some(0));
}
