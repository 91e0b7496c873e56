//! Routes that vanish with an interface's addresses, so that they can be put back.

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol,
};

use super::record::Message;

/// The routes worth keeping: those that somebody has set, not those that the kernel makes with an
/// address. Those that reach their destination directly come first, for the others need them.
pub fn to_be_kept<'a>(routes: impl Iterator<Item = &'a RouteMessage>) -> Vec<Message> {
    let mut kept: Vec<RouteMessage> = routes
        .filter(|route| route.header.protocol != RouteProtocol::Kernel)
        .filter(|route| !route.header.flags.contains(RouteFlags::Cloned))
        .cloned()
        .map(settable)
        .collect();
    kept.sort_by_key(has_gateway);
    kept.into_iter()
        .map(|route| Message::of_route(text(&route), &route))
        .collect()
}

/// A route without what the kernel tells but does not take.
fn settable(mut route: RouteMessage) -> RouteMessage {
    route.header.flags &= RouteFlags::Onlink | RouteFlags::Pervasive;
    route
        .attributes
        .retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
    route
}

fn has_gateway(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
        )
    })
}

/// A route as people write it.
fn text(route: &RouteMessage) -> String {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => ip.to_string(),
        RouteAddress::Inet6(ip) => ip.to_string(),
        _ => "?".to_owned(),
    };
    let mut destination = "default".to_owned();
    let mut rest = String::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let length = route.header.destination_prefix_length;
                destination = format!("{}/{length}", ip(address));
            }
            RouteAttribute::Gateway(address) => {
                rest = format!(" via {}{rest}", ip(address));
            }
            RouteAttribute::Priority(metric) => {
                rest = format!("{rest} metric {metric}");
            }
            RouteAttribute::Table(table) if *table != 254 => {
                rest = format!("{rest} table {table}");
            }
            _ => {}
        }
    }
    destination + &rest
}
