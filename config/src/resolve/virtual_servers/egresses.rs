//! Ways out of the cluster: wildcards, which share the claims of virtual servers.

use net::{IpPrefix, L4Port};

use super::{Claims, ListenScope};
use crate::meta::ObjectKey;
use crate::resolve::{ObjectState, ReasonCode, Reasons, snat_pools};
use crate::resource::EgressSpec;
use crate::store::Stored;
use crate::types::{Egress, Protocol, SnatPool};

/// The egress of one object, unless something else has its place.
pub(super) fn resolve<'s>(
    key: &'s ObjectKey,
    stored: &Stored,
    spec: &EgressSpec,
    (listen, mut reasons): (ListenScope, Reasons),
    pools: &[SnatPool],
    claims: &mut Claims<'s>,
) -> (Option<Egress>, ObjectState) {
    snat_pools::check(
        pools,
        (spec.snat, spec.snat_pool.as_deref()),
        "spec.egressSnatpool",
        (true, spec.dual_stack),
        &mut reasons,
    );
    let mut wildcards = Vec::new();
    for any in ["0.0.0.0/0", "::/0"]
        .into_iter()
        .take(1 + usize::from(spec.dual_stack))
    {
        if let Ok(destination) = any.parse::<IpPrefix>() {
            wildcards.extend([Protocol::Tcp, Protocol::Udp].map(|p| (p, destination, L4Port(0))));
        }
    }
    let mut conflict = false;
    for wildcard in &wildcards {
        let claim = claims.entry(*wildcard).or_default();
        if let Some((by, vlan)) = claim.conflict(&listen) {
            let place = vlan.map_or_else(String::new, |vlan| format!(" on VLAN \"{vlan}\""));
            let message = format!("{} {}{place} is taken by {by}", wildcard.0, wildcard.1);
            reasons.add(ReasonCode::Conflict, message);
            conflict = true;
        }
    }
    if !conflict {
        for wildcard in wildcards {
            claims.entry(wildcard).or_default().take(key, &listen);
        }
    }
    let egress = (!conflict).then(|| Egress {
        name: key.path(),
        object: key.clone(),
        dual_stack: spec.dual_stack,
        snat: spec.snat,
        snat_pool: spec.snat_pool.clone(),
        listen,
        nat: spec.nat,
        timeouts: spec.timeouts,
    });
    (egress, reasons.into_state(key, stored))
}
