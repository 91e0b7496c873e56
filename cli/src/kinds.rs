//! Kinds by the names people type.

use config::Kind;

/// The kind of that name: in any case, in the plural, or short.
pub fn find(text: &str) -> Option<Kind> {
    let text = text.to_ascii_lowercase();
    let same = |name: &str| text == name || text.strip_suffix('s') == Some(name);
    Kind::ALL.into_iter().find(|kind| {
        let short: &[&str] = match kind {
            Kind::Vlan => &["vlan", "spkvlan"],
            Kind::StaticRoute => &["route", "staticroute", "spkstaticroute"],
            Kind::IngressTcp => &["tcp", "ingresstcp", "spkingresstcp"],
            Kind::IngressUdp => &["udp", "ingressudp", "spkingressudp"],
            Kind::Service => &["svc"],
            Kind::EndpointSlice => &["eps", "slice"],
        };
        same(&kind.name().to_ascii_lowercase()) || short.iter().any(|name| same(name))
    })
}

/// The name tmm knows a kind by; one that is unknown here is left to tmm to judge.
pub fn full_name(text: &str) -> String {
    find(text).map_or_else(|| text.to_owned(), |kind| kind.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_in_any_case_and_number() {
        for kind in Kind::ALL {
            for name in [
                kind.name().to_owned(),
                kind.name().to_lowercase(),
                format!("{}s", kind.name()),
            ] {
                assert_eq!(find(&name), Some(kind), "{name}");
            }
        }
        assert_eq!(find("vlans"), Some(Kind::Vlan));
        assert_eq!(find("routes"), Some(Kind::StaticRoute));
        assert_eq!(find("svc"), Some(Kind::Service));
        assert_eq!(find("pod"), None);
        assert_eq!(find("s"), None);
        assert_eq!(full_name("Gateway"), "Gateway");
    }
}
