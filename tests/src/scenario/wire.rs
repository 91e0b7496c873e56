//! Frames from their notation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dataplane::memory::MemoryFrame;
use net::emit::{self, TcpFields};
use net::{Addr, Encap, FlowKey, IpProto, L4Port, MacAddr, PortId, RxChecksum, VlanId};

use super::{fragments, names};

type Result<T> = std::result::Result<T, String>;

/// What a word such as `ttl=1` or `badsum` asks for.
#[derive(Default)]
struct Options<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
}

impl<'a> Options<'a> {
    fn split(words: &[&'a str]) -> Self {
        let mut all = Self::default();
        for word in words {
            match word.split_once('=') {
                Some(pair) => all.pairs.push(pair),
                None => all.flags.push(word),
            }
        }
        all
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.text(key)
            .map(|text| text.parse().map_err(|_| format!("{key}={text}")))
            .transpose()
    }

    fn or<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T> {
        Ok(self.number(key)?.unwrap_or(default))
    }

    /// Octets in hexadecimal, or `len` octets of the pattern.
    fn payload(&self) -> Result<Vec<u8>> {
        match self.text("data") {
            Some(hex) => octets(hex),
            None => Ok(super::pattern(self.or("len", 0)?)),
        }
    }
}

/// The frame that a line such as
/// `1.1 100 client>tmm1 tcp 192.0.2.7:40000>203.0.113.10:80 S seq=100` describes, and its port.
///
/// Errors: what cannot be read.
pub fn frame(line: &str) -> Result<(PortId, MemoryFrame)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [port, tags, macs, kind, rest @ ..] = words.as_slice() else {
        return Err("a frame is PORT TAGS SOURCE>DESTINATION KIND …".to_owned());
    };
    let port = names::port(port).ok_or("no such port")?;
    let (source, destination) = macs.split_once('>').ok_or("SOURCE>DESTINATION")?;
    let (source, destination) = (station(source)?, station(destination)?);
    let (ethertype, mut l3) = network(kind, rest, source)?;
    // What follows is about the quoted packet.
    let quotes = rest.iter().position(|word| *word == "quotes");
    let options = Options::split(&rest[..quotes.unwrap_or(rest.len())]);
    if let Some(header) = options.text("ext") {
        extend(&mut l3, header)?;
    }
    if options.has("nodf") {
        fragments::may_be_cut(&mut l3, options.or("fid", 0)?);
    }
    if let Some(fragment) = options.text("frag") {
        fragments::make(&mut l3, fragment, options.or("fid", 1)?)?;
    }
    if let Some(ttl) = options.number("ttl")? {
        set_ttl(&mut l3, ttl);
    }
    if options.has("badipsum") {
        l3[10] ^= 0x55;
    }
    let mut frame = tagged(tags, source, destination, ethertype, &l3)?;
    if let Some(len) = options.number::<usize>("pad")? {
        frame.resize(len.max(frame.len()), 0);
    }
    if let Some(len) = options.number("cut")? {
        frame.truncate(len);
    }
    let mut memory = MemoryFrame::new(&frame);
    if let Some(stripped) = tags.strip_prefix('~') {
        let mut ids = stripped.rsplit('.');
        memory.rx.stripped_tci = ids.next().map(number).transpose()?;
        memory.rx.stripped_service_tci = ids.next().map(number).transpose()?;
    }
    memory.rx.l4_checksum = match options.text("device") {
        Some("good") => RxChecksum::Good,
        Some("bad") => RxChecksum::Bad,
        _ => RxChecksum::Unknown,
    };
    Ok((port, memory))
}

fn tagged(tags: &str, src: MacAddr, dst: MacAddr, kind: u16, l3: &[u8]) -> Result<Vec<u8>> {
    if tags == "-" || tags.starts_with('~') {
        return Ok(emit::ethernet(dst, src, Encap::UNTAGGED, kind, l3));
    }
    let mut frame = emit::ethernet(dst, src, Encap::UNTAGGED, kind, l3);
    // `s300.100` has a service tag (802.1ad) outside, `300.100` two of 802.1Q.
    let (outer, ids) = tags
        .strip_prefix('s')
        .map_or((0x8100u16, tags), |rest| (0x88a8, rest));
    let mut header = Vec::new();
    for (at, id) in ids.split('.').enumerate() {
        let tpid = if at == 0 { outer } else { 0x8100 };
        header.extend(tpid.to_be_bytes());
        header.extend(number(id)?.to_be_bytes());
    }
    frame.splice(12..12, header);
    Ok(frame)
}

fn network(kind: &str, words: &[&str], source: MacAddr) -> Result<(u16, Vec<u8>)> {
    let (words, quoted) = match words.iter().position(|word| *word == "quotes") {
        Some(at) => (&words[..at], Some(quoted(&words[at + 1..], source)?)),
        None => (words, None),
    };
    let options = Options::split(words);
    let first = *words.first().unwrap_or(&"");
    let l3 = match kind {
        "tcp" => {
            let key = key(first, IpProto::TCP)?;
            let fields = TcpFields {
                seq: options.or("seq", 0)?,
                ack: options.or("ack", 0)?,
                flags: names::flags(words.get(1).unwrap_or(&"")).ok_or("flags such as S. or FA")?,
                window: options.or("win", names::WINDOW)?,
            };
            let l3 = emit::tcp(&key, fields, &options.payload()?);
            let tcp_options = options.text("opt").map_or(Ok(Vec::new()), octets)?;
            spoil(with_tcp_options(&key, l3, &tcp_options)?, &options)
        }
        "udp" => {
            let key = key(first, IpProto::UDP)?;
            spoil(emit::udp(&key, &options.payload()?), &options)
        }
        "sctp" => super::sctp::packet(
            &key(first, IpProto::SCTP)?,
            words.get(1..).unwrap_or_default(),
        )?,
        "echo" | "echo-reply" | "icmp" => icmp(kind, first, &options, quoted)?,
        "ns" | "na" => neighbor_discovery(kind, words, &options, source)?,
        "arp" => return Ok((0x0806, arp(words, source)?)),
        "piece" => {
            let (src, dst) = addresses(first)?;
            let proto = IpProto(options.or("proto", 17)?);
            let key = FlowKey::new(src, dst, L4Port(0), L4Port(0), proto);
            let from: usize = options.or("from", 0)?;
            let payload = match options.text("data") {
                Some(hex) => octets(hex)?,
                None => super::pattern(from + options.or("len", 0)?).split_off(from),
            };
            let mut l3 = emit::ip(&key, emit::DEFAULT_TTL, &payload);
            let place = (options.or("at", 0)?, options.has("more"));
            fragments::mark(&mut l3, place, options.or("fid", 1)?)?;
            l3
        }
        "proto" => {
            let number: u8 = options.or("proto", 253)?;
            let (src, dst) = addresses(first)?;
            let key = FlowKey::new(src, dst, L4Port(0), L4Port(0), IpProto(number));
            emit::ip(&key, emit::DEFAULT_TTL, &options.payload()?)
        }
        "raw" => {
            let kind = u16::from_str_radix(first, 16).map_err(|_| "raw ETHERTYPE HEX")?;
            return Ok((kind, octets(words.get(1).unwrap_or(&""))?));
        }
        other => return Err(format!("no kind of frame is called {other}")),
    };
    let ethertype = if l3[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    Ok((ethertype, l3))
}

/// Puts options, a multiple of four octets, behind the TCP header.
fn with_tcp_options(key: &FlowKey, l3: Vec<u8>, options: &[u8]) -> Result<Vec<u8>> {
    if options.is_empty() {
        return Ok(l3);
    }
    let words = u8::try_from(options.len() / 4).map_err(|_| "opt= is too long")?;
    if !options.len().is_multiple_of(4) || words > 10 {
        return Err("opt= is a multiple of four octets, 40 at most".to_owned());
    }
    let ip = if key.src.is_v4() { 20 } else { 40 };
    let mut segment = l3[ip..].to_vec();
    segment.splice(20..20, options.iter().copied());
    segment[12] += words << 4;
    segment[16..18].fill(0);
    let sum = emit::transport_checksum(key, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Ok(emit::ip(key, emit::DEFAULT_TTL, &segment))
}

/// Makes the transport checksum wrong, or leaves that of UDP out, if that is asked for.
fn spoil(mut l3: Vec<u8>, options: &Options<'_>) -> Vec<u8> {
    if options.has("badsum") {
        let v4 = l3[0] >> 4 == 4;
        let proto = if v4 { l3[9] } else { l3[6] };
        let at = if v4 { 20 } else { 40 } + if proto == 6 { 16 } else { 6 };
        l3[at] ^= 0x55;
    }
    if options.has("nosum") {
        let at = if l3[0] >> 4 == 4 { 26 } else { 46 };
        l3[at..at + 2].fill(0);
    }
    l3
}

/// The packet that an ICMP error quotes.
///
/// Errors: what cannot be read.
pub fn quoted(words: &[&str], source: MacAddr) -> Result<Vec<u8>> {
    let [kind, rest @ ..] = words else {
        return Err("quotes KIND …".to_owned());
    };
    let (_, mut l3) = network(kind, rest, source)?;
    let options = Options::split(rest);
    if let Some(fragment) = options.text("frag") {
        fragments::make(&mut l3, fragment, options.or("fid", 1)?)?;
    }
    if let Some(ttl) = options.number("ttl")? {
        set_ttl(&mut l3, ttl);
    }
    if options.has("badipsum") {
        l3[10] ^= 0x55;
    }
    let cut: usize = options.or("cut", 0)?;
    l3.truncate(l3.len().saturating_sub(cut));
    Ok(l3)
}

fn icmp(
    kind: &str,
    first: &str,
    options: &Options<'_>,
    quoted: Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    let (src, dst) = addresses(first)?;
    let v4 = src.is_v4();
    let proto = if v4 { IpProto::ICMP } else { IpProto::ICMPV6 };
    let kind = match kind {
        "echo" => {
            if v4 {
                8
            } else {
                128
            }
        }
        "echo-reply" => {
            if v4 {
                0
            } else {
                129
            }
        }
        _ => options.or("type", 3)?,
    };
    let id: u16 = options.or("id", 0)?;
    let seq: u16 = options.or("seq", 0)?;
    let mut rest = [0; 4];
    rest[..2].copy_from_slice(&id.to_be_bytes());
    rest[2..].copy_from_slice(&seq.to_be_bytes());
    // The names that these four octets have in errors.
    if let Some(mtu) = options.number::<u32>("mtu")? {
        rest = mtu.to_be_bytes();
    }
    if let Some(pointer) = options.number::<u32>("pointer")? {
        rest = if v4 { pointer << 24 } else { pointer }.to_be_bytes();
    }
    if let Some(words) = options.number("words")? {
        rest[usize::from(v4)] = words;
    }
    let key = FlowKey::new(src, dst, L4Port(0), L4Port(0), proto);
    let ttl = options.or("ttl", emit::DEFAULT_TTL)?;
    let mut body = quoted.unwrap_or_default();
    body.extend(options.payload()?);
    let code = options.or("code", 0)?;
    let mut l3 = emit::icmp(&key, ttl, kind, code, rest, &body);
    if options.has("badsum") {
        l3[if v4 { 22 } else { 42 }] ^= 0x55;
    }
    Ok(l3)
}

/// `ns TARGET from SOURCE to DESTINATION`, `na TARGET from SOURCE to DESTINATION flags=SO`; `mac=` names
/// another station in the link-layer option, `mac=none` leaves the option out.
fn neighbor_discovery(
    kind: &str,
    words: &[&str],
    options: &Options<'_>,
    source: MacAddr,
) -> Result<Vec<u8>> {
    let [target, "from", src, "to", dst, ..] = words else {
        return Err(format!("{kind} TARGET from SOURCE to DESTINATION"));
    };
    let v6 = |text: &str| -> Result<Ipv6Addr> {
        text.parse()
            .map_err(|_| format!("{text} is no IPv6 address"))
    };
    let (kind, option) = if kind == "ns" { (135, 1) } else { (136, 2) };
    let mut rest = [0; 4];
    for flag in options.text("flags").unwrap_or("").chars() {
        rest[0] |= match flag {
            'R' => 0x80,
            'S' => 0x40,
            'O' => 0x20,
            other => return Err(format!("no flag {other}")),
        };
    }
    let mut body = v6(target)?.octets().to_vec();
    if options.text("mac") != Some("none") {
        let mac = options.text("mac").map_or(Ok(source), station)?;
        body.extend([option, 1]);
        body.extend(mac.0);
    }
    let key = icmpv6_key(v6(src)?, v6(dst)?);
    let ttl = options.or("ttl", 255)?;
    Ok(emit::icmp(&key, ttl, kind, 0, rest, &body))
}

fn icmpv6_key(src: Ipv6Addr, dst: Ipv6Addr) -> FlowKey {
    FlowKey::new(
        Addr::from_v6(src.octets()),
        Addr::from_v6(dst.octets()),
        L4Port(0),
        L4Port(0),
        IpProto::ICMPV6,
    )
}

/// A solicited advertisement of `target` at `mac`.
pub fn advertisement(target: Ipv6Addr, to: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend([2, 1]);
    body.extend(mac.0);
    let flags = [0x60, 0, 0, 0];
    emit::icmp(&icmpv6_key(target, to), 255, 136, 0, flags, &body)
}

/// `arp who-has X tell Y` or `arp X is-at MAC tell Y`, from the station that sends the frame.
fn arp(words: &[&str], source: MacAddr) -> Result<Vec<u8>> {
    let v4 = |text: &str| -> Result<Ipv4Addr> {
        text.parse()
            .map_err(|_| format!("{text} is no IPv4 address"))
    };
    let (oper, sender, target) = match words {
        ["who-has", target, "tell", sender, ..] => {
            (1, (source, v4(sender)?), (MacAddr::ZERO, v4(target)?))
        }
        [sender, "is-at", mac, "tell", target, ..] => (
            2,
            (station(mac)?, v4(sender)?),
            (MacAddr::ZERO, v4(target)?),
        ),
        _ => return Err("arp who-has X tell Y, or arp X is-at MAC tell Y".to_owned()),
    };
    Ok(arp_octets(oper, sender, target))
}

/// The octets of an ARP packet.
pub fn arp_octets(oper: u8, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4, 0, oper];
    for (mac, addr) in [sender, target] {
        out.extend(mac.0);
        out.extend(addr.octets());
    }
    out
}

/// Sets TTL or hop limit; the IPv4 header checksum is made right again.
fn set_ttl(l3: &mut [u8], ttl: u8) {
    if l3[0] >> 4 == 4 {
        l3[8] = ttl;
        mend_ipv4(l3);
    } else {
        l3[7] = ttl;
    }
}

/// Puts an IPv6 extension header behind the IPv6 header: `0:1e0400000000`, its kind and what follows its length.
fn extend(l3: &mut Vec<u8>, header: &str) -> Result<()> {
    let (kind, rest) = header.split_once(':').ok_or("ext=KIND:HEX")?;
    let (kind, rest): (u8, _) = (kind.parse().map_err(|_| "ext=KIND:HEX")?, octets(rest)?);
    if l3[0] >> 4 != 6 || (rest.len() + 2) % 8 != 0 {
        return Err("an extension header is of eight octets or a multiple, over IPv6".to_owned());
    }
    let len = u8::try_from((rest.len() + 2) / 8 - 1).map_err(|_| "too long")?;
    let next = std::mem::replace(&mut l3[6], kind);
    l3.splice(40..40, [vec![next, len], rest].concat());
    let len = u16::try_from(l3.len() - 40).map_err(|_| "too long")?;
    l3[4..6].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

pub fn mend_ipv4(l3: &mut [u8]) {
    l3[10..12].fill(0);
    let header = usize::from(l3[0] & 15) * 4;
    let sum = net::checksum::of(&l3[..header]);
    l3[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn key(text: &str, proto: IpProto) -> Result<FlowKey> {
    let end = |text: &str| -> Result<SocketAddr> {
        text.parse()
            .map_err(|_| format!("{text} is no ADDRESS:PORT"))
    };
    let (src, dst) = text.split_once('>').ok_or("ADDRESS:PORT>ADDRESS:PORT")?;
    let (src, dst) = (end(src)?, end(dst)?);
    Ok(FlowKey::new(
        Addr::from(src.ip()),
        Addr::from(dst.ip()),
        L4Port(src.port()),
        L4Port(dst.port()),
        proto,
    ))
}

fn addresses(text: &str) -> Result<(Addr, Addr)> {
    let addr = |text: &str| -> Result<Addr> {
        let addr: IpAddr = text.parse().map_err(|_| format!("{text} is no address"))?;
        Ok(Addr::from(addr))
    };
    let (src, dst) = text.split_once('>').ok_or("ADDRESS>ADDRESS")?;
    Ok((addr(src)?, addr(dst)?))
}

/// The MAC address of a station's name, or the one written out.
pub fn station(text: &str) -> Result<MacAddr> {
    names::station(text)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| format!("no station is called {text}"))
}

fn number(text: &str) -> Result<u16> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

pub(super) fn octets(hex: &str) -> Result<Vec<u8>> {
    (0..hex.len())
        .step_by(2)
        .map(|at| {
            hex.get(at..at + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| format!("{hex} is not hexadecimal"))
        })
        .collect()
}

/// The VLAN tags of a station's notation, for answers in its name.
///
/// Errors: an id that is none.
pub fn encap(tags: &str) -> Result<Encap> {
    if tags == "-" {
        return Ok(Encap::UNTAGGED);
    }
    let mut ids = tags.trim_start_matches('s').rsplit('.').map(number);
    let inner = ids.next().transpose()?.and_then(VlanId::new);
    let outer = ids.next().transpose()?.and_then(VlanId::new);
    Ok(Encap::from_ids(outer, inner))
}
