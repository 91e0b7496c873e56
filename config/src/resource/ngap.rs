//! `F5SPKIngressNGAP`: an SCTP virtual server in front of access and mobility functions (3GPP TS 38.412).

use super::ingress::{self, Ingress};
use crate::reader::Fields;
use crate::types::Protocol;

/// The port of NGAP (IANA).
const PORT: u16 = 38412;

pub(super) fn read(object: &Fields<'_>) -> Option<Ingress> {
    ingress::read_with(object, |f| {
        let place = ingress::read_place(f, Some(PORT));
        let common = ingress::read_common(f, Protocol::Sctp);
        Some([common.at(Protocol::Sctp, place?)])
    })?
    .pop()
}
