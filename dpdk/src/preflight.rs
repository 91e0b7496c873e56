//! What can be found out before DPDK is asked, so that the error names the cause.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::error::Error;
use crate::pci;
use crate::spec::{MemifRole, PortSpec};

/// Memory that an `AF_XDP` port shares with the kernel is always more than this, octets.
const LEAST_XDP_MEMORY: u64 = 8 << 20;

/// Makes way for `spec`, and checks it.
pub(crate) fn prepare_port(spec: &PortSpec, driver_dir: &Path) -> Result<(), Error> {
    check_port(spec, driver_dir)?;
    if let PortSpec::Memif {
        socket,
        role: MemifRole::Server,
        ..
    } = spec
    {
        clear_stale_socket(socket)?;
    }
    Ok(())
}

/// Checks everything about `spec` that does not need DPDK, and changes nothing.
pub(crate) fn check_port(spec: &PortSpec, driver_dir: &Path) -> Result<(), Error> {
    if let Some(driver) = spec.driver() {
        check_driver(driver, driver_dir)?;
    }
    match spec {
        PortSpec::AfPacket(netdev) => {
            check_netdev(netdev)?;
            need(Capability::NET_RAW, spec)
        }
        PortSpec::AfXdp(netdev) => {
            check_netdev(netdev)?;
            need(Capability::NET_RAW, spec)?;
            need(Capability::NET_ADMIN, spec)?;
            // libxdp looks programs up by their number, for which cap_bpf is not enough.
            need(Capability::SYS_ADMIN, spec)?;
            // The kernel locks the packet memory it shares.
            if memlock_limit() <= LEAST_XDP_MEMORY {
                need(Capability::IPC_LOCK, spec)?;
            }
            check_xdp_socket()
        }
        PortSpec::Tap(netdev) => {
            need(Capability::NET_ADMIN, spec)?;
            check_exists(
                "/dev/net/tun",
                "load the kernel module tun (`modprobe tun`), or pass the device into the container",
            )?;
            if netdev_index(netdev).is_some() {
                return Err(Error::NetdevExists {
                    name: netdev.clone(),
                });
            }
            Ok(())
        }
        PortSpec::Pcap { input, output } => {
            if let Some(path) = input {
                check_exists(path, "the capture to read must exist")?;
            }
            match output.as_deref().and_then(Path::parent) {
                Some(folder) if folder != Path::new("") => {
                    check_exists(folder, "the folder of the capture to write must exist")
                }
                _ => Ok(()),
            }
        }
        PortSpec::Memif { socket, .. } => match socket.parent() {
            Some(folder) => check_exists(folder, "the folder of the memif socket must exist"),
            None => Ok(()),
        },
        PortSpec::Pci(address) => pci::check(*address),
        PortSpec::Ring(_) | PortSpec::Null | PortSpec::Raw(_) => Ok(()),
    }
}

/// Makes an `AF_XDP` socket, and lets it go.
fn check_xdp_socket() -> Result<(), Error> {
    // SAFETY: plain system calls with integers.
    unsafe {
        let socket = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(Error::NoXdp(io::Error::last_os_error()));
        }
        libc::close(socket);
    }
    Ok(())
}

fn check_exists(path: impl AsRef<Path>, hint: &str) -> Result<(), Error> {
    let path = path.as_ref();
    if path.exists() {
        return Ok(());
    }
    Err(Error::NoSuchFile {
        path: path.to_owned(),
        hint: hint.to_owned(),
    })
}

/// Removes the socket a server left behind when it died; the driver would take it for a living one.
fn clear_stale_socket(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let path = path.display();
        return Err(Error::BadConfig(format!(
            "memif cannot listen on {path}: there is a file of that name that is no socket"
        )));
    }
    // A living server refuses this kind of connection in another way, or takes it.
    let dead = UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if dead {
        tracing::info!(path = %path.display(), "removing the socket of a memif server that is gone");
        // Should this fail, the driver's own error will say that the address is in use.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Looks for a driver's plugin. A folder that is not there means that DPDK was linked otherwise
/// than it was when this was built; DPDK's own message must do then.
fn check_driver(driver: &str, dir: &Path) -> Result<(), Error> {
    let file = format!("librte_{driver}.so");
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    let here = entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(&file));
    if here {
        return Ok(());
    }
    // Debian's package is named after the driver and the ABI: pmds-23.0 belongs to librte-…23.
    let abi = dir
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix("pmds-"))
        .and_then(|abi| abi.split('.').next())
        .unwrap_or_default();
    Err(Error::DriverMissing {
        driver: driver.to_owned(),
        file,
        dir: dir.to_owned(),
        package: format!("librte-{}{abi}", driver.replace('_', "-")),
    })
}

/// The index of a kernel interface in this network namespace. Unlike `/sys/class/net`, which shows
/// the namespace it was mounted in, this asks for the caller's.
fn netdev_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

fn check_netdev(name: &str) -> Result<(), Error> {
    if netdev_index(name).is_none() {
        let mut names = netdev_names();
        names.retain(|name| name != "lo");
        let have = match names.len() {
            0 => "; there is none but lo".to_owned(),
            n => {
                let more = if n > 16 { ", …" } else { "" };
                names.truncate(16);
                format!("; there are: {}{more}", names.join(", "))
            }
        };
        return Err(Error::NoSuchNetdev {
            name: name.to_owned(),
            have,
        });
    }
    Ok(())
}

fn netdev_names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the list ends with a zero index and is freed once; each name is a C string in it.
    unsafe {
        let list = libc::if_nameindex();
        let mut entry = list;
        while !entry.is_null() && (*entry).if_index != 0 && !(*entry).if_name.is_null() {
            names.push(
                CStr::from_ptr((*entry).if_name)
                    .to_string_lossy()
                    .into_owned(),
            );
            entry = entry.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    names
}

/// Whether a kernel interface is up and has a carrier.
pub(crate) fn netdev_is_running(name: &str) -> Option<bool> {
    let both = libc::IFF_UP | libc::IFF_RUNNING;
    netdev_flags(name).map(|flags| flags & both == both)
}

fn netdev_flags(name: &str) -> Option<i32> {
    let answer = ask_netdev(name, libc::SIOCGIFFLAGS)?;
    // SAFETY: the kernel has filled in the flags.
    Some(i32::from(unsafe { answer.ifr_ifru.ifru_flags }))
}

/// The MTU of a kernel interface, octets; `None` if that cannot be found out.
pub(crate) fn netdev_mtu(name: &str) -> Option<u32> {
    let answer = ask_netdev(name, libc::SIOCGIFMTU)?;
    // SAFETY: the kernel has filled in the MTU.
    u32::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).ok()
}

/// How many receive queues a kernel interface uses; `None` if its driver does not say.
pub(crate) fn netdev_rx_queues(name: &str) -> Option<u32> {
    // From the kernel's <linux/ethtool.h>: ETHTOOL_GCHANNELS and its structure.
    const GET_CHANNELS: u32 = 0x3c;
    #[repr(C)]
    #[derive(Default)]
    struct Channels {
        command: u32,
        most: [u32; 4],
        rx: u32,
        tx: u32,
        other: u32,
        combined: u32,
    }
    let mut channels = Channels {
        command: GET_CHANNELS,
        ..Channels::default()
    };
    ask_netdev_with(name, libc::SIOCETHTOOL, |request| {
        request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    })?;
    Some(channels.rx + channels.combined)
}

/// Puts one question about an interface to the kernel.
fn ask_netdev(name: &str, question: libc::Ioctl) -> Option<libc::ifreq> {
    ask_netdev_with(name, question, |_| {})
}

/// The same, with something to fill in; what that points to must outlive the call.
fn ask_netdev_with(
    name: &str,
    question: libc::Ioctl,
    fill: impl FnOnce(&mut libc::ifreq),
) -> Option<libc::ifreq> {
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    fill(&mut request);
    // SAFETY: plain system calls; the request outlives the ioctl, which fills in its answer, and
    // the socket is closed on the only way out.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return None;
        }
        let done = libc::ioctl(socket, question, &raw mut request);
        libc::close(socket);
        (done == 0).then_some(request)
    }
}

/// A Linux capability: its bit and its name.
#[derive(Clone, Copy)]
pub(crate) struct Capability(u32, &'static str);

impl Capability {
    pub(crate) const NET_ADMIN: Self = Self(12, "cap_net_admin");
    pub(crate) const NET_RAW: Self = Self(13, "cap_net_raw");
    pub(crate) const IPC_LOCK: Self = Self(14, "cap_ipc_lock");
    pub(crate) const SYS_RAWIO: Self = Self(17, "cap_sys_rawio");
    const SYS_ADMIN: Self = Self(21, "cap_sys_admin");
}

/// Unknown counts as "has": the operation itself will tell then.
fn has(capability: Capability) -> bool {
    capability.is_in(own_capabilities())
}

/// The capabilities this process has; all of them if that cannot be found out, for the operation
/// itself will tell then.
pub(crate) fn own_capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .as_deref()
        .and_then(effective_capabilities)
        .unwrap_or(u64::MAX)
}

impl Capability {
    pub(crate) const fn is_in(self, set: u64) -> bool {
        set & (1 << self.0) != 0
    }

    pub(crate) fn missing(self, what: impl Into<String>) -> Error {
        Error::NoCapability {
            what: what.into(),
            capability: self.1,
        }
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

pub(crate) fn check_net_admin(what: &str) -> Result<(), Error> {
    if has(Capability::NET_ADMIN) {
        return Ok(());
    }
    Err(Capability::NET_ADMIN.missing(what))
}

fn need(capability: Capability, spec: &PortSpec) -> Result<(), Error> {
    if has(capability) {
        return Ok(());
    }
    Err(capability.missing(format!("the port {spec}")))
}

/// The last part of what a symbolic link points to.
pub(crate) fn link_name(link: &Path) -> Option<String> {
    Some(
        fs::read_link(link)
            .ok()?
            .file_name()?
            .to_string_lossy()
            .into_owned(),
    )
}

/// Hugepage memory this process could still take, in MiB.
pub(crate) fn free_hugepage_mib() -> u64 {
    free_hugepage_mib_in(Path::new("/"))
}

pub(crate) fn free_hugepage_mib_in(root: &Path) -> u64 {
    let pools = root.join("sys/kernel/mm/hugepages");
    let mut total = 0_u64;
    for entry in fs::read_dir(pools).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(kib) = name
            .strip_prefix("hugepages-")
            .and_then(|size| size.strip_suffix("kB"))
            .and_then(|size| size.parse::<u64>().ok())
        else {
            continue;
        };
        let free = read_number(&entry.path().join("free_hugepages")).unwrap_or(0);
        let free_mib = free.saturating_mul(kib) / 1024;
        total = total.saturating_add(free_mib.min(cgroup_hugepage_mib(root, kib)));
    }
    total
}

/// What the cgroup allows beyond the present use. In a container without a hugepage request the
/// limit is 0 while the host's free pages are visible; touching one would be fatal.
fn cgroup_hugepage_mib(root: &Path, kib: u64) -> u64 {
    let size = if kib >= 1 << 20 {
        format!("{}GB", kib >> 20)
    } else {
        format!("{}MB", kib >> 10)
    };
    let cgroup = root.join("sys/fs/cgroup");
    let limit = read_number(&cgroup.join(format!("hugetlb.{size}.max")));
    let used = read_number(&cgroup.join(format!("hugetlb.{size}.current")));
    match limit {
        Some(limit) => limit.saturating_sub(used.unwrap_or(0)) >> 20,
        None => u64::MAX,
    }
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Octets of memory this process may lock.
pub(crate) fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: one structure out.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if done == 0 { limit.rlim_cur } else { u64::MAX }
}

/// Asks the kernel whether a VFIO group can be used: whether all of its devices are VFIO's. The group
/// is open meanwhile, which no two can have it.
///
/// Errors: `EBUSY` when another process has the group, or why it cannot be opened.
pub(crate) fn ask_vfio_group(node: &Path) -> io::Result<bool> {
    #[repr(C)]
    struct GroupStatus {
        size: u32,
        flags: u32,
    }
    // From the kernel's <linux/vfio.h>: _IO(';', 103), and the flag of a group that can be used.
    const GET_STATUS: libc::Ioctl = 0x3b67;
    const VIABLE: u32 = 1;
    let group = fs::OpenOptions::new().read(true).write(true).open(node)?;
    let mut status = GroupStatus { size: 8, flags: 0 };
    // SAFETY: the file is open, and the structure is the one the call fills in.
    let done = unsafe { libc::ioctl(group.as_raw_fd(), GET_STATUS, &raw mut status) };
    // A kernel that does not answer leaves it to DPDK.
    Ok(done != 0 || status.flags & VIABLE != 0)
}

/// CPUs the calling thread may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero set is valid, and the call fills in at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(1024);
        Ok((0..most)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &set))
            .collect())
    }
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
