//! What is under `deploy/`: the chart, its renderings, the kustomizations, the examples.
//!
//! The chart is rendered by the real Helm, which `scripts/setup.sh test` fetches; where there is
//! none, tests that need it fail, unless `TMM_TEST_WITHOUT_HELM=yes` says that they are to be left out. What is
//! committed is looked at in any case.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rendered;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use config::{Kind, resource};
use rendered::{
    capabilities, chart, check, deploy, names, objects, of_kind, read, render, renderings, tool,
    variable,
};
use serde_json::{Value, json};

#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    for (path, values) in renderings() {
        let values = values.map(|path| path.display().to_string());
        let args: Vec<&str> = values
            .iter()
            .flat_map(|path| ["-f", path.as_str()])
            .collect();
        let Some(rendered) = render(&args) else {
            return;
        };
        let text = format!(
            "# Rendered by Helm from deploy/helm/f5-tmm: make bless-manifests\n{}",
            rendered.unwrap()
        );
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is not what the chart renders: make bless-manifests",
            path.display()
        );
    }
}

#[test]
fn the_chart_has_the_definitions() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
        let file = format!("{}.yaml", kind.plural());
        let text = fs::read_to_string(deploy().join("crds").join(&file)).unwrap();
        let path = chart().join("crds").join(&file);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == text,
            "{}: make bless-manifests",
            path.display()
        );
        check(&objects(&file, &text));
    }
}

#[test]
fn what_is_committed_is_what_kubernetes_knows() {
    for (path, _) in renderings() {
        check(&read(&path));
    }
    check(&read(&deploy().join("namespace/namespace.yaml")));
}

#[test]
fn the_default_is_a_guaranteed_pod_with_hugepages_a_feeder_and_no_more_rights_than_that() {
    let all = read(&deploy().join("base/f5-tmm.yaml"));
    let set = of_kind(&all, "StatefulSet");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["resources"]["limits"]["hugepages-2Mi"],
        "1572Mi"
    );
    assert_eq!(capabilities(set), &json!([]));
    assert_eq!(pod["containers"][1]["args"], json!(["sync"]));
    let mounts = |index: usize| names(&pod["containers"][index]["volumeMounts"]);
    assert_eq!(mounts(0), BTreeSet::from(["run"]), "tmm has no token");
    assert_eq!(mounts(1), BTreeSet::from(["run", "token"]));
    assert_eq!(pod["terminationGracePeriodSeconds"], 10);
    for (probe, command) in [
        ("livenessProbe", "live"),
        ("readinessProbe", "ready"),
        ("startupProbe", "live"),
    ] {
        let asked = &pod["containers"][0][probe]["exec"]["command"];
        assert_eq!(asked, &json!(["tmmctl", "health", command]), "{probe}");
    }
}

/// Lists and watches every kind, writes the status of custom ones, and nothing else.
#[test]
fn the_feeder_may_do_what_it_does_and_nothing_else() {
    let mut needed = BTreeMap::new();
    for kind in Kind::ALL {
        let group = kind
            .api_version()
            .split_once('/')
            .map_or("", |(group, _)| group);
        let read = BTreeSet::from(["list", "watch"].map(str::to_owned));
        needed.insert((group.to_owned(), kind.plural().to_owned()), read);
        if kind.is_custom() {
            let write = BTreeSet::from(["update".to_owned()]);
            needed.insert(
                (group.to_owned(), format!("{}/status", kind.plural())),
                write,
            );
        }
    }
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().unwrap().iter();
        items
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let all = read(&deploy().join("base/f5-tmm.yaml"));
    let mut given: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for rule in of_kind(&all, "ClusterRole")["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                given
                    .entry((group.clone(), resource))
                    .or_default()
                    .extend(texts(&rule["verbs"]));
            }
        }
    }
    assert_eq!(given, needed);
}

#[test]
fn sr_iov_has_its_ports_devices_and_capability() {
    let all = read(&deploy().join("examples/sriov/f5-tmm.yaml"));
    let set = of_kind(&all, "StatefulSet");
    assert_eq!(variable(set, "OPENSHIFT_VFIO_RESOURCE_1"), Some("external"));
    assert_eq!(variable(set, "OPENSHIFT_VFIO_RESOURCE_2"), Some("internal"));
    assert_eq!(capabilities(set), &json!(["IPC_LOCK"]));
    let networks =
        &set["spec"]["template"]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
    assert_eq!(networks, "f5-tmm/external,f5-tmm/internal");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["resources"]["limits"]["openshift.io/external"],
        "1"
    );
    assert_eq!(
        pod["terminationGracePeriodSeconds"], 40,
        "30 s of drain and 10 to stop"
    );
}

#[test]
fn macvlan_does_without_hugepages_and_with_the_capabilities_of_sockets() {
    let all = read(&deploy().join("examples/macvlan/f5-tmm.yaml"));
    let set = of_kind(&all, "StatefulSet");
    assert_eq!(variable(set, "TMM_MAPRES_ADDL_VETHS_ON_DP"), Some("TRUE"));
    assert_eq!(capabilities(set), &json!(["NET_ADMIN", "NET_RAW"]));
    let limits = &set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert!(limits.get("hugepages-2Mi").is_none());
}

/// The names that an example's StatefulSet refers to are in its networks.
#[test]
fn examples_are_whole() {
    for example in ["sriov", "macvlan"] {
        let directory = deploy().join("examples").join(example);
        for document in read(&directory.join("site.yaml")) {
            resource::parse(&document).unwrap_or_else(|errors| panic!("{errors:?}\n{document:#}"));
        }
        let mut files = vec![directory.join("networks.yaml")];
        files
            .extend((example == "sriov").then(|| directory.join("networks-without-operator.yaml")));
        for file in files {
            let mut attachments = BTreeSet::new();
            for network in read(&file) {
                let name = network["metadata"]["name"].as_str().unwrap().to_owned();
                let spec = &network["spec"];
                match network["kind"].as_str().unwrap() {
                    "NetworkAttachmentDefinition" => {
                        let config: Value =
                            serde_json::from_str(spec["config"].as_str().unwrap()).unwrap();
                        assert_eq!(config["name"], name);
                        assert_eq!(config["type"], example);
                        assert!(config["cniVersion"].is_string());
                        let namespace = network["metadata"]["namespace"].as_str().unwrap();
                        attachments.insert(format!("{namespace}/{name}"));
                    }
                    "SriovNetwork" => {
                        assert_eq!(
                            (&spec["spoofChk"], &spec["trust"]),
                            (&json!("off"), &json!("on"))
                        );
                        assert_eq!(spec["vlan"], 0, "tmm tags by itself");
                        let namespace = spec["networkNamespace"].as_str().unwrap();
                        attachments.insert(format!("{namespace}/{name}"));
                    }
                    "SriovNetworkNodePolicy" => assert_eq!(spec["resourceName"], name),
                    other => panic!("{other}"),
                }
            }
            let all = read(&directory.join("f5-tmm.yaml"));
            let set = of_kind(&all, "StatefulSet");
            let networks =
                &set["spec"]["template"]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"];
            let networks: BTreeSet<String> = networks
                .as_str()
                .unwrap()
                .split(',')
                .map(str::to_owned)
                .collect();
            assert_eq!(networks, attachments, "{}", file.display());
        }
    }
}

#[test]
fn everything_at_once_renders() {
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/everything.yaml");
    let Some(rendered) = render(&["-f", values.to_str().unwrap()]) else {
        return;
    };
    let all = objects("everything", &rendered.unwrap());
    check(&all);
    let set = of_kind(&all, "StatefulSet");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(set["metadata"]["name"], "edge");
    assert_eq!(set["spec"]["replicas"], 3);
    assert_eq!(pod["runtimeClassName"], "performance");
    assert_eq!(pod["containers"][0]["image"], "registry.example/tmm:7");
    assert_eq!(pod["serviceAccountName"], "other");
    assert_eq!(variable(set, "PAL_CPU_SET"), Some("2-3"));
    assert_eq!(capabilities(set), &json!(["BPF", "NET_ADMIN", "NET_RAW"]));
    assert_eq!(
        set["spec"]["template"]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"],
        "a/x,a/y"
    );
    let roles: Vec<&Value> = all
        .iter()
        .filter(|object| object["kind"] == "Role")
        .collect();
    let namespaces: BTreeSet<&str> = roles
        .iter()
        .map(|role| role["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(namespaces, BTreeSet::from(["shop", "edge-1"]));
    assert!(all.iter().all(|object| object["kind"] != "ClusterRole"));
    let feeder = pod["containers"][1]["env"].as_array().unwrap();
    assert!(feeder.contains(&json!({"name": "TMM_NAMESPACES", "value": "shop,edge-1"})));
}

#[test]
fn numbers_without_quotes_are_not_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let values = directory.path().join("values.yaml");
    let render_with = |text: &str| {
        fs::write(&values, text).unwrap();
        render(&["-f", values.to_str().unwrap()])
    };
    let text = "tmm:\n  customEnvVars:\n  - {name: TMM_FLOW_CAPACITY, value: 10000000}\n  \
        - {name: TMM_PROMISCUOUS, value: true}\n  image: {tag: 20260101}\n  \
        resources: {limits: {memory: 1073741824}}\n";
    let Some(rendered) = render_with(text) else {
        return;
    };
    let all = objects("numbers", &rendered.unwrap());
    check(&all);
    let set = of_kind(&all, "StatefulSet");
    assert_eq!(variable(set, "TMM_FLOW_CAPACITY"), Some("10000000"));
    assert_eq!(variable(set, "TMM_PROMISCUOUS"), Some("true"));
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "f5-tmm:20260101");
    assert_eq!(container["resources"]["limits"]["memory"], "1073741824");
    let refused = render_with("tmm: {image: {tag: 1.10}}\n").unwrap();
    assert!(
        refused.unwrap_err().contains("tag"),
        "1.10 has become 1.1 already"
    );
}

/// As SPK's controller is installed, with what this release has.
#[test]
fn an_override_file_of_spk_is_taken() {
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/spk-override.yaml");
    let Some(rendered) = render(&["-f", values.to_str().unwrap()]) else {
        return;
    };
    let all = objects("override", &rendered.unwrap());
    check(&all);
    let set = of_kind(&all, "StatefulSet");
    assert_eq!(
        variable(set, "OPENSHIFT_VFIO_RESOURCE_2"),
        Some("netpolicy_int")
    );
    assert_eq!(of_kind(&all, "Role")["metadata"]["namespace"], "spk-apps");
}

#[test]
fn what_is_not_carried_out_or_cannot_work_is_refused_with_a_reason() {
    #[rustfmt::skip]
    let cases: &[(&[&str], &str)] = &[
        (&["tmm.dynamicRouting.enabled=true"], "tmm.dynamicRouting: routes are not advertised"),
        (&["tmm.icni2.enabled=true"], "tmm.icni2: the annotations of OVN-Kubernetes are not written"),
        (&["tmm.debug.enabled=true"], "tmmctl is in f5-tmm's own"),
        (&["debug.enabled=true"], "tmmctl is in f5-tmm's own"),
        (&["tmm.vxlan.enabled=true"], "tmm.vxlan: not available"),
        (&["tmm.topologyManager=true", "tmm.resources.limits.cpu=1500m"], "whole CPUs"),
        (&["tmm.topologyManager=true", "tmm.resources.requests.cpu=1", "tmm.resources.limits.cpu=2"], "leave requests out"),
        (&["tmm.customEnvVars[0].name=TMM_MAPRES_ADDL_VETHS_ON_DP", "tmm.customEnvVars[0].value=TRUE"], "tmm.cniNetworks is empty"),
        (&["tmm.customEnvVars[0].name=OPENSHIFT_VFIO_RESOURCE_2", "tmm.customEnvVars[0].value=x"], "OPENSHIFT_VFIO_RESOURCE_1 is missing"),
        (&["tmm.customEnvVars[0].name=OPENSHIFT_VFIO_RESOURCE_1", "tmm.customEnvVars[0].value=x", "tmm.customEnvVars[1].name=OPENSHIFT_VFIO_RESOURCE_2", "tmm.customEnvVars[1].value=y", "tmm.cniNetworks=a/b"], "names 1 attachments, but there are 2"),
        (&["tmm.customEnvVars[0].name=POD_NAME", "tmm.customEnvVars[0].value=x"], "POD_NAME is set by the chart"),
        (&["tmm.customEnvVars[0].name=TMM_DRAIN", "tmm.customEnvVars[0].value=5"], "tmm.drainSeconds"),
        (&["tmm.customEnvVars[0].name=TMM_CONFIG_SOCKET", "tmm.customEnvVars[0].value=/x"], "where the feeder expects it"),
        (&["tmm.pod.labels.app=x"], "tmm.pod.labels: app is set by the chart"),
        (&["tmm.cniNetworks=a/b", "tmm.pod.annotations.k8s\\.v1\\.cni\\.cncf\\.io/networks=c/d"], "give one of them"),
        (&["tmm.resources=null"], "resources"),
        (&["tmm.hugepages.size=1Gi"], "size"),
        (&["tmm.probes.enable=false"], "enable"),
        (&["tmm.replicas=2"], "replicas"),
        (&["tmm.replicaCount=many"], "replicaCount"),
        (&["tmm.mode=magic"], "mode"),
        (&["feeder.status=sometimes"], "status"),
    ];
    for (values, reason) in cases {
        let args: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
        let Some(rendered) = render(&args) else {
            return;
        };
        let why = rendered.expect_err(&format!("{values:?} is refused"));
        assert!(why.contains(reason), "{values:?}: {why}");
    }
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let Some(helm) = tool("helm") else { return };
    let output = Command::new(helm)
        .args(["lint", "--strict"])
        .arg(chart())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn kustomizations_build() {
    let Some(kubectl) = tool("kubectl") else {
        return;
    };
    for (directory, least) in [
        ("crds", 4),
        ("base", 10),
        ("examples/sriov", 14),
        ("examples/macvlan", 12),
    ] {
        let output = Command::new(&kubectl)
            .args(["kustomize"])
            .arg(deploy().join(directory))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{directory}: {errors}");
        let all = objects(directory, &String::from_utf8(output.stdout).unwrap());
        assert!(all.len() >= least, "{directory}: {}", all.len());
    }
}

/// Every value is in the chart's table, and the table has no other.
#[test]
fn the_readme_of_the_chart_has_every_value() {
    fn leaves(value: &Value, path: &str, all: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) if !map.is_empty() && !path.ends_with("limits") => {
                for (name, value) in map {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    leaves(value, &path, all);
                }
            }
            _ => {
                all.insert(path.to_owned());
            }
        }
    }
    let values = read(&chart().join("values.yaml"));
    let mut expected = BTreeSet::new();
    leaves(&values[0], "", &mut expected);
    let readme = fs::read_to_string(chart().join("README.md")).unwrap();
    let documented: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(documented, expected);
}
