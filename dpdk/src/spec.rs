//! Port specifications: which device a port is, as an operator writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A PCI address: domain, bus, device and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for PciAddress {
    type Err = SpecError;

    /// Reads `0000:3b:02.0`, or `3b:02.0` in domain 0.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::Pci(text.to_owned());
        let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
            let plain = part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits.contains(&part.len()) && plain {
                u32::from_str_radix(part, 16).ok()
            } else {
                None
            }
        };
        let (rest, function) = text.rsplit_once('.').ok_or_else(bad)?;
        let (rest, device) = rest.rsplit_once(':').ok_or_else(bad)?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        let byte = |part, digits, max| {
            hex(part, digits)
                .and_then(|n| u8::try_from(n).ok())
                .filter(|n| *n <= max)
                .ok_or_else(bad)
        };
        Ok(Self {
            domain: hex(domain, 1..=8).ok_or_else(bad)?,
            bus: byte(bus, 1..=2, 0xff)?,
            device: byte(device, 1..=2, 0x1f)?,
            function: byte(function, 1..=1, 7)?,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

/// Which end of a memif link a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemifRole {
    /// Listens on the socket.
    Server,
    /// Connects to it (the default, as the other end is usually the network's).
    #[default]
    Client,
}

/// Which device a port is.
///
/// | written | device |
/// |---|---|
/// | `af_packet:eth1` | kernel interface, through packet sockets |
/// | `af_xdp:eth1` | kernel interface, through AF_XDP sockets |
/// | `tap:tmm0` | a tap interface, created |
/// | `memif:/run/a.sock[,role=server][,id=N][,queues=N]` | shared memory with another process |
/// | `pcap:in.pcap,out.pcap` | files; either may be left out |
/// | `ring:name` | what is sent comes back |
/// | `null` | receives empty frames, swallows all |
/// | `pci:0000:3b:02.0` | a NIC or virtual function bound to vfio-pci |
/// | `net_…` | any DPDK virtual device, as on DPDK's own command lines |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortSpec {
    /// A kernel interface through packet sockets.
    AfPacket(String),
    /// A kernel interface through `AF_XDP` sockets. The driver forgets the mbufs it lent to the
    /// kernel (up to [`held_mbufs`](Self::held_mbufs)) when it is closed.
    AfXdp(String),
    /// A tap interface to create.
    Tap(String),
    /// Shared memory with another process.
    Memif {
        /// The control socket.
        socket: PathBuf,
        /// Which end this is.
        role: MemifRole,
        /// Number of the link on the socket.
        id: u32,
        /// Queues each way, 1 to 64. Both ends must have as many: the driver takes the ring of one
        /// queue for another's otherwise, and frames come in twice.
        queues: u16,
    },
    /// Capture files.
    Pcap {
        /// Read and received, once.
        input: Option<PathBuf>,
        /// Written with what is sent.
        output: Option<PathBuf>,
    },
    /// A loop.
    Ring(String),
    /// A source of empty frames and a sink.
    Null,
    /// A PCI device.
    Pci(PciAddress),
    /// A virtual device in DPDK's own notation.
    Raw(String),
}

/// Why a port specification cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Neither a known kind nor a DPDK device.
    #[error(
        "{0:?} is no port: expected af_packet:IFACE, af_xdp:IFACE, tap:NAME, memif:PATH[,role=server|client][,id=N][,queues=N], \
         pcap:IN,OUT, ring:NAME, null, pci:ADDRESS or a DPDK device such as net_null0"
    )]
    Unknown(String),
    /// An interface name the kernel would not take.
    #[error("{0:?} is no interface name: 1 to 15 bytes without white space, '/', ',' and ':'")]
    Interface(String),
    /// Not a PCI address.
    #[error(
        "{0:?} is no PCI address: expected DOMAIN:BUS:DEVICE.FUNCTION in hex, such as 0000:3b:02.0 (`lspci -D` shows them)"
    )]
    Pci(String),
    /// A memif option that does not exist or has a bad value.
    #[error(
        "{0:?} is no memif option: expected role=server, role=client, id=NUMBER or queues=1 to 64"
    )]
    Memif(String),
    /// A path is missing or has a comma, which DPDK cannot take.
    #[error("{0}")]
    Path(String),
    /// A name of letters, digits, '_', '-' and '.' was expected.
    #[error("{0:?} is no name: 1 to 9 letters, digits, '_', '-' and '.'")]
    Name(String),
}

/// What a virtual device must know when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VdevOptions {
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Queues in each direction, at least 1.
    pub queues: u16,
    /// Frames a queue holds, where it is a ring that the device makes.
    pub descriptors: u16,
}

impl Default for VdevOptions {
    fn default() -> Self {
        Self {
            mtu: 1500,
            queues: 1,
            descriptors: 1024,
        }
    }
}

impl FromStr for PortSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let text = text.trim();
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "af_packet" => Ok(Self::AfPacket(interface(rest)?)),
            "af_xdp" => Ok(Self::AfXdp(interface(rest)?)),
            "tap" => Ok(Self::Tap(interface(rest)?)),
            "memif" => memif(rest),
            "pcap" => pcap(rest),
            "ring" => Ok(Self::Ring(name(rest)?)),
            "null" if text == "null" => Ok(Self::Null),
            "pci" => Ok(Self::Pci(rest.parse()?)),
            _ if is_vdev(text) => Ok(Self::Raw(text.to_owned())),
            _ => Err(SpecError::Unknown(text.to_owned())),
        }
    }
}

/// `net_xxx`, then a suffix, then arguments: what DPDK calls a virtual network device.
fn is_vdev(text: &str) -> bool {
    let device = text.split(',').next().unwrap_or_default();
    let known = ["net_", "virtio_user", "eth_"].iter().any(|prefix| {
        device
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty())
    });
    known
        && device.len() < dpdk_sys::SHIM_ETH_NAME_SIZE as usize
        && device
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && text.bytes().all(|b| b.is_ascii_graphic())
}

fn interface(text: &str) -> Result<String, SpecError> {
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"/,:".contains(&b));
    if fits && plain {
        Ok(text.to_owned())
    } else {
        Err(SpecError::Interface(text.to_owned()))
    }
}

fn name(text: &str) -> Result<String, SpecError> {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if (1..=9).contains(&text.len()) && plain {
        Ok(text.to_owned())
    } else {
        Err(SpecError::Name(text.to_owned()))
    }
}

fn memif(text: &str) -> Result<PortSpec, SpecError> {
    let mut words = text.split(',');
    let socket = words.next().unwrap_or_default();
    // sockaddr_un holds 108 bytes with the final NUL.
    if !socket.starts_with('/') || socket.len() > 107 {
        return Err(SpecError::Path(format!(
            "memif needs the absolute path of its socket (at most 107 bytes), not {socket:?}"
        )));
    }
    let (mut role, mut id, mut queues) = (MemifRole::default(), 0, 1);
    for word in words {
        let bad = || SpecError::Memif(word.to_owned());
        match word.split_once('=').ok_or_else(bad)? {
            ("role", "server") => role = MemifRole::Server,
            ("role", "client") => role = MemifRole::Client,
            ("id", number) => id = number.parse().map_err(|_| bad())?,
            ("queues", number) => {
                let number = number.parse().ok().filter(|n| (1..=64).contains(n));
                queues = number.ok_or_else(bad)?;
            }
            _ => return Err(bad()),
        }
    }
    Ok(PortSpec::Memif {
        socket: socket.into(),
        role,
        id,
        queues,
    })
}

fn pcap(text: &str) -> Result<PortSpec, SpecError> {
    let mut paths = text
        .split(',')
        .map(|path| (!path.is_empty()).then(|| PathBuf::from(path)));
    let (input, output) = (paths.next().flatten(), paths.next().flatten());
    if paths.next().is_some() {
        return Err(SpecError::Path(format!(
            "pcap takes two files, IN,OUT, without commas in their names, not {text:?}"
        )));
    }
    if input.is_none() && output.is_none() {
        return Err(SpecError::Path(
            "pcap needs a file to read, a file to write, or both: pcap:IN,OUT".to_owned(),
        ));
    }
    Ok(PortSpec::Pcap { input, output })
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfPacket(netdev) => write!(f, "af_packet:{netdev}"),
            Self::AfXdp(netdev) => write!(f, "af_xdp:{netdev}"),
            Self::Tap(netdev) => write!(f, "tap:{netdev}"),
            Self::Memif {
                socket,
                role,
                id,
                queues,
            } => {
                write!(f, "memif:{},role={}", socket.display(), role.as_str())?;
                if *id != 0 {
                    write!(f, ",id={id}")?;
                }
                if *queues != 1 {
                    write!(f, ",queues={queues}")?;
                }
                Ok(())
            }
            Self::Pcap { input, output } => {
                let path = |path: &Option<PathBuf>| {
                    path.as_deref()
                        .map(|p| p.display().to_string())
                        .unwrap_or_default()
                };
                write!(f, "pcap:{},{}", path(input), path(output))
            }
            Self::Ring(name) => write!(f, "ring:{name}"),
            Self::Null => f.write_str("null"),
            Self::Pci(address) => write!(f, "pci:{address}"),
            Self::Raw(text) => f.write_str(text),
        }
    }
}

impl MemifRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl PortSpec {
    /// The kernel interface the port is or creates.
    pub fn netdev(&self) -> Option<&str> {
        match self {
            Self::AfPacket(netdev) | Self::AfXdp(netdev) | Self::Tap(netdev) => Some(netdev),
            _ => None,
        }
    }

    /// The DPDK driver the port needs, where the specification tells.
    pub fn driver(&self) -> Option<&'static str> {
        Some(match self {
            Self::AfPacket(_) => "net_af_packet",
            Self::AfXdp(_) => "net_af_xdp",
            Self::Tap(_) => "net_tap",
            Self::Memif { .. } => "net_memif",
            Self::Pcap { .. } => "net_pcap",
            Self::Ring(_) => "net_ring",
            Self::Null => "net_null",
            Self::Pci(_) | Self::Raw(_) => return None,
        })
    }

    /// Bytes an mbuf must hold behind its headroom for this port and MTU: what
    /// [`MempoolConfig::data_room`](crate::MempoolConfig::data_room) must be at least.
    pub fn data_room(&self, mtu: u16) -> u16 {
        // Ethernet and two tags; NICs want their buffers in whole KiB, and 2 KiB is usual.
        let frame = u32::from(mtu) + 14 + 8;
        let room = match self {
            // The driver wants room for a whole frame of the ring it shares with the kernel.
            Self::AfPacket(_) => PacketRing::for_mtu(mtu).frame,
            _ => frame.next_multiple_of(1024),
        };
        u16::try_from(room.max(2048)).unwrap_or(u16::MAX - crate::HEADROOM)
    }

    /// Mbufs a started port of this kind keeps for itself at most, waiting for frames to come in or
    /// to be sent: what the pool needs per port besides the program's own.
    pub fn held_mbufs(&self, queues: u16, rx_desc: u16, tx_desc: u16) -> u32 {
        // The kernel gets this many before the first frame, whatever the queue's length.
        const XDP_FILL: u32 = 2 * 2048;
        let per_queue = match self {
            // They copy, or generate.
            Self::AfPacket(_) | Self::Pcap { .. } | Self::Null => 0,
            Self::AfXdp(_) => XDP_FILL,
            Self::Ring(_) => 1024,
            Self::Tap(_) | Self::Memif { .. } | Self::Pci(_) | Self::Raw(_) => {
                u32::from(rx_desc) + u32::from(tx_desc)
            }
        };
        per_queue * u32::from(queues)
    }

    /// Memory for the rings that a port of this kind shares with the kernel, in bytes.
    pub fn ring_bytes(&self, options: &VdevOptions) -> u64 {
        let per_queue = match self {
            Self::AfPacket(_) => {
                let frames = PacketRing::frames(options.descriptors);
                2 * u64::from(frames) * u64::from(PacketRing::for_mtu(options.mtu).frame)
            }
            // Of descriptors only.
            Self::AfXdp(_) => 256 << 10,
            _ => 0,
        };
        per_queue * u64::from(options.queues.max(1))
    }

    /// The virtual device in DPDK's notation (`net_af_packet0,iface=eth1,…`); `index` keeps the
    /// names of several devices of a driver apart. `None` for a PCI device.
    pub fn to_vdev(&self, index: usize, options: &VdevOptions) -> Option<String> {
        let queues = options.queues.max(1);
        Some(match self {
            Self::AfPacket(netdev) => {
                let ring = PacketRing::for_mtu(options.mtu);
                format!(
                    "net_af_packet{index},iface={netdev},qpairs={queues},framesz={},blocksz={},framecnt={},qdisc_bypass=1",
                    ring.frame,
                    ring.block,
                    PacketRing::frames(options.descriptors)
                )
            }
            Self::AfXdp(netdev) => {
                format!("net_af_xdp{index},iface={netdev},start_queue=0,queue_count={queues}")
            }
            Self::Tap(netdev) => format!("net_tap{index},iface={netdev}"),
            Self::Memif {
                socket, role, id, ..
            } => format!(
                "net_memif{index},role={},id={id},socket={},socket-abstract=no",
                role.as_str(),
                socket.display()
            ),
            Self::Pcap { input, output } => {
                let argument = |key: &str, path: &Option<PathBuf>| {
                    path.as_deref()
                        .map(|p: &Path| format!(",{key}={}", p.display()))
                        .unwrap_or_default()
                };
                format!(
                    "net_pcap{index}{}{}",
                    argument("rx_pcap", input),
                    argument("tx_pcap", output)
                )
            }
            Self::Ring(name) => format!("net_ring_{name}"),
            Self::Null => format!("net_null{index}"),
            Self::Raw(text) => text.clone(),
            Self::Pci(_) => return None,
        })
    }
}

/// Sizes of the memory a packet socket shares with the kernel.
struct PacketRing {
    frame: u32,
    block: u32,
}

impl PacketRing {
    /// Frames of a ring: whole blocks. The kernel fills it at interrupt time, so it covers the pauses of
    /// a worker.
    fn frames(descriptors: u16) -> u32 {
        u32::from(descriptors).next_multiple_of(8).max(64)
    }

    /// The driver takes the frames to lie back to back over block boundaries, so a block must be a
    /// whole number of frames, and the kernel wants it to be a whole number of pages.
    fn for_mtu(mtu: u16) -> Self {
        const PAGE: u32 = 4096;
        // Ethernet, two tags, and the kernel's own header with its alignment before each frame.
        const AROUND: u32 = 14 + 8 + 96;
        let frame = (u32::from(mtu) + AROUND).next_multiple_of(1024).max(2048);
        let mut block = frame;
        while !block.is_multiple_of(PAGE) {
            block += frame;
        }
        Self { frame, block }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
