//! The custom resources of the lab, as a cluster would hand them over.

use serde_json::{Value, json};

/// tmm's own addresses on the client's VLAN.
pub const EXTERNAL_SELF: [&str; 2] = ["192.0.2.1", "2001:db8:100::1"];
/// tmm's own addresses on the backends' VLAN.
pub const INTERNAL_SELF: [&str; 2] = ["198.51.100.1", "2001:db8:200::1"];
/// The client's addresses.
pub const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:100::10"];
/// Virtual addresses the client reaches by a route through tmm's own address.
pub const VIP: [&str; 2] = ["203.0.113.10", "2001:db8:ffff::10"];
/// Virtual addresses inside the client's own subnets.
pub const ON_LINK_VIP: [&str; 2] = ["192.0.2.100", "2001:db8:100::100"];

/// Port of the virtual HTTP server; the backends listen on [`BACKEND_HTTP`].
pub const HTTP: u16 = 80;
/// Port of the virtual UDP echo; the backends listen on [`BACKEND_ECHO`].
pub const ECHO: u16 = 7;
/// Port of the virtual iperf3 server, and of the real ones.
pub const IPERF: u16 = 5201;
/// Where a backend serves HTTP.
pub const BACKEND_HTTP: u16 = 8080;
/// Where a backend echoes datagrams.
pub const BACKEND_ECHO: u16 = 7007;

/// The addresses of backend `number` (1, 2, 3).
pub fn backend(number: usize) -> [String; 2] {
    [
        format!("198.51.100.1{number}"),
        format!("2001:db8:200::1{number}"),
    ]
}

/// The VLANs: 100 on interface 1.1 and 200 on 1.2, or both on 1.1 if `one_arm`; with `outer`, both
/// inside that service VLAN.
pub fn vlans(one_arm: bool, outer: Option<u16>) -> [Value; 2] {
    let vlan = |name: &str, tag: u16, interface: &str, own: [&str; 2]| {
        let mut object = json!({
            "apiVersion": "k8s.f5net.com/v1",
            "kind": "F5SPKVlan",
            "metadata": {"name": name},
            "spec": {
                "name": name,
                "tag": tag,
                "interfaces": [interface],
                "internal": name == "internal",
                "selfip_v4s": [own[0]],
                "prefixlen_v4": 24,
                "selfip_v6s": [own[1]],
                "prefixlen_v6": 64,
            },
        });
        if let Some(outer) = outer {
            object["spec"]["outerTag"] = outer.into();
        }
        object
    };
    [
        vlan("external", 100, "1.1", EXTERNAL_SELF),
        vlan(
            "internal",
            200,
            if one_arm { "1.1" } else { "1.2" },
            INTERNAL_SELF,
        ),
    ]
}

/// The Service `web` and its endpoint slices; `ready` says which of the three backends are.
pub fn service(ready: [bool; 3]) -> [Value; 3] {
    let slice = |family: usize, address_type: &str| {
        let endpoints: Vec<_> = (1..=3)
            .map(|number| json!({"addresses": [backend(number)[family]], "conditions": {"ready": ready[number - 1]}}))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("web-{}", address_type.to_ascii_lowercase()),
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": address_type,
            "ports": [
                {"name": "http", "protocol": "TCP", "port": BACKEND_HTTP},
                {"name": "iperf", "protocol": "TCP", "port": IPERF},
                {"name": "echo", "protocol": "UDP", "port": BACKEND_ECHO},
            ],
            "endpoints": endpoints,
        })
    };
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "ports": [
                {"name": "http", "protocol": "TCP", "port": HTTP, "targetPort": BACKEND_HTTP},
                {"name": "iperf", "protocol": "TCP", "port": IPERF, "targetPort": IPERF},
                {"name": "echo", "protocol": "UDP", "port": ECHO, "targetPort": BACKEND_ECHO},
            ],
        },
    });
    [service, slice(0, "IPv4"), slice(1, "IPv6")]
}

/// A virtual server for a port of `web`, listening on the client's VLAN at both `addresses`.
pub fn virtual_server(
    name: &str,
    port: u16,
    addresses: [&str; 2],
    snat: &str,
    idle_timeout: u32,
) -> Value {
    let protocol = if port == ECHO { "UDP" } else { "TCP" };
    json!({
        "apiVersion": format!("ingress{}.k8s.f5net.com/v1", protocol.to_ascii_lowercase()),
        "kind": format!("F5SPKIngress{protocol}"),
        "metadata": {"name": name},
        "service": {"name": "web", "port": port},
        "spec": {
            "destinationAddress": addresses[0],
            "ipv6destinationAddress": addresses[1],
            "destinationPort": port,
            "snat": snat,
            "idleTimeout": idle_timeout,
            "vlans": {"vlanList": ["external"]},
        },
    })
}

/// A route to `destination`/`prefix_len` through `gateway`.
pub fn static_route(name: &str, destination: &str, prefix_len: u8, gateway: &str) -> Value {
    json!({
        "apiVersion": "k8s.f5net.com/v1",
        "kind": "F5SPKStaticRoute",
        "metadata": {"name": name},
        "spec": {"destination": destination, "prefixLen": prefix_len, "type": "gateway", "gateway": gateway},
    })
}

/// VLANs, the Service with all backends ready, and virtual servers for HTTP, iperf3 and echo.
pub fn everything(one_arm: bool, outer: Option<u16>, snat: &str) -> Vec<Value> {
    let mut objects = vlans(one_arm, outer).to_vec();
    objects.extend(service([true; 3]));
    objects.push(virtual_server("http", HTTP, VIP, snat, 300));
    objects.push(virtual_server("iperf", IPERF, VIP, snat, 300));
    objects.push(virtual_server("echo", ECHO, VIP, snat, 5));
    objects
}
