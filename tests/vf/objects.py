"""The custom resources of the test, as a cluster would hand them over."""

VIP = {"automap": ("203.0.113.10", "2001:db8:ffff::10"), "none": ("203.0.113.20", "2001:db8:ffff::20")}


def vlan(name, tag, interfaces, v4, v6=None):
    spec = {
        "name": name, "tag": tag, "interfaces": interfaces, "internal": name == "internal",
        "selfip_v4s": [v4], "prefixlen_v4": 24,
    }
    if v6:
        spec |= {"selfip_v6s": [v6], "prefixlen_v6": 64}
    return {"apiVersion": "k8s.f5net.com/v1", "kind": "F5SPKVlan", "metadata": {"name": name}, "spec": spec}


def vlans(external=("1.1",), internal=("1.2",)):
    return [
        vlan("external", 100, list(external), "192.0.2.1", "2001:db8:100::1"),
        vlan("internal", 200, list(internal), "198.51.100.1", "2001:db8:200::1"),
    ]


THIRD_VLAN = vlan("third", 300, ["1.1"], "192.0.3.1")


def service():
    ports = [("http", "TCP", 80, 8080), ("echo", "UDP", 7, 7007)]
    objects = [{
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{"name": n, "protocol": p, "port": a, "targetPort": b} for n, p, a, b in ports],
        },
    }]
    for family, address in (("IPv4", "198.51.100.11"), ("IPv6", "2001:db8:200::11")):
        objects.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"web-{family.lower()}", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": family,
            "ports": [{"name": n, "protocol": p, "port": b} for n, p, _, b in ports],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        })
    return objects


def virtual_servers():
    objects = []
    for snat, (v4, v6) in VIP.items():
        for protocol, port in (("TCP", 80), ("UDP", 7)):
            objects.append({
                "apiVersion": f"ingress{protocol.lower()}.k8s.f5net.com/v1", "kind": f"F5SPKIngress{protocol}",
                "metadata": {"name": f"{protocol.lower()}-{snat}"},
                "service": {"name": "web", "port": port},
                "spec": {
                    "destinationAddress": v4, "ipv6destinationAddress": v6, "destinationPort": port,
                    "snat": f"SRC_TRANS_{snat.upper()}", "idleTimeout": 300, "vlans": {"vlanList": ["external"]},
                },
            })
    return objects


def everything(**more):
    return [*vlans(**more), *service(), *virtual_servers()]
