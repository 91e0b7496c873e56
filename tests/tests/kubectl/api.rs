//! A stand-in for the API server of Kubernetes, as far as a feeding kubectl needs one: discovery,
//! lists, watches and the status of custom resources over HTTP/1.1 on the loopback interface, driven
//! by the test.
//!
//! Where real ones differ in what a feeder sees, this one is like them: the items of a list of a
//! built-in kind have no `kind`, custom kinds have names, singular and plural, that are not their
//! lower-cased kinds (so that kubectl refuses `F5SPKVlan` alone), aggregated discovery is not known
//! (as before 1.26), and a watch ends without being asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use config::client::INITIAL_EVENTS_END;
use serde_json::{Value, json};

/// A kind that is served.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    api_version: &'static str,
    singular: &'static str,
    pub plural: &'static str,
}

const fn kind(
    name: &'static str,
    api_version: &'static str,
    singular: &'static str,
    plural: &'static str,
) -> Kind {
    Kind {
        name,
        api_version,
        singular,
        plural,
    }
}

/// Every kind that tmm takes, under the names that clusters have them.
#[rustfmt::skip]
pub static KINDS: [Kind; 10] = [
    kind("F5SPKVlan", "k8s.f5net.com/v1", "f5-spk-vlan", "f5-spk-vlans"),
    kind("F5SPKStaticRoute", "k8s.f5net.com/v1", "f5-spk-staticroute", "f5-spk-staticroutes"),
    kind("F5SPKIngressTCP", "ingresstcp.k8s.f5net.com/v1", "f5-spk-ingresstcp", "f5-spk-ingresstcps"),
    kind("F5SPKIngressUDP", "ingressudp.k8s.f5net.com/v1", "f5-spk-ingressudp", "f5-spk-ingressudps"),
    kind("F5SPKIngressNGAP", "k8s.f5net.com/v1", "f5-spk-ingressngap", "f5-spk-ingressngaps"),
    kind("F5SPKIngressDiameter", "k8s.f5net.com/v1", "f5-spk-ingressdiameter", "f5-spk-ingressdiameters"),
    kind("F5SPKSnatpool", "k8s.f5net.com/v1", "f5-spk-snatpool", "f5-spk-snatpools"),
    kind("F5SPKEgress", "k8s.f5net.com/v3", "f5-spk-egress", "f5-spk-egresses"),
    kind("Service", "v1", "service", "services"),
    kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslice", "endpointslices"),
];

/// Longest request head taken, in octets.
const MAX_HEAD: u64 = 64 * 1024;
/// How long a peer may take to ask, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a quiet watch looks whether its peer is still there.
const LOOK: Duration = Duration::from_millis(20);

impl Kind {
    pub fn of(name: &str) -> &'static Self {
        let found = KINDS.iter().find(|kind| kind.name == name);
        found.unwrap_or_else(|| panic!("{name} is not served"))
    }

    /// Where all of its objects are.
    pub fn path(&self) -> String {
        let group = self.api_version.contains('/');
        let root = if group { "apis" } else { "api" };
        format!("/{root}/{}/{}", self.api_version, self.plural)
    }

    /// Whether it is compiled into a real API server.
    fn is_built_in(&self) -> bool {
        !self.api_version.contains("f5net.com")
    }
}

/// Kind, namespace, name.
type Key = (&'static str, String, String);

struct Event {
    version: u64,
    word: &'static str,
    key: Key,
    object: Value,
}

/// What all connections share.
#[derive(Default)]
struct State {
    /// The latest resource version given.
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// All that has happened, oldest first.
    log: Vec<Event>,
    /// Open watches by kind.
    watches: BTreeMap<&'static str, usize>,
    /// Watches that began in an earlier round are over; with an error if there is one.
    round: u64,
    error: Option<Value>,
    stopped: bool,
    /// Writes to a status, those that were refused among them.
    writes: usize,
    /// Whether writing a status is allowed.
    read_only: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A running API server; dropping it ends it with all its connections.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts one without objects, on a port of its own.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.change(|state| state.version = 1000);
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                for stream in listener.incoming() {
                    if serving.lock().stopped {
                        break;
                    }
                    let shared = &serving;
                    // A peer that goes away in the middle is no failure of the server.
                    scope.spawn(move || stream.and_then(|stream| serve(shared, &stream)));
                }
            });
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// What kubectl needs to find it.
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": server}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "users": [{"name": "lab", "user": {}}],
        })
        .to_string()
    }

    /// Adds an object, or gives it a new version.
    pub fn put(&self, object: &Value) {
        let mut object = object.clone();
        let key = key(&object);
        self.shared.change(|state| {
            state.version += 1;
            let before = state.objects.get(&key).map(|object| &object["metadata"]);
            let generation = before.map_or(0, |before| before["generation"].as_u64().unwrap());
            let uid = before.map_or_else(
                || json!(format!("00000000-0000-4000-8000-{:012x}", state.version)),
                |before| before["uid"].clone(),
            );
            let word = if before.is_some() {
                "MODIFIED"
            } else {
                "ADDED"
            };
            if let Some(status) = state.objects.get(&key).and_then(|old| old.get("status")) {
                object["status"] = status.clone();
            }
            let metadata = &mut object["metadata"];
            metadata["namespace"] = key.1.clone().into();
            metadata["uid"] = uid;
            metadata["generation"] = (generation + 1).into();
            metadata["resourceVersion"] = state.version.to_string().into();
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
            state.objects.insert(key.clone(), object.clone());
            state.tell(word, key, object);
        });
    }

    /// Deletes an object of the namespace `default`.
    pub fn delete(&self, kind: &str, name: &str) {
        let key = (Kind::of(kind).name, "default".to_owned(), name.to_owned());
        self.shared.change(|state| {
            let mut object = state.objects.remove(&key).expect("it is there");
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.tell("DELETED", key, object);
        });
    }

    /// Ends all watches, as real servers do after a while.
    pub fn end_watches(&self) {
        self.shared.change(|state| {
            state.round += 1;
            state.error = None;
        });
    }

    /// Ends all watches with what is said of one that is too far behind.
    pub fn expire_watches(&self) {
        self.shared.change(|state| {
            state.round += 1;
            let message = "too old resource version";
            state.error = Some(status(410, "Expired", message));
        });
    }

    /// An object of the namespace `default`, as it is now.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let key = (Kind::of(kind).name, "default".to_owned(), name.to_owned());
        self.shared.lock().objects.get(&key).cloned()
    }

    /// How often a status was written, or was to be.
    pub fn status_writes(&self) -> usize {
        self.shared.lock().writes
    }

    /// Whether nobody may write a status, as without the role.
    pub fn set_read_only(&self, read_only: bool) {
        self.shared.change(|state| state.read_only = read_only);
    }

    /// Whether there is an object of a kind.
    pub fn has(&self, kind: &str) -> bool {
        self.shared.lock().objects.keys().any(|key| key.0 == kind)
    }

    /// Open watches of a kind.
    pub fn watches(&self, kind: &str) -> usize {
        self.shared.lock().watches.get(kind).copied().unwrap_or(0)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.change(|state| state.stopped = true);
        // Whoever waits for a connection looks again when one comes.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the API server does not panic");
        }
    }
}

impl State {
    fn tell(&mut self, word: &'static str, key: Key, object: Value) {
        self.log.push(Event {
            version: self.version,
            word,
            key,
            object,
        });
    }
}

fn key(object: &Value) -> Key {
    let metadata = &object["metadata"];
    (
        Kind::of(object["kind"].as_str().unwrap()).name,
        metadata["namespace"]
            .as_str()
            .unwrap_or("default")
            .to_owned(),
        metadata["name"].as_str().unwrap().to_owned(),
    )
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

/// Answers the one request of a connection.
fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.take(MAX_HEAD));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    if method == "PUT" {
        let body = chunked(&mut reader)?;
        let object = serde_json::from_slice(&body).unwrap_or_default();
        let done = write_status(shared, target, &object);
        return answer(stream, &done);
    }
    if method != "GET" {
        let refusal = status(405, "MethodNotAllowed", "this is a reader's server");
        return answer(stream, &refusal);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (api_version, rest) = match steps.as_slice() {
        ["version"] => return answer(stream, &json!({"gitVersion": "v1.25.0"})),
        ["api"] => return answer(stream, &json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => return answer(stream, &groups()),
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return answer(stream, &not_found(path)),
    };
    let kinds = KINDS.iter().filter(|kind| kind.api_version == api_version);
    let mut kinds = kinds.peekable();
    let (namespace, plural) = match rest {
        [] if kinds.peek().is_some() => return answer(stream, &resources(&api_version, kinds)),
        [plural] => (None, *plural),
        ["namespaces", namespace, plural] => (Some(*namespace), *plural),
        _ => return answer(stream, &not_found(path)),
    };
    let Some(kind) = kinds.find(|kind| kind.plural == plural) else {
        return answer(stream, &not_found(path));
    };
    let asked = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|pair| pair.0 == name).map_or("", |pair| pair.1)
    };
    if matches!(asked("watch"), "1" | "true") {
        let begin = Begin {
            after: asked("resourceVersion").parse().unwrap_or(0),
            initial: asked("sendInitialEvents") == "true",
            bookmarks: asked("allowWatchBookmarks") == "true",
        };
        shared.change(|state| *state.watches.entry(kind.name).or_default() += 1);
        let ended = watch(shared, stream, kind, namespace, &begin);
        shared.change(|state| *state.watches.entry(kind.name).or_default() -= 1);
        return ended;
    }
    answer(stream, &list(&shared.lock(), kind, namespace))
}

/// A body in chunks, as kubectl sends what it reads from a file.
fn chunked(reader: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        reader.take(size).read_to_end(&mut body)?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Replaces the status of a custom resource, if nobody else has changed the object meanwhile.
fn write_status(shared: &Shared, target: &str, new: &Value) -> Value {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    let [
        "apis",
        group,
        version,
        "namespaces",
        namespace,
        plural,
        name,
        "status",
    ] = steps[..]
    else {
        return not_found(target);
    };
    let api_version = format!("{group}/{version}");
    let kind = KINDS.iter().find(|kind| {
        kind.api_version == api_version && kind.plural == plural && !kind.is_built_in()
    });
    let Some(kind) = kind else {
        return not_found(target);
    };
    let key = (kind.name, namespace.to_owned(), name.to_owned());
    let mut result = Value::Null;
    shared.change(|state| {
        state.writes += 1;
        if state.read_only {
            result = status(403, "Forbidden", "you may not");
            return;
        }
        let Some(mut object) = state.objects.get(&key).cloned() else {
            result = not_found(target);
            return;
        };
        if object["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
            result = status(409, "Conflict", "the object has been modified");
            return;
        }
        state.version += 1;
        object["status"] = new["status"].clone();
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.objects.insert(key.clone(), object.clone());
        state.tell("MODIFIED", key, object.clone());
        result = object;
    });
    result
}

fn not_found(path: &str) -> Value {
    status(404, "NotFound", &format!("{path} is not here"))
}

fn groups() -> Value {
    let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for api_version in KINDS.iter().map(|kind| kind.api_version) {
        if let Some((group, version)) = api_version.split_once('/') {
            let version = json!({"groupVersion": api_version, "version": version});
            let versions = groups.entry(group).or_default();
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    let groups = groups.into_iter().map(
        |(group, versions)| json!({"name": group, "preferredVersion": versions[0], "versions": versions}),
    );
    let groups: Vec<Value> = groups.collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(api_version: &str, kinds: impl Iterator<Item = &'static Kind>) -> Value {
    let resources: Vec<Value> = kinds
        .map(|kind| {
            json!({"name": kind.plural, "singularName": kind.singular, "namespaced": true,
                "kind": kind.name, "verbs": ["get", "list", "watch"]})
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": api_version, "resources": resources})
}

fn list(state: &State, kind: &Kind, namespace: Option<&str>) -> Value {
    let mut items: Vec<Value> = state.all(kind, namespace).cloned().collect();
    for item in items.iter_mut().filter(|_| kind.is_built_in()) {
        let fields = item.as_object_mut().unwrap();
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    json!({"kind": format!("{}List", kind.name), "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": state.version.to_string()}, "items": items})
}

impl State {
    fn all<'a>(
        &'a self,
        kind: &'a Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Value> {
        let objects = self.objects.iter();
        objects
            .filter(move |(key, _)| is_of(key, kind, namespace))
            .map(|(_, object)| object)
    }
}

fn is_of(key: &Key, kind: &Kind, namespace: Option<&str>) -> bool {
    key.0 == kind.name && namespace.is_none_or(|namespace| namespace == key.1)
}

/// How a watch begins.
struct Begin {
    /// After this resource version; 0 begins with all there is.
    after: u64,
    /// It begins with all there is, whatever the version.
    initial: bool,
    bookmarks: bool,
}

fn watch(
    shared: &Shared,
    stream: &TcpStream,
    kind: &Kind,
    namespace: Option<&str>,
    begin: &Begin,
) -> io::Result<()> {
    let mut writer = stream;
    writer.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    )?;
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut state = shared.lock();
    let round = state.round;
    let mut seen = begin.after;
    let mut events = String::new();
    if begin.initial || begin.after == 0 {
        seen = state.version;
        for object in state.all(kind, namespace) {
            chunk(&mut events, "ADDED", object);
        }
    }
    if begin.bookmarks {
        let mut metadata = json!({"resourceVersion": state.version.to_string()});
        if begin.initial {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object =
            json!({"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata});
        chunk(&mut events, "BOOKMARK", &object);
    }
    loop {
        let new = state.log.iter().filter(|event| event.version > seen);
        for event in new.filter(|event| is_of(&event.key, kind, namespace)) {
            chunk(&mut events, event.word, &event.object);
        }
        seen = seen.max(state.version);
        let over = state.round != round || state.stopped;
        if let Some(error) = state.error.as_ref().filter(|_| over) {
            chunk(&mut events, "ERROR", error);
        }
        if over {
            events.push_str("0\r\n\r\n");
        }
        drop(state);
        writer.write_all(events.as_bytes())?;
        events.clear();
        let gone = match stream.peek(&mut [0]) {
            Ok(len) => len == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if over || gone {
            return Ok(());
        }
        let waited = shared.changed.wait_timeout(shared.lock(), LOOK);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Adds a watch event to a chunked answer.
fn chunk(events: &mut String, word: &str, object: &Value) {
    let event = json!({"type": word, "object": object}).to_string();
    let _ = write!(events, "{:x}\r\n{event}\n\r\n", event.len() + 1);
}

fn answer(mut stream: &TcpStream, body: &Value) -> io::Result<()> {
    let code = body["code"].as_u64().unwrap_or(200);
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code} -\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
