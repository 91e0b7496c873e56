//! Which rows of a table are wanted.

use std::str::FromStr;

use config::FieldError;
use net::{IpProto, L4Port};
use serde_json::Value;

use super::Row;
use crate::command::FlowFilter;

/// Keeps the rows whose columns have the values that the filter names; a text matches its part.
pub(super) fn filter_rows(rows: Vec<Row>, filter: &Row) -> Result<Vec<Row>, Vec<FieldError>> {
    if let (Some(first), false) = (rows.first(), filter.is_empty()) {
        let columns: Vec<&str> = first.keys().map(String::as_str).collect();
        let unknown = filter.keys().filter(|name| !first.contains_key(*name));
        let errors: Vec<FieldError> = unknown
            .map(|name| {
                let message = format!("no such column; there are {}", columns.join(", "));
                FieldError::new(format!("filter.{name}"), message)
            })
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
    }
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let selects = |row: &Row| {
        filter.iter().all(|(name, wanted)| {
            row.get(name)
                .is_some_and(|value| text(value).contains(&text(wanted)))
        })
    };
    Ok(rows.into_iter().filter(selects).collect())
}

pub(super) fn flow_filter(filter: &Row) -> Result<FlowFilter, Vec<FieldError>> {
    let mut wanted = FlowFilter::default();
    let mut errors = Vec::new();
    for (name, value) in filter {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let path = format!("filter.{name}");
        match name.as_str() {
            "virtualServer" => wanted.virtual_server = Some(text),
            "state" => {
                let known = |state: &conntrack::State| state.name().eq_ignore_ascii_case(&text);
                if conntrack::State::ALL.iter().any(known) {
                    wanted.state = Some(text);
                } else {
                    let names = conntrack::State::ALL.map(conntrack::State::name);
                    let message = format!("no state \"{text}\"; there are {}", names.join(", "));
                    errors.push(FieldError::new(path, message));
                }
            }
            "client" => parsed(
                &text,
                "an IP address or subnet",
                path,
                &mut wanted.client,
                &mut errors,
            ),
            "member" => parsed(
                &text,
                "an IP address or subnet",
                path,
                &mut wanted.member,
                &mut errors,
            ),
            "destination" => {
                parsed(
                    &text,
                    "an IP address or subnet",
                    path,
                    &mut wanted.destination,
                    &mut errors,
                );
            }
            "port" => {
                let mut port = None;
                parsed(&text, "a port (0-65535)", path, &mut port, &mut errors);
                wanted.port = port.map(L4Port);
            }
            "protocol" => match text.to_ascii_lowercase().as_str() {
                "tcp" => wanted.protocol = Some(IpProto::TCP),
                "udp" => wanted.protocol = Some(IpProto::UDP),
                "sctp" => wanted.protocol = Some(IpProto::SCTP),
                "icmp" => wanted.protocol = Some(IpProto::ICMP),
                "icmpv6" => wanted.protocol = Some(IpProto::ICMPV6),
                _ => errors.push(FieldError::new(
                    path,
                    format!("\"{text}\" is none of tcp, udp, sctp, icmp, icmpv6"),
                )),
            },
            _ => errors.push(FieldError::new(
                path,
                "no such filter; there are virtualServer, client, member, destination, port, \
                 protocol, state",
            )),
        }
    }
    if errors.is_empty() {
        Ok(wanted)
    } else {
        Err(errors)
    }
}

fn parsed<T: FromStr>(
    text: &str,
    what: &str,
    path: String,
    into: &mut Option<T>,
    errors: &mut Vec<FieldError>,
) {
    match text.parse() {
        Ok(value) => *into = Some(value),
        Err(_) => errors.push(FieldError::new(path, format!("\"{text}\" is not {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_no_flow_can_have_is_refused_with_those_there_are() {
        let filter =
            |state: &str| flow_filter(&Row::from_iter([("state".to_owned(), Value::from(state))]));
        let wanted = filter("established").unwrap();
        assert_eq!(wanted.state.as_deref(), Some("established"));
        for wrong in ["BOGUS", "", "ESTAB"] {
            let errors = filter(wrong).unwrap_err();
            assert_eq!(errors[0].field, "filter.state");
            for state in conntrack::State::ALL {
                assert!(errors[0].message.contains(state.name()), "{errors:?}");
            }
        }
    }
}
