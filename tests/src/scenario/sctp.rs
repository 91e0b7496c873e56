//! SCTP packets, from their notation and back.

use net::{FlowKey, crc32c, emit};

/// Names of chunks (RFC 9260 section 3.2); others are `chunk-N`.
const NAMES: [(&str, u8); 15] = [
    ("DATA", 0),
    ("INIT", 1),
    ("INIT-ACK", 2),
    ("SACK", 3),
    ("HEARTBEAT", 4),
    ("HEARTBEAT-ACK", 5),
    ("ABORT", 6),
    ("SHUTDOWN", 7),
    ("SHUTDOWN-ACK", 8),
    ("ERROR", 9),
    ("COOKIE-ECHO", 10),
    ("COOKIE-ACK", 11),
    ("ECNE", 12),
    ("CWR", 13),
    ("SHUTDOWN-COMPLETE", 14),
];

/// What an INIT has behind its tag: window, streams out and in, first TSN.
const INIT: [u8; 12] = [0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1];

fn number(name: &str) -> Result<u8, String> {
    let named = NAMES.iter().find(|(known, _)| *known == name);
    let other = || name.strip_prefix("chunk-")?.parse().ok();
    named
        .map(|(_, kind)| *kind)
        .or_else(other)
        .ok_or_else(|| format!("no chunk is called {name}"))
}

/// The IP packet that `words` describe, without what is said of IP or the frame.
pub(super) fn packet(key: &FlowKey, words: &[&str]) -> Result<Vec<u8>, String> {
    let mut segment = key.sport().0.to_be_bytes().to_vec();
    segment.extend(key.dport().0.to_be_bytes());
    segment.extend([0; 8]);
    for word in words {
        if let Some(tag) = word.strip_prefix("tag=") {
            let tag: u32 = tag.parse().map_err(|_| format!("{word} is no tag"))?;
            segment[4..8].copy_from_slice(&tag.to_be_bytes());
        } else if word.starts_with(|first: char| first.is_ascii_uppercase())
            || word.starts_with("chunk-")
        {
            chunk(word, &mut segment)?;
        }
    }
    let sum = crc32c::of(&segment).ok_or("too short")?;
    segment[8..12].copy_from_slice(&sum);
    if words.contains(&"badsum") {
        segment[8] ^= 0x55;
    }
    if words.contains(&"nosum") {
        segment[8..12].fill(0);
    }
    Ok(emit::ip(key, emit::DEFAULT_TTL, &segment))
}

fn chunk(word: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let mut parts = word.split(':');
    let kind = number(parts.next().unwrap_or(""))?;
    let (mut flags, mut body, mut extra) = (if kind == 0 { 3 } else { 0 }, Vec::new(), 0);
    for part in parts {
        match part.split_once('=') {
            None if part == "T" => flags = 1,
            None if part == "cut" => extra = 8,
            Some(("init", tag)) => {
                let tag: u32 = tag.parse().map_err(|_| format!("{part} is no tag"))?;
                body.extend(tag.to_be_bytes());
                body.extend(INIT);
            }
            Some(("len", len)) => {
                let len = len.parse().map_err(|_| format!("{part} is no length"))?;
                body.extend(super::pattern(len));
            }
            Some(("data", hex)) => body.extend(super::wire::octets(hex)?),
            _ => return Err(format!("{part} says nothing of a chunk")),
        }
    }
    let len = u16::try_from(4 + body.len() + extra).map_err(|_| "too long")?;
    out.extend([kind, flags]);
    out.extend(len.to_be_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

/// Tag, chunks and what there is to say of the checksum.
pub(super) fn describe(segment: &[u8]) -> Option<String> {
    let long = |at: usize| Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?));
    let mut text = format!(" tag={}", long(4)?);
    let mut at = 12;
    while let Some([kind, flags, high, low]) = segment.get(at..).and_then(|c| c.first_chunk()) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let body = segment.get(at + 4..(at + len).min(segment.len()))?;
        let name = NAMES.iter().find(|(_, known)| known == kind);
        let name = name.map_or_else(|| format!("chunk-{kind}"), |(name, _)| (*name).to_owned());
        text.push_str(&format!(" {name}"));
        if *kind != 0 && flags & 1 != 0 {
            text.push_str(":T");
        }
        if matches!(kind, 1 | 2) && body.get(4..) == Some(&INIT) {
            text.push_str(&format!(":init={}", long(at + 4)?));
        } else if body == super::pattern(body.len()) && !body.is_empty() {
            text.push_str(&format!(":len={}", body.len()));
        } else if !body.is_empty() {
            text.push_str(&format!(":data={}", super::decode::hex(body)));
        }
        at += len.next_multiple_of(4);
    }
    if segment.get(8..12)? == [0; 4] {
        text.push_str(" nosum");
    }
    Some(text)
}
