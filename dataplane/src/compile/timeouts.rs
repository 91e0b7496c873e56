//! How long flows may be silent, worked out once per virtual server.

use conntrack::Timeouts;
use lb::{VirtualServer, VirtualServers};
use net::IpProto;

use crate::lasting::Lasting;

/// Those of each virtual server.
pub(super) fn compile(servers: &VirtualServers) -> Lasting {
    let mut lasting = Lasting::default();
    for server in servers {
        lasting.set(server.id, &timeouts(server));
    }
    lasting
}

/// How long flows of a virtual server may be silent.
fn timeouts(virtual_server: &VirtualServer) -> Timeouts {
    let base = match virtual_server.proto {
        IpProto::TCP => Timeouts::tcp(),
        IpProto::SCTP => Timeouts::sctp(),
        _ => Timeouts::udp(),
    };
    let profile = &virtual_server.profile;
    let base = base.with_idle(profile.idle_timeout);
    if virtual_server.proto == IpProto::TCP {
        let tcp = &profile.tcp;
        return base
            .with_opening(tcp.handshake_timeout)
            .with_half_closed(tcp.half_close_timeout.unwrap_or(profile.idle_timeout))
            .with_closing(tcp.close_timeout)
            .with_time_wait(tcp.time_wait_timeout);
    }
    if virtual_server.proto == IpProto::SCTP {
        let sctp = &profile.sctp;
        return base
            .with_opening(sctp.handshake_timeout)
            .with_closing(sctp.shutdown_timeout);
    }
    // Traffic that is never answered, such as syslog, is traffic all the same.
    base.with_opening(
        profile
            .udp
            .unreplied_timeout
            .unwrap_or(profile.idle_timeout),
    )
}
