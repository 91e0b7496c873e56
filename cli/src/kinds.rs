//! Kinds by the names people type.

use clap::builder::PossibleValue;
use config::Kind;

/// Short names, and the one a cluster has a custom kind by; the first is the one that is suggested.
const fn short_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Vlan => &["vlan", "spkvlan", "f5-spk-vlan"],
        Kind::StaticRoute => &[
            "route",
            "staticroute",
            "spkstaticroute",
            "f5-spk-staticroute",
        ],
        Kind::IngressTcp => &["ingresstcp", "tcp", "spkingresstcp", "f5-spk-ingresstcp"],
        Kind::IngressUdp => &["ingressudp", "udp", "spkingressudp", "f5-spk-ingressudp"],
        Kind::IngressNgap => &[
            "ingressngap",
            "ngap",
            "spkingressngap",
            "f5-spk-ingressngap",
        ],
        Kind::IngressDiameter => &[
            "ingressdiameter",
            "diameter",
            "spkingressdiameter",
            "f5-spk-ingressdiameter",
        ],
        Kind::Snatpool => &["snatpool", "spksnatpool", "f5-spk-snatpool"],
        Kind::Egress => &[
            "egress",
            "egresses",
            "spkegress",
            "f5-spk-egress",
            "f5-spk-egresses",
        ],
        Kind::Service => &["service", "svc"],
        Kind::EndpointSlice => &["endpointslice", "eps"],
    }
}

/// Short names of all kinds, for help and completion.
pub fn suggestions() -> Vec<PossibleValue> {
    let all = Kind::ALL.into_iter();
    all.filter_map(|kind| {
        let name = short_names(kind).first()?;
        Some(PossibleValue::new(*name).help(kind.name()))
    })
    .collect()
}

/// The kind of that name: in any case, in the plural, or short.
pub fn find(text: &str) -> Option<Kind> {
    let text = text.to_ascii_lowercase();
    let same = |name: &str| text == name || text.strip_suffix('s') == Some(name);
    Kind::ALL.into_iter().find(|kind| {
        same(&kind.name().to_ascii_lowercase()) || short_names(*kind).iter().any(|name| same(name))
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

    #[test]
    fn a_custom_kind_is_found_by_the_names_that_clusters_have_it_by() {
        for (singular, kind) in [
            ("f5-spk-vlan", Kind::Vlan),
            ("f5-spk-staticroute", Kind::StaticRoute),
            ("f5-spk-ingresstcp", Kind::IngressTcp),
            ("f5-spk-ingressudp", Kind::IngressUdp),
            ("f5-spk-ingressngap", Kind::IngressNgap),
            ("f5-spk-ingressdiameter", Kind::IngressDiameter),
        ] {
            assert_eq!(find(singular), Some(kind), "{singular}");
            assert_eq!(full_name(&format!("{singular}s")), kind.name());
        }
        assert_eq!(find("f5-spk-snatpools"), Some(Kind::Snatpool));
        assert_eq!(find("f5-spk-egresses"), Some(Kind::Egress));
        assert_eq!(find("f5-spk-dnscache"), None);
    }
}
