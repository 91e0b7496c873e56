//! The config socket fed by a watch stream, as a controller or kubectl would feed it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::resources::{EXTERNAL_SELF, ON_LINK_VIP, VIP};
use tests::lab::{Failure, Lab, Options, Result, ensure, eventually, resources, url};

/// One session of a feeder.
struct Session {
    reader: BufReader<UnixStream>,
    states: Vec<Value>,
}

impl Session {
    fn open(lab: &Lab, feeder: &str) -> Result<Self> {
        let stream = UnixStream::connect(lab.tmm.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut session = Self {
            reader: BufReader::new(stream),
            states: Vec::new(),
        };
        session.send(&json!({"type": "HELLO", "feeder": feeder}).to_string())?;
        let answer = session.read()?;
        ensure(answer["type"] == "HELLO", || {
            format!("HELLO is answered with {answer}")
        })?;
        Ok(session)
    }

    fn send(&mut self, line: &str) -> Result {
        self.reader
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .map_err(Into::into)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let len = self.reader.read_line(&mut line)?;
        ensure(len > 0, || "tmm closed the session".to_owned())?;
        serde_json::from_str(&line).map_err(|error| Failure::new(format!("{error} in {line}")))
    }

    /// The next answer; states that come in between are kept.
    fn answer(&mut self) -> Result<Value> {
        loop {
            let line = self.read()?;
            if line["type"] == "STATE" {
                self.states.push(line);
            } else {
                return Ok(line);
            }
        }
    }

    /// Sends an event, which must be accepted.
    fn event(&mut self, kind: &str, object: &Value) -> Result {
        self.send(&json!({"type": kind, "object": object}).to_string())?;
        let answer = self.answer()?;
        ensure(
            answer["type"] == "ANSWER" && answer["accepted"] == true,
            || format!("{kind} of {object} got {answer}"),
        )
    }

    /// Ends the list of one kind, as the watch of a Kubernetes API does, or of every kind.
    fn end_of_list(&mut self, kind: Option<&str>) -> Result {
        let mut bookmark = json!({
            "metadata": {"annotations": {"k8s.io/initial-events-end": "true"}},
        });
        if let Some(kind) = kind {
            bookmark["kind"] = kind.into();
        }
        self.event("BOOKMARK", &bookmark)
    }

    /// Waits for the object's state to be what is wanted.
    fn await_state(&mut self, name: &str, wanted: &str) -> Result<Value> {
        loop {
            let found = self.states.iter().rev().find(|line| line["name"] == name);
            if let Some(line) = found.filter(|line| line["state"] == wanted) {
                return Ok(line.clone());
            }
            let line = self.read().map_err(|failure| {
                Failure::new(format!(
                    "{name} did not become {wanted} ({failure}); heard: {:?}",
                    self.states
                ))
            })?;
            self.states.push(line);
        }
    }
}

#[test]
fn a_watch_stream_configures_tmm_and_hears_how_far_it_has_come() -> Result {
    let lab = Lab::start(&Options::default())?;
    let mut session = Session::open(&lab, "cluster")?;
    // The virtual server first: what it refers to comes later.
    let server = resources::virtual_server("http", 80, VIP, "SRC_TRANS_NONE", 300);
    session.event("ADDED", &server)?;
    let state = session.await_state("http", "Pending")?;
    ensure(
        state["message"]
            .as_str()
            .is_some_and(|text| text.contains("web")),
        || format!("the state does not say what is missing: {state}"),
    )?;
    for object in resources::vlans(false, None)
        .iter()
        .chain(&resources::service([true, false, false]))
    {
        session.event("ADDED", object)?;
    }
    session.end_of_list(None)?;
    session.await_state("http", "Programmed")?;
    lab.await_virtual_servers(VIP)?;
    ensure(lab.get(&url(VIP[0], "/"))? == "backend-1", || {
        "an unready backend answered".to_owned()
    })?;

    // A wrong object is refused with the path of each mistake and changes nothing.
    let mut wrong = server.clone();
    wrong["spec"]["destinationPort"] = 70_000.into();
    wrong["spec"]["snatt"] = "AUTOMAP".into();
    session.send(&json!({"type": "MODIFIED", "object": wrong}).to_string())?;
    let answer = session.answer()?;
    let fields: Vec<_> = answer["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| error["field"].as_str())
        .collect();
    ensure(
        answer["accepted"] == false
            && fields.contains(&"spec.destinationPort")
            && fields.contains(&"spec.snatt"),
        || format!("a wrong object got {answer}"),
    )?;
    lab.get(&url(VIP[0], "/"))?;

    session.event("MODIFIED", &resources::service([false, true, false])[1])?;
    eventually(Duration::from_secs(5), || {
        let answer = lab.get(&url(VIP[0], "/"))?;
        ensure(answer == "backend-2", || format!("{answer} answers"))
    })?;
    session.event("DELETED", &server)?;
    eventually(Duration::from_secs(5), || {
        let gone = lab.curl(&["--max-time", "1", &url(VIP[0], "/")]).is_err();
        ensure(gone, || "a deleted virtual server still answers".to_owned())
    })?;
    lab.finish()
}

#[test]
fn what_a_feeders_next_list_lacks_is_removed_when_the_list_ends_and_not_before() -> Result {
    let lab = Lab::start(&Options::default())?;
    let mut objects: Vec<Value> = resources::vlans(false, None).to_vec();
    objects.extend(resources::service([true; 3]));
    let stays = resources::virtual_server("stays", 80, VIP, "SRC_TRANS_NONE", 300);
    let goes = resources::virtual_server("goes", 80, ON_LINK_VIP, "SRC_TRANS_NONE", 300);

    let mut first = Session::open(&lab, "cluster")?;
    for object in objects.iter().chain([&stays, &goes]) {
        first.event("ADDED", object)?;
    }
    first.end_of_list(None)?;
    lab.await_virtual_servers(VIP)?;
    lab.await_virtual_servers(ON_LINK_VIP)?;

    // The feeder dies: nothing is lost, neither at once nor in the middle of its next list.
    drop(first);
    let mut second = Session::open(&lab, "cluster")?;
    for object in objects.iter().chain([&stays]) {
        second.event("ADDED", object)?;
    }
    lab.get(&url(ON_LINK_VIP[0], "/"))?;
    // The end of another kind's list says nothing about virtual servers.
    second.end_of_list(Some("Service"))?;
    lab.get(&url(ON_LINK_VIP[0], "/"))?;
    second.end_of_list(Some("F5SPKIngressTCP"))?;
    eventually(Duration::from_secs(5), || {
        let gone = lab
            .curl(&["--max-time", "1", &url(ON_LINK_VIP[0], "/")])
            .is_err();
        ensure(gone, || {
            "an object that is in no list any more still works".to_owned()
        })
    })?;
    for address in VIP {
        lab.get(&url(address, "/"))?;
    }
    lab.finish()
}

#[test]
fn noise_on_the_socket_disturbs_neither_traffic_nor_other_feeders() -> Result {
    let lab = Lab::with_everything(&Options::default(), "SRC_TRANS_NONE")?;
    let mut noisy: Vec<UnixStream> = Vec::new();
    for number in 0..20_u8 {
        let mut stream = UnixStream::connect(lab.tmm.socket())?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let noise: Vec<u8> = match number % 4 {
            // Half a line; binary; something that never ends; many small mistakes.
            0 => b"{\"type\":\"ADDED\",\"object\":{\"kind\":".to_vec(),
            1 => (0..100_000_u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
            2 => vec![b'['; 1 << 20],
            _ => b"{}\n[]\nnull\nno\n".repeat(5000),
        };
        // tmm may close or stop reading; both are its right.
        drop(stream.write_all(&noise));
        noisy.push(stream);
    }
    for address in VIP {
        lab.get(&url(address, "/"))?;
    }
    let mut session = Session::open(&lab, "calm")?;
    session.event(
        "ADDED",
        &resources::virtual_server("near", 80, ON_LINK_VIP, "SRC_TRANS_NONE", 300),
    )?;
    lab.await_virtual_servers(ON_LINK_VIP)?;
    drop(noisy);
    lab.client
        .run("ping", &["-c", "1", "-W", "2", EXTERNAL_SELF[0]])?;
    lab.finish()
}

#[test]
fn tmmctl_refuses_a_wrong_object_and_says_where_it_is_wrong() -> Result {
    let lab = Lab::start(&Options::default())?;
    let mut vlan = resources::vlans(false, None)[0].clone();
    vlan["spec"]["tag"] = 5000.into();
    let refused = lab.tmm.apply(&[vlan]);
    ensure(
        refused.is_err_and(|failure| failure.to_string().contains("spec.tag")),
        || "a VLAN with tag 5000 was not refused by its field".to_owned(),
    )?;
    lab.finish()
}
