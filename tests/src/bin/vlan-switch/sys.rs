//! The system calls behind a port: namespaces, TAP devices, packet sockets, signals.
//!
//! All `unsafe` code of the switch is here.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::frame::StrippedTag;

/// Receive buffer of a packet socket; bursts wait here while the switch is busy elsewhere.
const SOCKET_BUFFER: c_int = 16 << 20;

/// Turns the -1 of a system call into its error.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Length of a `T` as socket calls want it.
fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// Runs `action` with this thread inside the named network namespace (`None`: the current one).
pub fn in_netns<T>(name: Option<&str>, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(name) = name else { return action() };
    let path = format!("/run/netns/{name}");
    let target = File::open(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    let home = File::open("/proc/thread-self/ns/net")?;
    enter(&target)?;
    let result = action();
    enter(&home)?;
    result
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes an open descriptor and an integer; it touches no memory of ours.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// An `ifreq` naming `device`.
fn ifreq(device: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all fields of `ifreq` are integers, arrays of them or raw pointers: zero is valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if device.is_empty() || device.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "device name {device:?} is not of 1 to {} bytes",
                request.ifr_name.len() - 1
            ),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// An interface ioctl whose argument is an `ifreq`.
fn ioctl(fd: &impl AsRawFd, code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: every code used here reads or writes one `ifreq`, which `request` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), code, std::ptr::from_mut(request)) }).map(drop)
}

fn socket(family: c_int, kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket takes integers only.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Brings `device` up in the current namespace.
fn bring_up(device: &str) -> io::Result<()> {
    let control = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let mut request = ifreq(device)?;
    ioctl(&control, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just filled this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = i16::try_from(libc::IFF_UP).unwrap_or(1);
    request.ifr_ifru.ifru_flags = flags | up;
    ioctl(&control, libc::SIOCSIFFLAGS, &mut request)
}

/// Creates a TAP device in the current namespace and brings it up; it goes when the file is closed.
///
/// Without the virtio header the kernel finishes every checksum and segments every packet itself,
/// so what is read are frames as they would be on a wire.
pub fn open_tap(device: &str, mac: Option<[u8; 6]>, mtu: u16) -> io::Result<File> {
    let tap = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|error| io::Error::new(error.kind(), format!("/dev/net/tun: {error}")))?;
    let mut request = ifreq(device)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    ioctl(&tap, libc::TUNSETIFF, &mut request)?;

    let control = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    if let Some(mac) = mac {
        let mut request = ifreq(device)?;
        // SAFETY: `sockaddr` is made of integers: zero is valid.
        let mut address: libc::sockaddr = unsafe { zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_hwaddr = address;
        ioctl(&control, libc::SIOCSIFHWADDR, &mut request)?;
    }
    let mut request = ifreq(device)?;
    request.ifr_ifru.ifru_mtu = c_int::from(mtu);
    ioctl(&control, libc::SIOCSIFMTU, &mut request)?;
    bring_up(device)?;
    Ok(tap)
}

fn set_option<T>(fd: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            socklen::<T>(),
        )
    })
    .map(drop)
}

/// Opens a raw packet socket on `device` of the current namespace: promiscuous, blind to what it
/// sends itself, and told which tag the kernel took out of a frame.
pub fn open_packet_socket(device: &str) -> io::Result<File> {
    bring_up(device)?;
    // No protocol yet: nothing is received before the socket is bound to its device.
    let fd = socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK)?;
    let mut request = ifreq(device)?;
    ioctl(&fd, libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: SIOCGIFINDEX has just filled this member of the union.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };

    let on: c_int = 1;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &SOCKET_BUFFER)?;
    let promiscuous = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).map_err(io::Error::other)?,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(
        &fd,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &promiscuous,
    )?;

    // SAFETY: `sockaddr_ll` is made of integers: zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)
        .map_err(io::Error::other)?
        .to_be();
    address.sll_ifindex = index;
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            socklen::<libc::sockaddr_ll>(),
        )
    })?;
    Ok(fd.into())
}

/// Receives one frame into `buffer`; with it comes the tag the kernel removed, if it did.
pub fn receive(socket: &File, buffer: &mut [u8]) -> io::Result<(usize, Option<StrippedTag>)> {
    /// Room for the one control message asked for, aligned as its header wants.
    #[repr(C, align(8))]
    struct Control([u8; 64]);

    let mut control = MaybeUninit::<Control>::uninit();
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `msghdr` is made of integers and raw pointers: zero is valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: `message` points to one iovec over `buffer` and to `control`, all alive and ours.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;

    let mut tag = None;
    // SAFETY: the kernel has set `msg_controllen` to what it wrote, and the CMSG macros stay inside
    // it; the message's type says that its data is a `tpacket_auxdata`, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET
                && (*header).cmsg_type == libc::PACKET_AUXDATA
            {
                let data = libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned();
                if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    let known = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                    tag = Some(StrippedTag {
                        tpid: if known { data.tp_vlan_tpid } else { 0x8100 },
                        tci: data.tp_vlan_tci,
                    });
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((len, tag))
}

/// A descriptor that becomes readable when the process is asked to stop.
pub fn termination_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before the other calls read it; the descriptor that
    // signalfd returns is new and nobody else's.
    unsafe {
        check(libc::sigemptyset(set.as_mut_ptr()))?;
        check(libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM))?;
        check(libc::sigaddset(set.as_mut_ptr(), libc::SIGINT))?;
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            set.as_ptr(),
            std::ptr::null_mut(),
        ))?;
        Ok(OwnedFd::from_raw_fd(check(libc::signalfd(
            -1,
            set.as_ptr(),
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?))
    }
}

/// Waits until a descriptor is readable or `timeout_ms` has passed (-1: for ever).
pub fn poll(descriptors: &mut [libc::pollfd], timeout_ms: c_int) -> io::Result<()> {
    let count = libc::nfds_t::try_from(descriptors.len()).map_err(io::Error::other)?;
    // SAFETY: pointer and count describe `descriptors`.
    match check(unsafe { libc::poll(descriptors.as_mut_ptr(), count, timeout_ms) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other.map(drop),
    }
}
