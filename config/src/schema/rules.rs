//! What holds between fields, in the Common Expression Language.
//!
//! Lists and texts that a rule goes through are bounded by their schema, or the API server would
//! refuse the definition for what its rules may cost.

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::resource::{MONITOR_INTERVAL, MONITOR_TIMEOUT};
use crate::sketch::{Shape, Sketch, Text};

/// A place, a rule that holds there, and what to say if it does not.
type Rule = (&'static str, &'static str, &'static str);

const VLAN: &[Rule] = &[
    (
        "spec",
        "!has(self.outerTag) || has(self.tag)",
        "outerTag needs tag, the 802.1Q tag inside the 802.1ad one",
    ),
    (
        "spec",
        "!has(self.selfip_v4s) || size(self.selfip_v4s) == 0 || has(self.prefixlen_v4)",
        "prefixlen_v4 is required beside selfip_v4s",
    ),
    (
        "spec",
        "!has(self.prefixlen_v4) || has(self.selfip_v4s)",
        "prefixlen_v4 has no meaning without selfip_v4s",
    ),
    (
        "spec",
        "!has(self.selfip_v6s) || size(self.selfip_v6s) == 0 || has(self.prefixlen_v6)",
        "prefixlen_v6 is required beside selfip_v6s",
    ),
    (
        "spec",
        "!has(self.prefixlen_v6) || has(self.selfip_v6s)",
        "prefixlen_v6 has no meaning without selfip_v6s",
    ),
    (
        "spec.interfaces",
        "self.all(x, self.exists_one(y, x == y))",
        "an interface is listed twice",
    ),
];

const STATIC_ROUTE: &[Rule] = &[
    (
        "spec",
        "self.prefixLen <= 32 || self.destination.contains(':')",
        "prefixLen is at most 32 for an IPv4 destination",
    ),
    (
        "spec",
        "self.destination.contains(':') == self.gateway.contains(':')",
        "gateway must be of the address family of destination",
    ),
    (
        "spec",
        "has(self.interface) || !self.gateway.matches('^[fF][eE][89abAB][0-9a-fA-F]:')",
        "interface is required beside a link-local gateway",
    ),
];

const INGRESS: &[Rule] = &[
    ("spec", DESTINATION.0, DESTINATION.1),
    ("spec", POOL_NAMED.0, POOL_NAMED.1),
    ("spec", POOL_USED.0, POOL_USED.1),
    ("spec.vlans", DISABLED.0, DISABLED.1),
];

const DIAMETER: &[Rule] = &[
    (
        "spec",
        "has(self.externalTCP) || has(self.externalSCTP)",
        "externalTCP is required, or externalSCTP, or both",
    ),
    ("spec.externalTCP", DESTINATION.0, DESTINATION.1),
    ("spec.externalSCTP", DESTINATION.0, DESTINATION.1),
    ("spec.vlans", DISABLED.0, DISABLED.1),
    ("spec", POOL_NAMED.0, POOL_NAMED.1),
    ("spec", POOL_USED.0, POOL_USED.1),
];

const EGRESS: &[Rule] = &[
    (
        "spec",
        "!has(self.snatType) || self.snatType != 'SRC_TRANS_SNATPOOL' || (has(self.egressSnatpool) && self.egressSnatpool != '')",
        "egressSnatpool is required beside snatType: SRC_TRANS_SNATPOOL",
    ),
    (
        "spec",
        "!has(self.snatType) || self.snatType == 'SRC_TRANS_SNATPOOL' || !has(self.egressSnatpool) || self.egressSnatpool == ''",
        "egressSnatpool has no meaning beside this snatType",
    ),
    (
        "spec",
        "!has(self.natMapping) || self.natMapping != 'ENDPOINT_INDEPENDENT' || !has(self.snatType) || self.snatType != 'SRC_TRANS_NONE'",
        "natMapping has no meaning with snatType: SRC_TRANS_NONE",
    ),
    (
        "spec",
        "(has(self.natMapping) && self.natMapping == 'ENDPOINT_INDEPENDENT') || !has(self.natFiltering) || self.natFiltering == 'ADDRESS_AND_PORT_DEPENDENT'",
        "natFiltering needs natMapping: ENDPOINT_INDEPENDENT",
    ),
    (
        "spec",
        "(has(self.natMapping) && self.natMapping == 'ENDPOINT_INDEPENDENT') || !has(self.maxMappingsPerClient)",
        "maxMappingsPerClient needs natMapping: ENDPOINT_INDEPENDENT",
    ),
    ("spec.vlans", DISABLED.0, DISABLED.1),
];

const DESTINATION: (&str, &str) = (
    "has(self.destinationAddress) || has(self.ipv6destinationAddress)",
    "destinationAddress is required, or ipv6destinationAddress, or both",
);

const POOL_NAMED: (&str, &str) = (
    "!has(self.snat) || self.snat != 'SRC_TRANS_SNATPOOL' || has(self.snatpool)",
    "snatpool is required beside snat: SRC_TRANS_SNATPOOL",
);

const POOL_USED: (&str, &str) = (
    "!has(self.snatpool) || (has(self.snat) && self.snat == 'SRC_TRANS_SNATPOOL')",
    "snatpool has no meaning without snat: SRC_TRANS_SNATPOOL",
);

const DISABLED: (&str, &str) = (
    "!has(self.disableListedVlans) || !self.disableListedVlans || has(self.vlanList) || has(self.category)",
    "disableListedVlans lists nothing to disable: vlanList and category are absent",
);

/// One monitor is one item; for the list of each kind of monitor.
const SPLIT: (&str, &str) = (
    "!(self.exists(m, has(m.interval) && !has(m.timeout)) && self.exists(m, has(m.timeout) && !has(m.interval)))",
    "one monitor is split over several list items; write it as one item: - {interval: 5, timeout: 16}",
);

const MONITORS: [&str; 4] = [
    "monitors.tcp",
    "monitors.icmp",
    "monitors.http",
    "monitors.udp",
];

const fn own(kind: Kind) -> &'static [Rule] {
    match kind {
        Kind::Vlan => VLAN,
        Kind::StaticRoute => STATIC_ROUTE,
        Kind::IngressTcp | Kind::IngressUdp | Kind::IngressNgap => INGRESS,
        Kind::IngressDiameter => DIAMETER,
        Kind::Egress => EGRESS,
        Kind::Snatpool | Kind::Service | Kind::EndpointSlice => &[],
    }
}

/// The rules of one place.
pub(super) fn of(kind: Kind, path: &str, sketch: &Sketch) -> Vec<Value> {
    let rule = |rule: &str, message: &str| json!({"rule": rule, "message": message});
    let own = own(kind).iter().filter(|(place, ..)| *place == path);
    let mut rules: Vec<Value> = own.map(|(_, text, why)| rule(text, why)).collect();
    if MONITORS.contains(&path) {
        rules.push(rule(SPLIT.0, SPLIT.1));
    }
    if MONITORS
        .iter()
        .any(|list| path.strip_suffix("[]") == Some(list))
    {
        rules.push(rule(
            &format!(
                "(has(self.timeout) ? self.timeout : {MONITOR_TIMEOUT}) >= \
                 (has(self.interval) ? self.interval : {MONITOR_INTERVAL})"
            ),
            &format!(
                "timeout (default {MONITOR_TIMEOUT}) is shorter than interval (default {MONITOR_INTERVAL})"
            ),
        ));
    }
    let places = sketch.places();
    let refused = places.iter().filter(|place| place.shape == Shape::Refused);
    for name in refused.filter_map(|place| super::child_name(path, &place.path)) {
        let message = format!("{name} is not supported yet");
        rules.push(rule(&format!("!has(self.{name})"), &message));
    }
    rules
}

/// What holds of a form of text, where a pattern would not say what is wrong.
pub(super) fn of_text(form: Text) -> Option<Value> {
    const NO_HOST: &str = "cannot be the address of a host";
    const V4: &str = "^(0[.]0[.]0[.]0|255[.]255[.]255[.]255|(22[4-9]|23[0-9])[.].*)$";
    const V6: &str = "^([fF][fF][0-9a-fA-F]{2}:.*|[0:.]+)$";
    const V6_OR_V4: &str =
        "^([fF][fF][0-9a-fA-F]{2}:.*|[0:.]+|255[.]255[.]255[.]255|(22[4-9]|23[0-9])[.].*)$";
    let is_not = |pattern: &str| format!("!self.matches('{pattern}')");
    let (rule, message) = match form {
        Text::Ipv4Host => (is_not(V4), NO_HOST),
        Text::Ipv6Host => (is_not(V6), NO_HOST),
        Text::IpHost => (is_not(V6_OR_V4), NO_HOST),
        Text::Ipv4Destination => (
            format!("self.contains('/') || {}", is_not(V4)),
            "is not a unicast address; a wildcard is written 0.0.0.0/0",
        ),
        Text::Ipv6Destination => (
            format!("self.contains('/') || {}", is_not(V6)),
            "is not a unicast address; a wildcard is written ::/0",
        ),
        Text::PortName => (
            "type(self) == int || (self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[^0-9]'))".to_owned(),
            "is neither a port number (without quotes) nor the name of a Service port",
        ),
        _ => return None,
    };
    Some(json!({"rule": rule, "message": message}))
}

/// What is kept of a field that is refused: rules see only fields that have a type.
pub(super) fn refused(path: &str) -> Value {
    match path {
        "spec.persistence"
        | "spec.internalTCP"
        | "spec.internalSCTP"
        | "spec.externalSession"
        | "spec.internalSession" => {
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        }
        _ => json!({"type": "string"}),
    }
}

/// Places that have rules.
#[cfg(test)]
pub(super) fn paths(kind: Kind) -> Vec<&'static str> {
    own(kind).iter().map(|(path, ..)| *path).collect()
}
