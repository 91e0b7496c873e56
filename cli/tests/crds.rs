//! The definitions that `tmmctl crds` prints.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::ctl;
use config::{Kind, document, schema};

fn crds(args: &[&str]) -> common::Ran {
    let args: Vec<&str> = std::iter::once("crds")
        .chain(args.iter().copied())
        .collect();
    ctl(Path::new("/nonexistent"), &args, "")
}

#[test]
fn all_definitions_are_printed_as_documents_without_a_tmm() {
    let ran = crds(&[]);
    assert_eq!((ran.code, &*ran.err), (0, ""), "{ran}");
    let printed = document::read_text("crds", &ran.out).into_iter();
    let printed: Vec<_> = printed.map(|document| document.content.unwrap()).collect();
    assert_eq!(printed, schema::definitions());
}

#[test]
fn kinds_are_chosen_by_any_of_their_names() {
    for name in ["F5SPKVlan", "vlan", "f5-spk-vlans"] {
        let ran = crds(&[name]);
        assert_eq!(ran.out, format!("---\n{}", schema::yaml(Kind::Vlan)));
    }
}

#[test]
fn a_kind_without_a_definition_is_refused_with_those_that_have_one() {
    for name in ["service", "gateway"] {
        let ran = crds(&[name]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.contains(
                "(there are F5SPKVlan, F5SPKStaticRoute, F5SPKIngressTCP, F5SPKIngressUDP, \
                 F5SPKIngressNGAP, F5SPKIngressDiameter, F5SPKSnatpool, F5SPKEgress)"
            ),
            "{ran}"
        );
        assert!(ran.out.is_empty());
    }
}
