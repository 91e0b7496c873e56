//! Objects in one line each, with the field names they have in a manifest.
//!
//! ```text
//! F5SPKVlan external tag=100 interfaces=["1.1"] selfip_v4s=["192.0.2.1"] prefixlen_v4=24
//! F5SPKIngressTCP web service=web:80 destinationAddress=203.0.113.10 destinationPort=80
//! Service web 80/TCP 53/UDP
//! EndpointSlice web TCP 198.51.100.11:8080 198.51.100.12:8080
//! ```
//!
//! A value is JSON without blanks; what is no JSON is a string.

use serde_json::{Map, Value, json};

/// The object that a line describes.
///
/// Errors: what is missing, in words.
pub fn object(line: &str) -> Result<Value, String> {
    let mut words = line.split_whitespace();
    let kind = words.next().ok_or("no kind")?;
    let name = words.next().ok_or("no name")?;
    let rest: Vec<&str> = words.collect();
    match kind {
        "Service" => service(name, &rest),
        "EndpointSlice" => endpoint_slice(name, &rest),
        _ => resource(kind, name, &rest),
    }
}

fn service(name: &str, ports: &[&str]) -> Result<Value, String> {
    let ports: Result<Vec<Value>, String> = ports
        .iter()
        .map(|text| {
            let (port, protocol) = text.split_once('/').ok_or("a port is 80/TCP")?;
            let number: u16 = port.parse().map_err(|_| "a port is a number")?;
            Ok(json!({"name": format!("p{port}"), "port": number, "protocol": protocol}))
        })
        .collect();
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": ports?}}),
    )
}

/// `EndpointSlice SERVICE[:PORT[/SLICE]] PROTOCOL ADDRESS:PORT… [STATE ADDRESS:PORT…]`; the Service
/// port is 80 where none is given. All addresses are of one family and have one port. Those behind
/// `not-ready` are not; behind `terminating` they serve what they have, behind `ended` no longer.
fn endpoint_slice(name: &str, words: &[&str]) -> Result<Value, String> {
    let (service, port) = name.split_once(':').unwrap_or((name, "80"));
    let (port, slice) = port.split_once('/').unwrap_or((port, "1"));
    let (protocol, addresses) = words.split_first().ok_or("no protocol")?;
    let mut conditions = json!({"ready": true});
    let mut endpoints = Vec::new();
    let (mut family, mut number) = ("IPv4", 8080);
    for word in addresses {
        let state = match *word {
            "not-ready" => Some(json!({"ready": false})),
            "terminating" => Some(json!({"ready": false, "serving": true, "terminating": true})),
            "ended" => Some(json!({"ready": false, "serving": false, "terminating": true})),
            _ => None,
        };
        if let Some(state) = state {
            conditions = state;
            continue;
        }
        let address: std::net::SocketAddr = word
            .parse()
            .map_err(|_| format!("{word} is no address with port"))?;
        family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        number = address.port();
        endpoints.push(json!({"addresses": [address.ip()], "conditions": conditions}));
    }
    Ok(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-{port}-{}-{slice}", family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": format!("p{port}"), "port": number, "protocol": protocol}],
        "endpoints": endpoints,
    }))
}

fn resource(kind: &str, name: &str, fields: &[&str]) -> Result<Value, String> {
    let api = match kind {
        "F5SPKIngressTCP" => "ingresstcp.k8s.f5net.com/v1",
        "F5SPKIngressUDP" => "ingressudp.k8s.f5net.com/v1",
        _ => "k8s.f5net.com/v1",
    };
    let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}});
    let mut spec = Map::new();
    if matches!(kind, "F5SPKVlan" | "F5SPKSnatpool") {
        spec.insert("name".to_owned(), json!(name));
    }
    for field in fields {
        let (key, text) = field
            .split_once('=')
            .ok_or_else(|| format!("{field} is no field=value"))?;
        if key == "service" {
            let (service, port) = text.split_once(':').ok_or("service=NAME:PORT")?;
            let port: u16 = port.parse().map_err(|_| "service=NAME:PORT")?;
            object["service"] = json!({"name": service, "port": port});
            continue;
        }
        let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        // `externalTCP.destinationPort=3868` is a field of a field.
        if let Some((outer, inner)) = key.split_once('.') {
            let outer = spec.entry(outer).or_insert_with(|| json!({}));
            outer[inner] = value;
            continue;
        }
        spec.insert(key.to_owned(), value);
    }
    object["spec"] = Value::Object(spec);
    Ok(object)
}
