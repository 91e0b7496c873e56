//! `tmmctl feed`: what `kubectl get … --watch --output-watch-events -o json` prints, piped into tmm.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::lab::resources::{self, HTTP, ON_LINK_VIP, VIP};
use tests::lab::{Failure, Lab, Options, Result, ensure, eventually, program, url};

/// A `tmmctl feed` whose input is the test's to write.
struct Feed {
    child: Child,
    input: Option<ChildStdin>,
    pretty: bool,
}

impl Feed {
    fn start(lab: &Lab, feeder: &str, pretty: bool) -> Result<Self> {
        let mut child = Command::new(program("tmmctl")?)
            .arg("--socket")
            .arg(lab.tmm.socket())
            .args(["feed", "--feeder", feeder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        Ok(Self {
            child,
            input,
            pretty,
        })
    }

    fn write(&mut self, text: &str) -> Result {
        let input = self.input.as_mut();
        let input = input.ok_or_else(|| Failure::new("the input has ended"))?;
        input.write_all(text.as_bytes())?;
        input.flush()?;
        Ok(())
    }

    /// An event as kubectl prints it: over many lines, or on one with `--output json` of a server
    /// that compacts.
    fn event(&mut self, kind: &str, object: &Value) -> Result {
        let event = json!({"type": kind, "object": as_the_server_has_it(object)});
        let text = if self.pretty {
            format!("{event:#}\n")
        } else {
            format!("{event}\n")
        };
        self.write(&text)
    }

    /// Ends the input; returns how the command ended and all it printed.
    fn end(mut self) -> Result<(bool, String)> {
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Err(Failure::new("tmmctl feed outlives its input by 15 s"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = self.child.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    }
}

/// The object with everything a cluster adds to it.
fn as_the_server_has_it(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    metadata["namespace"] = "default".into();
    metadata["uid"] = "0d5d1f36-8a0f-4f8e-9f8f-2f8c3a5f7b11".into();
    metadata["resourceVersion"] = "48213".into();
    metadata["generation"] = 1.into();
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    metadata["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "{\"spec\":{}}\n"});
    metadata["managedFields"] = json!([{
        "apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "kubectl",
        "operation": "Update", "time": "2026-01-01T00:00:00Z",
        "fieldsV1": {"f:spec": {".": {}, "f:tag": {}}},
    }]);
    object
}

fn objects(addresses: [&str; 2]) -> Vec<Value> {
    let mut objects = resources::vlans(false, None).to_vec();
    objects.extend(resources::service([true, false, false]));
    let server = resources::virtual_server("http", HTTP, addresses, "SRC_TRANS_NONE", 300);
    objects.push(server);
    objects
}

fn a_watch_configures_tmm(pretty: bool) -> Result {
    let lab = Lab::start(&Options::default())?;
    let mut feed = Feed::start(&lab, "cluster", pretty)?;
    let list = objects(VIP);
    for object in &list {
        feed.event("ADDED", object)?;
    }
    lab.await_virtual_servers(VIP)?;
    ensure(lab.get(&url(VIP[0], "/"))? == "backend-1", || {
        "an unready backend answered".to_owned()
    })?;

    // The watch stays open: what changes in the cluster changes here.
    feed.event("MODIFIED", &resources::service([false, true, false])[1])?;
    eventually(Duration::from_secs(5), || {
        let answer = lab.get(&url(VIP[0], "/"))?;
        ensure(answer == "backend-2", || format!("{answer} answers"))
    })?;

    // A wrong object is told on the way; what comes after it is carried out.
    let mut wrong = list[0].clone();
    wrong["spec"]["tag"] = 5000.into();
    feed.event("MODIFIED", &wrong)?;
    feed.event("MODIFIED", &resources::service([false, false, true])[1])?;
    eventually(Duration::from_secs(5), || {
        let answer = lab.get(&url(VIP[0], "/"))?;
        ensure(answer == "backend-3", || format!("{answer} answers"))
    })?;
    feed.event("DELETED", &list[5])?;
    eventually(Duration::from_secs(5), || {
        let gone = lab.curl(&["--max-time", "1", &url(VIP[0], "/")]).is_err();
        ensure(gone, || "a deleted virtual server still answers".to_owned())
    })?;
    let (good, said) = feed.end()?;
    ensure(!good && said.contains("spec.tag"), || {
        format!("the refused object is not told:\n{said}")
    })?;
    for words in ["default/http", "Programmed"] {
        ensure(said.contains(words), || {
            format!("tmmctl feed does not say {words}:\n{said}")
        })?;
    }
    lab.finish()
}

#[test]
fn a_watch_stream_of_many_lines_per_event_configures_tmm() -> Result {
    a_watch_configures_tmm(true)
}

#[test]
fn a_watch_stream_of_one_line_per_event_configures_tmm() -> Result {
    a_watch_configures_tmm(false)
}

#[test]
fn a_watch_that_breaks_off_loses_nothing_and_the_next_one_goes_on() -> Result {
    let lab = Lab::start(&Options::default())?;
    let mut first = Feed::start(&lab, "cluster", true)?;
    for object in &objects(ON_LINK_VIP) {
        first.event("ADDED", object)?;
    }
    lab.await_virtual_servers(ON_LINK_VIP)?;
    // Cut in the middle of an event, as when kubectl dies.
    first.write("{\n  \"type\": \"DELETED\",\n  \"object\": {\n    \"kind\": ")?;
    let (_, said) = first.end()?;
    ensure(!said.contains("panicked"), || said.clone())?;
    lab.get(&url(ON_LINK_VIP[0], "/"))?;

    let mut second = Feed::start(&lab, "cluster", true)?;
    for object in &objects(ON_LINK_VIP) {
        second.event("ADDED", object)?;
    }
    second.event("MODIFIED", &resources::service([false, false, true])[2])?;
    eventually(Duration::from_secs(5), || {
        let answer = lab.get(&url(ON_LINK_VIP[1], "/"))?;
        ensure(answer == "backend-3", || format!("{answer} answers"))
    })?;
    let (good, said) = second.end()?;
    ensure(good, || {
        format!("tmmctl feed failed though all was well:\n{said}")
    })?;
    lab.finish()
}
