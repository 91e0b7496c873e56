//! The chart, what is rendered from it, and what Kubernetes knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::document;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub const NAMESPACE: &str = "f5-tmm";

pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

pub fn chart() -> PathBuf {
    deploy().join("helm/f5-tmm")
}

/// A tool of those that the setup fetches, or from the PATH.
pub fn tool(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let fetched = Path::new(&home).join(".cache/tmm/helm").join(name);
    if fetched.is_file() {
        return Some(fetched);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|directory| directory.join(name).is_file());
    // Old kubectls have a kustomize that is too old.
    let found = found
        .filter(|_| name == "helm")
        .map(|directory| directory.join(name));
    if found.is_none() {
        let without = std::env::var("TMM_TEST_WITHOUT_HELM").is_ok_and(|value| value == "yes");
        assert!(
            without,
            "there is no {name}: scripts/setup.sh test fetches it; TMM_TEST_WITHOUT_HELM=yes leaves out \
             what needs it"
        );
        println!("left out, as TMM_TEST_WITHOUT_HELM says: there is no {name}");
    }
    found
}

/// Renders the chart with values; the manifests, or what Helm complains of. None without Helm.
pub fn render(args: &[&str]) -> Option<Result<String, String>> {
    let helm = tool("helm")?;
    let output = Command::new(helm)
        .args(["template", "f5-tmm"])
        .arg(chart())
        .args(["--namespace", NAMESPACE])
        .args(args)
        .output()
        .unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    Some(if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    })
}

pub fn objects(name: &str, yaml: &str) -> Vec<Value> {
    document::read_text(name, yaml)
        .into_iter()
        .map(|document| {
            document
                .content
                .unwrap_or_else(|why| panic!("{name}: {why}"))
        })
        .collect()
}

pub fn read(path: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    objects(&path.display().to_string(), &text)
}

pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "one {kind}");
    object
}

/// Each object is one that Kubernetes knows, without a field that it does not know.
pub fn check(objects: &[Value]) {
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        match (object["apiVersion"].as_str().unwrap(), kind) {
            ("apps/v1", "StatefulSet") => known::<StatefulSet>(object),
            ("v1", "Service") => known::<Service>(object),
            ("v1", "ServiceAccount") => known::<ServiceAccount>(object),
            ("v1", "Namespace") => known::<Namespace>(object),
            ("rbac.authorization.k8s.io/v1", "ClusterRole") => known::<ClusterRole>(object),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
                known::<ClusterRoleBinding>(object);
            }
            ("rbac.authorization.k8s.io/v1", "Role") => known::<Role>(object),
            ("rbac.authorization.k8s.io/v1", "RoleBinding") => known::<RoleBinding>(object),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
                known::<CustomResourceDefinition>(object);
            }
            (version, kind) => panic!("{version} {kind} is no kind of ours"),
        }
        if kind == "StatefulSet" {
            sound(object);
        }
    }
}

/// What comes back of Kubernetes' own type is all that was put in.
pub fn known<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{error}\n{object:#}"));
    let mut lost = Vec::new();
    contains(&serde_json::to_value(typed).unwrap(), object, "", &mut lost);
    assert!(
        lost.is_empty(),
        "{} has unknown fields: {lost:?}",
        object["kind"]
    );
}

pub fn contains(all: &Value, part: &Value, path: &str, lost: &mut Vec<String>) {
    match (all, part) {
        (Value::Object(all), Value::Object(part)) => {
            for (name, value) in part {
                let path = format!("{path}.{name}");
                match all.get(name) {
                    Some(found) => contains(found, value, &path, lost),
                    // What is empty may be left out.
                    None if matches!(value, Value::Null) => {}
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(all), Value::Array(part)) if all.len() == part.len() => {
            for (index, (all, part)) in all.iter().zip(part).enumerate() {
                contains(all, part, &format!("{path}[{index}]"), lost);
            }
        }
        (all, part) if all == part => {}
        (all, part) if all.as_f64().is_some() && all.as_f64() == part.as_f64() => {}
        _ => lost.push(path.to_owned()),
    }
}

/// What the API server checks between the fields of a StatefulSet, and what we promise.
pub fn sound(set: &Value) {
    let spec = &set["spec"];
    let pod = &spec["template"]["spec"];
    let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
    for (label, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(
            labels.get(label),
            Some(value),
            "the selector selects the pods"
        );
    }
    let volumes: BTreeSet<&str> = names(&pod["volumes"]);
    for container in pod["containers"].as_array().unwrap() {
        for mount in names(&container["volumeMounts"]) {
            assert!(volumes.contains(mount), "{mount} is a volume");
        }
        assert_eq!(
            container["resources"]["limits"], container["resources"]["requests"],
            "Guaranteed"
        );
        assert!(container["resources"]["limits"]["cpu"].is_string());
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(
            container["securityContext"]["capabilities"]["drop"],
            json!(["ALL"])
        );
        let env: Vec<&str> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["name"].as_str().unwrap())
            .collect();
        let once: BTreeSet<&str> = env.iter().copied().collect();
        assert_eq!(env.len(), once.len(), "each variable once: {env:?}");
        assert!(once.contains("POD_NAME"));
    }
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(spec["podManagementPolicy"], "Parallel");
}

pub fn names(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().into_iter().flatten();
    list.map(|item| item["name"].as_str().unwrap()).collect()
}

pub fn variable<'a>(set: &'a Value, name: &str) -> Option<&'a str> {
    let env = set["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap();
    env.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

pub fn capabilities(set: &Value) -> &Value {
    &set["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]
}

/// Files that the chart renders into, with the values for it.
pub fn renderings() -> Vec<(PathBuf, Option<PathBuf>)> {
    let mut all = vec![(deploy().join("base/f5-tmm.yaml"), None)];
    for example in ["sriov", "macvlan"] {
        let directory = deploy().join("examples").join(example);
        all.push((
            directory.join("f5-tmm.yaml"),
            Some(directory.join("values.yaml")),
        ));
    }
    all
}
