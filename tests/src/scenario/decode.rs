//! Frames to their notation. Fields are read from the octets here and not by the parser under test,
//! which only has to agree that the frame is well formed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dataplane::memory::MemoryFrame;
use dataplane::port::Frame;
use net::{Layers, MacAddr, PortId};

use super::fragments::Part;
use super::names;

/// The notation of a frame that left by `port`. A field with its usual value is left out: TTL 64
/// (neighbour discovery 255), window 1000, no payload.
pub fn frame(port: PortId, frame: &MemoryFrame) -> String {
    // What the device said of the frame that came in means nothing on the way out.
    let verdict = Layers::parse(&MemoryFrame::new(frame.octets()).packet()).err();
    let octets = frame.octets();
    let Some(text) = read(octets) else {
        return format!("{port} undecoded {}", hex(octets));
    };
    let complaint = verdict.map_or_else(String::new, |error| format!(" !! {error}"));
    let inserted = frame
        .insert_tci
        .map_or_else(String::new, |tci| format!(" insert={tci}"));
    format!("{port} {text}{inserted}{complaint}")
}

fn read(octets: &[u8]) -> Option<String> {
    let destination = mac(octets, 0)?;
    let source = mac(octets, 6)?;
    let (mut at, mut tags) = (12, String::new());
    let mut kind = word(octets, at)?;
    while matches!(kind, 0x8100 | 0x88a8) {
        let id = word(octets, at + 2)? & 0x0fff;
        tags = match (kind, tags.is_empty()) {
            (0x88a8, true) => format!("s{id}"),
            (_, true) => id.to_string(),
            _ => format!("{tags}.{id}"),
        };
        at += 4;
        kind = word(octets, at)?;
    }
    if tags.is_empty() {
        "-".clone_into(&mut tags);
    }
    let l3 = octets.get(at + 2..)?;
    let body = match kind {
        0x0806 => arp(l3)?,
        0x0800 => ipv4(l3)?,
        0x86dd => ipv6(l3)?,
        _ => format!("raw {kind:04x} {}", hex(l3)),
    };
    let (source, destination) = (names::of(source), names::of(destination));
    Some(format!("{tags} {source}>{destination} {body}"))
}

fn arp(l3: &[u8]) -> Option<String> {
    let v4 = |at: usize| Some(Ipv4Addr::from(*l3.get(at..)?.first_chunk::<4>()?));
    let (sender, target) = (v4(14)?, v4(24)?);
    Some(match word(l3, 6)? {
        1 => format!("arp who-has {target} tell {sender}"),
        2 => {
            let (mac, to) = (names::of(mac(l3, 8)?), names::of(mac(l3, 18)?));
            format!("arp {sender} is-at {mac} tell {target} at {to}")
        }
        other => format!("arp operation {other}"),
    })
}

fn ipv4(l3: &[u8]) -> Option<String> {
    let total = usize::from(word(l3, 2)?);
    let header = usize::from(l3.first()? & 0x0f) * 4;
    let v4 = |at: usize| Some(IpAddr::from(*l3.get(at..)?.first_chunk::<4>()?));
    let segment = l3.get(..total)?.get(header..)?;
    let part = Part::v4(l3);
    let ends = (v4(12)?, v4(16)?);
    let mut text = fragment_or_packet(part, *l3.get(9)?, ends, segment, *l3.get(8)?)?;
    if part.is_none() && l3.get(6)? & 0x40 == 0 {
        text.push_str(&format!(" nodf fid={}", word(l3, 4)?));
    }
    Some(if header == 20 {
        text
    } else {
        format!("{text} ihl={header}")
    })
}

fn ipv6(l3: &[u8]) -> Option<String> {
    let v6 = |at: usize| Some(IpAddr::from(*l3.get(at..)?.first_chunk::<16>()?));
    let end = 40 + usize::from(word(l3, 4)?);
    let (src, dst) = (v6(8)?, v6(24)?);
    let (mut next, mut at) = (*l3.get(6)?, 40);
    if next == 0 {
        next = *l3.get(40)?;
        at += 8 + usize::from(*l3.get(41)?) * 8;
    }
    let mut part = None;
    if next == 44 {
        part = Part::v6(l3.get(at..)?);
        next = *l3.get(at)?;
        at += 8;
    }
    fragment_or_packet(part, next, (src, dst), l3.get(at..end)?, *l3.get(7)?)
}

fn fragment_or_packet(
    part: Option<Part>,
    proto: u8,
    (src, dst): (IpAddr, IpAddr),
    segment: &[u8],
    ttl: u8,
) -> Option<String> {
    let Some(part) = part else {
        return transport(proto, src, dst, segment, ttl, false);
    };
    if part.at > 0 {
        let mut text = part.piece((src.to_string(), dst.to_string()), proto, segment);
        if ttl != 64 {
            text.push_str(&format!(" ttl={ttl}"));
        }
        return Some(text);
    }
    Some(transport(proto, src, dst, segment, ttl, true)? + &part.suffix(segment.len()))
}

fn transport(
    proto: u8,
    src: IpAddr,
    dst: IpAddr,
    segment: &[u8],
    ttl: u8,
    first: bool,
) -> Option<String> {
    let usual = |ttl: u8, usual: u8| {
        if ttl == usual {
            String::new()
        } else {
            format!(" ttl={ttl}")
        }
    };
    let ports = || {
        let (sport, dport) = (word(segment, 0)?, word(segment, 2)?);
        let (src, dst) = (SocketAddr::new(src, sport), SocketAddr::new(dst, dport));
        Some(format!("{src}>{dst}"))
    };
    Some(match proto {
        6 => {
            let flags = *segment.get(13)?;
            let mut text = format!("tcp {} {}", ports()?, names::of_flags(flags));
            text.push_str(&format!(" seq={}", long(segment, 4)?));
            if flags & 0x10 != 0 || long(segment, 8)? != 0 {
                text.push_str(&format!(" ack={}", long(segment, 8)?));
            }
            if word(segment, 14)? != names::WINDOW {
                text.push_str(&format!(" win={}", word(segment, 14)?));
            }
            let header = usize::from(segment.get(12)? >> 4) * 4;
            if let Some(options @ [_, ..]) = segment.get(20..header) {
                text.push_str(&format!(" opt={}", hex(options)));
            }
            text + &payload(segment.get(header..)?) + &usual(ttl, 64)
        }
        17 => {
            let (ports, rest) = (ports()?, segment.get(8..)?);
            let rest = if first {
                beginning(src, dst, segment)?
            } else {
                payload(rest)
            };
            let none = word(segment, 6)? == 0;
            let sum = if none { " nosum" } else { "" };
            format!("udp {ports}{rest}{sum}{}", usual(ttl, 64))
        }
        132 => format!(
            "sctp {}{}{}",
            ports()?,
            super::sctp::describe(segment)?,
            usual(ttl, 64)
        ),
        1 | 58 => {
            let text = icmp(proto == 1, src, dst, segment)?;
            let ttl = usual(ttl, if is_nd(proto, segment) { 255 } else { 64 });
            // What follows is about the quoted packet.
            match text.split_once(" quotes ") {
                Some((error, quoted)) => format!("{error}{ttl} quotes {quoted}"),
                None => text + &ttl,
            }
        }
        _ => format!(
            "proto {src}>{dst} proto={proto}{}{}",
            payload(segment),
            usual(ttl, 64)
        ),
    })
}

fn is_nd(proto: u8, segment: &[u8]) -> bool {
    proto == 58
        && segment
            .first()
            .is_some_and(|kind| matches!(kind, 135 | 136))
}

fn icmp(v4: bool, src: IpAddr, dst: IpAddr, segment: &[u8]) -> Option<String> {
    let kind = *segment.first()?;
    let echo = |name: &str| {
        let (id, seq) = (word(segment, 4)?, word(segment, 6)?);
        let body = payload(segment.get(8..)?);
        Some(format!("{name} {src}>{dst} id={id} seq={seq}{body}"))
    };
    let v6 = |at: usize| Some(Ipv6Addr::from(*segment.get(at..)?.first_chunk::<16>()?));
    match (v4, kind) {
        (true, 8) | (false, 128) => echo("echo"),
        (true, 0) | (false, 129) => echo("echo-reply"),
        (false, 135 | 136) => {
            let name = if kind == 135 { "ns" } else { "na" };
            let mut text = format!("{name} {} from {src} to {dst}", v6(8)?);
            let flags: String = [('R', 0x80), ('S', 0x40), ('O', 0x20)]
                .iter()
                .filter(|(_, bit)| segment[4] & bit != 0)
                .map(|(letter, _)| *letter)
                .collect();
            if !flags.is_empty() {
                text.push_str(&format!(" flags={flags}"));
            }
            if let Some(mac) = mac(segment, 26) {
                text.push_str(&format!(" mac={}", names::of(mac)));
            }
            Some(text)
        }
        (false, 143) => Some(format!(
            "listener-report {src}>{dst} type={} {}",
            segment.get(8)?,
            v6(12)?
        )),
        (true, 3 | 11 | 12) | (false, 1..=4) => error(v4, src, dst, segment),
        _ => Some(format!(
            "icmp {src}>{dst} type={kind} code={}{}",
            segment.get(1)?,
            payload(segment.get(8..)?)
        )),
    }
}

/// An ICMP error with the packet it quotes, which is read only if it is octet by octet what was read in it.
fn error(v4: bool, src: IpAddr, dst: IpAddr, segment: &[u8]) -> Option<String> {
    let (kind, code) = (*segment.first()?, *segment.get(1)?);
    let mut text = format!("icmp {src}>{dst} type={kind} code={code}");
    let mut rest = long(segment, 4)?;
    let words_shift = if v4 { 16 } else { 24 };
    let words = (rest >> words_shift) & 0xff;
    let has_words = matches!((v4, kind), (true, 3 | 11) | (false, 1 | 3));
    if has_words && words != 0 {
        text.push_str(&format!(" words={words}"));
        rest &= !(0xff << words_shift);
    }
    match (v4, kind, code) {
        (true, 3, 4) | (false, 2, _) => text.push_str(&format!(" mtu={rest}")),
        (true, 12, _) => text.push_str(&format!(" pointer={}", rest >> 24)),
        (false, 4, _) => text.push_str(&format!(" pointer={rest}")),
        _ if rest != 0 => text.push_str(&format!(" id={} seq={}", rest >> 16, rest & 0xffff)),
        _ => {}
    }
    let body = segment.get(8..)?;
    let quoted = quoted(v4, body).filter(|quoted| {
        let words: Vec<&str> = quoted.split_whitespace().collect();
        super::wire::quoted(&words, MacAddr::ZERO).is_ok_and(|again| again == body)
    });
    Some(match quoted {
        Some(quoted) => format!("{text} quotes {quoted}"),
        None => text + &payload(body),
    })
}

/// A quoted packet: what is cut off of it is taken to go on as the pattern does.
fn quoted(v4: bool, body: &[u8]) -> Option<String> {
    let stated = usize::from(word(body, if v4 { 2 } else { 4 })?) + if v4 { 0 } else { 40 };
    let cut = stated.checked_sub(body.len())?;
    let header = if v4 {
        usize::from(body.first()? & 0x0f) * 4
    } else {
        40
    };
    let proto = *body.get(if v4 { 9 } else { 6 })?;
    let transport = match proto {
        6 => 20,
        17 | 1 | 58 => 8,
        132 => 12,
        _ => 0,
    };
    let mut whole = body.to_vec();
    let shown = body.len().min(header + transport);
    // Fields of a header that is cut off are those that a frame has if nothing is said of it.
    if shown < header + transport && proto == 6 {
        let rest = [0, 0, 0, 0, 0x50, 0x10, 3, 232, 0, 0, 0, 0];
        whole.extend(rest.get((shown - header).checked_sub(8)?..)?);
    }
    let behind = whole.len().saturating_sub(header + transport);
    let rest = super::pattern(stated.saturating_sub(header + transport));
    whole.extend(rest.get(behind..)?);
    let text = if v4 { ipv4(&whole) } else { ipv6(&whole) }?;
    Some(if cut == 0 {
        text
    } else {
        format!("{text} cut={cut}")
    })
}

/// As [`payload`] for the first fragment of a UDP datagram: the length of the whole, and whether its
/// checksum is right if all of it is of the pattern.
fn beginning(src: IpAddr, dst: IpAddr, segment: &[u8]) -> Option<String> {
    let rest = segment.get(8..)?;
    let len = usize::from(word(segment, 4)?).checked_sub(8)?;
    let whole = super::pattern(len);
    if whole.get(..rest.len()) != Some(rest) {
        return Some(payload(rest));
    }
    let port = |at| word(segment, at).map(net::L4Port);
    let key = net::FlowKey::new(
        src.into(),
        dst.into(),
        port(0)?,
        port(2)?,
        net::IpProto::UDP,
    );
    let header = if src.is_ipv4() { 20 } else { 40 };
    let right = net::emit::udp(&key, &whole);
    let wrong = word(&right, header + 6)? != word(segment, 6)?;
    let complaint = if wrong { " !! wrong checksum" } else { "" };
    Some(format!(" len={len}{complaint}"))
}

/// `len=` for octets of the pattern, `data=` for others.
fn payload(octets: &[u8]) -> String {
    if octets.is_empty() {
        String::new()
    } else if octets == super::pattern(octets.len()) {
        format!(" len={}", octets.len())
    } else {
        format!(" data={}", hex(octets))
    }
}

pub(super) fn hex(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in octets {
        text.push_str(&format!("{octet:02x}"));
    }
    text
}

fn mac(octets: &[u8], at: usize) -> Option<MacAddr> {
    Some(MacAddr(*octets.get(at..)?.first_chunk::<6>()?))
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk::<2>()?))
}

fn long(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*octets.get(at..)?.first_chunk::<4>()?))
}
