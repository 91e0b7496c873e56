//! What can go wrong before and around the packet path, each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::log::Line;
use crate::spec::PciAddress;

/// An error of the DPDK layer.
///
/// The texts are written for whoever starts the program: they name the thing that is wrong and the
/// command that mends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// DPDK can be initialised once in the life of a process.
    #[error(
        "DPDK was already initialised in this process; it can be started only once, even after a stop or a failure"
    )]
    AlreadyInitialised,

    /// `rte_eal_init` failed.
    #[error("DPDK did not start: {source}{log}")]
    EalInit {
        /// The reason DPDK gave.
        source: io::Error,
        /// What DPDK logged meanwhile.
        log: Excerpt,
    },

    /// Hugepages were required and there are none, or too few.
    #[error(
        "{need_mib} MiB of hugepages are required and {free_mib} MiB are free: \
         reserve some (`sysctl -w vm.nr_hugepages={pages}` for 2 MiB pages), or start without hugepages"
    )]
    NoHugepages {
        /// What was asked for.
        need_mib: u64,
        /// What this process could take.
        free_mib: u64,
        /// 2 MiB pages that would do.
        pages: u64,
    },

    /// A configuration value makes no sense.
    #[error("{0}")]
    BadConfig(String),

    /// A port specification cannot be read.
    #[error(transparent)]
    Spec(#[from] crate::spec::SpecError),

    /// The process lacks a Linux capability.
    #[error(
        "{what} needs the capability {capability}: run as root, or grant it \
         (`setcap {capability}+ep <program>`, or `securityContext.capabilities.add` in Kubernetes)"
    )]
    NoCapability {
        /// What was to be done.
        what: String,
        /// The capability's name, in lower case.
        capability: &'static str,
    },

    /// There is no such kernel network interface here.
    #[error("there is no network interface {name:?} in this network namespace{have}")]
    NoSuchNetdev {
        /// The name that was asked for.
        name: String,
        /// The interfaces there are, as text.
        have: String,
    },

    /// The name of a kernel interface to create is taken.
    #[error(
        "the network interface {name:?} exists already: choose another name, or remove it (`ip link delete {name}`)"
    )]
    NetdevExists {
        /// The taken name.
        name: String,
    },

    /// The kernel gives no AF_XDP sockets.
    #[error(
        "this kernel gives no AF_XDP sockets ({0}): use af_packet, or a kernel with CONFIG_XDP_SOCKETS"
    )]
    NoXdp(io::Error),

    /// A file or device node is not there.
    #[error("{path} is missing: {hint}", path = path.display())]
    NoSuchFile {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        hint: String,
    },

    /// There is no such PCI device.
    #[error(
        "there is no PCI device {0}: `lspci -D` lists the devices; for a virtual function, create it first (sriov_numvfs)"
    )]
    NoSuchPciDevice(PciAddress),

    /// The kernel's own driver holds the PCI device.
    #[error(
        "{address} is bound to {driver}: bind it to vfio-pci with \
         `driverctl set-override {address} vfio-pci` or `dpdk-devbind.py -b vfio-pci {address}` \
         (in Kubernetes, `deviceType: vfio-pci` in its SriovNetworkNodePolicy)"
    )]
    PciBoundToKernel {
        /// The device.
        address: PciAddress,
        /// The kernel driver.
        driver: String,
    },

    /// No driver holds the PCI device.
    #[error(
        "{0} is bound to no driver: bind it to vfio-pci with \
         `driverctl set-override {0} vfio-pci` or `dpdk-devbind.py -b vfio-pci {0}`"
    )]
    PciUnbound(PciAddress),

    /// The device works beside its kernel driver only, and does not have it.
    #[error(
        "{address} ({vendor:04x}:{device:04x}) is bound to {driver}, but DPDK's driver net_mlx5 works beside the \
         kernel's: bind it to mlx5_core with `driverctl unset-override {address}` \
         (in Kubernetes, `deviceType: netdevice` and `isRdma: true` in its SriovNetworkNodePolicy)"
    )]
    PciNeedsKernel {
        /// The device.
        address: PciAddress,
        /// The driver it has, or `no driver`.
        driver: String,
        /// PCI vendor.
        vendor: u16,
        /// PCI device.
        device: u16,
    },

    /// Another process has the device.
    #[error(
        "{address} is in use by {holder}: stop that, or give this one another device (VFIO group {group} can be opened once)"
    )]
    PciInUse {
        /// The device.
        address: PciAddress,
        /// Its VFIO group.
        group: String,
        /// Who has it.
        holder: String,
    },

    /// Other devices of the IOMMU group are in the kernel's hands.
    #[error(
        "{address} shares the IOMMU group {group} with {others}: all of a group must be bound to vfio-pci or to nothing \
         (`driverctl set-override ADDRESS vfio-pci` for each), or take a device of a group of its own"
    )]
    GroupNotViable {
        /// The device.
        address: PciAddress,
        /// Its IOMMU group.
        group: String,
        /// The others, each with its driver.
        others: String,
    },

    /// The group's device node does not let this process in.
    #[error("{path} cannot be opened: {source}; {hint}", path = path.display())]
    GroupDenied {
        /// The device node.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },

    /// The device's memory could not be locked.
    #[error(
        "{address} needs {need_mib} MiB of memory locked for DMA, and this process may lock {have_mib} MiB: \
         grant cap_ipc_lock (`securityContext.capabilities.add: [IPC_LOCK]`), or raise the limit (`ulimit -l unlimited`)"
    )]
    Memlock {
        /// The device.
        address: PciAddress,
        /// What packet memory takes.
        need_mib: u64,
        /// What may be locked.
        have_mib: u64,
    },

    /// Without an IOMMU, memory must be hugepages.
    #[error(
        "{address} is in VFIO's no-IOMMU mode, which needs packet memory in hugepages: {need_mib} MiB are needed and \
         {free_mib} MiB are free (`sysctl -w vm.nr_hugepages={pages}`, or `hugepages-2Mi` in the pod's resources), or \
         switch the IOMMU on"
    )]
    NoIommuWithoutHugepages {
        /// The device.
        address: PciAddress,
        /// What packet memory takes.
        need_mib: u64,
        /// What this process could take.
        free_mib: u64,
        /// 2 MiB pages that would do.
        pages: u64,
    },

    /// No installed driver of DPDK knows the device.
    #[error(
        "none of DPDK's drivers in {dir} knows {address} ({vendor:04x}:{device:04x}): install the one for it \
         (on Debian, a package librte-net-…), or take another device",
        dir = dir.display()
    )]
    NoDriverFor {
        /// The device.
        address: PciAddress,
        /// PCI vendor.
        vendor: u16,
        /// PCI device.
        device: u16,
        /// Where was looked.
        dir: PathBuf,
    },

    /// The PCI device was not in [`EalConfig::pci_allow`](crate::EalConfig::pci_allow).
    #[error(
        "{0} was not allowed when DPDK started: name it in the EAL configuration's list of PCI devices"
    )]
    PciNotAllowed(PciAddress),

    /// A driver's plugin is not installed.
    #[error(
        "DPDK's driver {driver} is not installed (no {file} in {dir}): on Debian, `apt-get install {package}`",
        dir = dir.display()
    )]
    DriverMissing {
        /// The driver, such as `net_af_xdp`.
        driver: String,
        /// The plugin's file name.
        file: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// The Debian package, or a pattern of it.
        package: String,
    },

    /// A device of this name is there already.
    #[error("the port {spec} is in use already: a device named {name:?} exists")]
    NameInUse {
        /// The specification that failed.
        spec: String,
        /// DPDK's name of the device.
        name: String,
    },

    /// A device could not be created or probed.
    #[error("the port {spec} could not be opened: {source}{log}")]
    Attach {
        /// The specification that failed.
        spec: String,
        /// The reason DPDK gave.
        source: io::Error,
        /// What DPDK logged meanwhile.
        log: Excerpt,
    },

    /// A mempool could not be made.
    #[error("no mempool {name:?} of {count} mbufs ({mib} MiB): {source}{hint}{log}")]
    Mempool {
        /// The pool's name.
        name: String,
        /// How many mbufs were asked for.
        count: u32,
        /// Memory it would take, in MiB.
        mib: u64,
        /// The reason DPDK gave.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
        /// What DPDK logged meanwhile.
        log: Excerpt,
    },

    /// The device has fewer queues than asked for.
    #[error(
        "the port {port} has at most {have} {direction} queues, {asked} were asked for: use fewer workers on it"
    )]
    TooManyQueues {
        /// The port's name.
        port: String,
        /// `receive` or `transmit`.
        direction: &'static str,
        /// What the device has.
        have: u16,
        /// What was asked for.
        asked: u16,
    },

    /// A frame of the MTU does not fit into one mbuf of the pool.
    #[error(
        "the port {port} with MTU {mtu} needs mbufs of {need} bytes, the pool's hold {have}: raise the pool's data room or lower the MTU"
    )]
    MbufTooSmall {
        /// The port's name.
        port: String,
        /// The MTU asked for.
        mtu: u16,
        /// Bytes a frame can have.
        need: u32,
        /// Bytes an mbuf holds behind its headroom.
        have: u32,
    },

    /// The device does not do this MTU.
    #[error("the port {port} does not do MTU {mtu}: it takes {min} to {max}")]
    MtuOutOfRange {
        /// The port's name.
        port: String,
        /// The MTU asked for.
        mtu: u16,
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
    },

    /// An operation on a port failed.
    #[error("{operation} of the port {port} failed: {source}{log}")]
    Port {
        /// The port's name.
        port: String,
        /// What was tried.
        operation: &'static str,
        /// The reason DPDK gave.
        source: io::Error,
        /// What DPDK logged meanwhile.
        log: Excerpt,
    },

    /// The port is in the wrong state for this.
    #[error("the port {port} {why}")]
    PortState {
        /// The port's name.
        port: String,
        /// What stands in the way.
        why: &'static str,
    },

    /// The calling thread could not become an lcore.
    #[error("the thread could not be registered with DPDK: {0} (at most {max} threads can be)", max = dpdk_sys::SHIM_MAX_LCORE)]
    Thread(io::Error),

    /// The calling thread could not be bound to a CPU.
    #[error(
        "the thread could not be bound to CPU {cpu}: {source} (is it in this container's cpuset?)"
    )]
    Pin {
        /// The CPU.
        cpu: usize,
        /// The reason the kernel gave.
        source: io::Error,
    },
}

/// The lines DPDK logged while something failed.
#[derive(Debug, Default)]
pub struct Excerpt(Vec<String>);

impl Error {
    /// Whether a device was asked for what its driver has not got.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Port { source, .. } if source.raw_os_error() == Some(libc::ENOTSUP))
    }
}

impl Excerpt {
    /// Lines kept at most; DPDK repeats itself on the way out.
    const MOST: usize = 8;

    /// Picks the warnings and errors, or the last few lines where there are none.
    pub(crate) fn of(lines: &[Line]) -> Self {
        let serious: Vec<&Line> = lines.iter().filter(|line| line.is_warning()).collect();
        let pick: Vec<&Line> = if serious.is_empty() {
            lines.iter().collect()
        } else {
            serious
        };
        let skip = pick.len().saturating_sub(Self::MOST);
        Self(
            pick.into_iter()
                .skip(skip)
                .map(|line| line.text.clone())
                .collect(),
        )
    }
}

impl std::fmt::Display for Excerpt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; DPDK says: {}", self.0.join(" | "))
    }
}

/// An error from a DPDK return value (`-errno`, or `-1` with the reason in `rte_errno`).
pub(crate) fn os_error(code: i32) -> io::Error {
    // -1 is also -EPERM; DPDK's functions that return plain -1 set rte_errno.
    // SAFETY: reads a thread-local integer; valid before and after EAL initialisation.
    let thread_errno = unsafe { dpdk_sys::shim_errno() };
    let errno = if code == -1 && thread_errno != 0 {
        thread_errno
    } else {
        code.saturating_abs()
    };
    io::Error::from_raw_os_error(errno)
}

/// The error DPDK left in `rte_errno`.
pub(crate) fn last_error() -> io::Error {
    os_error(-1)
}
