//! What a PCI device is, and everything that stands in the way of using it.
//!
//! Read from sysfs and procfs alone, so that it can be told before DPDK starts, all at once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::eal::driver_dir;
use crate::error::Error;
use crate::pmd::{self, Pmd};
use crate::preflight::{self, Capability, free_hugepage_mib_in, link_name, own_capabilities};
use crate::spec::PciAddress;

/// NVIDIA's (Mellanox') vendor number.
const MELLANOX: u16 = 0x15b3;

/// What packet memory asks of the machine, for devices that reach it by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DmaNeeds {
    /// Packet memory, MiB.
    pub memory_mib: u64,
    /// Whether hugepages may be used at all.
    pub hugepages: bool,
}

/// What is known of a PCI device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor and device number.
    pub ids: Option<(u16, u16)>,
    /// The kernel driver it is bound to.
    pub kernel_driver: Option<String>,
    /// DPDK's driver for it, such as `net_iavf`.
    pub dpdk_driver: Option<String>,
    /// The number of its IOMMU group.
    pub iommu_group: Option<String>,
    /// Whether VFIO drives it without an IOMMU.
    pub no_iommu: bool,
    /// The NUMA node it is attached to, where the machine has several.
    pub numa_node: Option<u16>,
    /// The physical function, if this is a virtual one.
    pub physical_function: Option<PciAddress>,
    /// The kernel's network interface of the device, where it has one.
    pub netdev: Option<String>,
}

/// A PCI device with what is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct PciReport {
    /// The device.
    pub device: PciDevice,
    /// Why it is used as it is, or cannot be.
    pub why: String,
    /// What must be mended first; all of it.
    pub problems: Vec<Error>,
    /// What works, but should be known.
    pub warnings: Vec<String>,
}

/// Looks at a PCI device without touching it.
pub fn inspect_pci(address: PciAddress, needs: DmaNeeds) -> PciReport {
    let mut report = Host::this().inspect(address, Some(needs));
    if let Some((vendor, device)) = report.device.ids {
        let dir = driver_dir();
        match pmd::driver_of(&dir, vendor, device) {
            Pmd::Known(name) => report.device.dpdk_driver = Some(name),
            Pmd::Unknown => {}
            Pmd::Nobody => report.problems.push(Error::NoDriverFor {
                address,
                vendor,
                device,
                dir,
            }),
        }
    }
    report
}

/// The first thing that stands in the way of a PCI device.
pub(crate) fn check(address: PciAddress) -> Result<(), Error> {
    Host::this().check(address)
}

/// The machine as this process sees it; in tests, a model.
struct Host {
    root: PathBuf,
    capabilities: u64,
    /// Octets that may be locked.
    memlock: u64,
    /// Whether device nodes can be opened to ask them.
    live: bool,
}

/// How the kernel driver of a device and DPDK get along.
enum Kind {
    /// Through VFIO.
    Vfio,
    /// The kernel's driver stays, and DPDK asks it through RDMA verbs.
    Verbs,
    /// Another way in which DPDK works, with nothing to check beforehand.
    Plain,
}

impl Host {
    fn this() -> Self {
        Self {
            root: PathBuf::from("/"),
            capabilities: own_capabilities(),
            memlock: preflight::memlock_limit(),
            live: true,
        }
    }

    fn check(&self, address: PciAddress) -> Result<(), Error> {
        let mut report = self.inspect(address, None);
        if report.problems.is_empty() {
            Ok(())
        } else {
            Err(report.problems.swap_remove(0))
        }
    }

    fn inspect(&self, address: PciAddress, needs: Option<DmaNeeds>) -> PciReport {
        let sys = self.root.join(format!("sys/bus/pci/devices/{address}"));
        let number = |file: &str| -> Option<u16> {
            let text = fs::read_to_string(sys.join(file)).ok()?;
            u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
        };
        let iommu_group = link_name(&sys.join("iommu_group"));
        let numa = fs::read_to_string(sys.join("numa_node")).ok();
        let device = PciDevice {
            address,
            ids: number("vendor").zip(number("device")),
            kernel_driver: link_name(&sys.join("driver")),
            dpdk_driver: None,
            no_iommu: iommu_group
                .as_ref()
                .is_some_and(|group| self.root.join(format!("dev/vfio/noiommu-{group}")).exists()),
            iommu_group,
            numa_node: numa.and_then(|text| text.trim().parse().ok()),
            physical_function: link_name(&sys.join("physfn")).and_then(|name| name.parse().ok()),
            netdev: first_entry(&sys.join("net")),
        };
        let mut report = PciReport {
            device,
            why: String::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        if !sys.exists() {
            "there is no such device".clone_into(&mut report.why);
            report.problems.push(Error::NoSuchPciDevice(address));
            return report;
        }
        match Self::kind(&report.device) {
            Ok((kind, why)) => {
                report.why = why;
                match kind {
                    Kind::Vfio => self.check_vfio(&sys, &mut report, needs),
                    Kind::Verbs => self.check_verbs(&sys, &mut report, needs),
                    Kind::Plain => {}
                }
            }
            Err(error) => {
                "it is in the wrong hands".clone_into(&mut report.why);
                report.problems.push(error);
            }
        }
        report
    }

    /// How the device will be driven, and why.
    fn kind(device: &PciDevice) -> Result<(Kind, String), Error> {
        let address = device.address;
        let beside_the_kernel = device.ids.filter(|ids| is_mlx5(*ids));
        let Some(driver) = device.kernel_driver.clone() else {
            return Err(match beside_the_kernel {
                Some((vendor, device)) => Error::PciNeedsKernel {
                    address,
                    driver: "no driver".to_owned(),
                    vendor,
                    device,
                },
                None => Error::PciUnbound(address),
            });
        };
        match (driver.as_str(), beside_the_kernel) {
            ("mlx5_core" | "mlx4_core", _) => {
                let why = format!("DPDK works beside {driver}, through RDMA verbs");
                Ok((Kind::Verbs, why))
            }
            (_, Some((vendor, device))) => Err(Error::PciNeedsKernel {
                address,
                driver,
                vendor,
                device,
            }),
            ("vfio-pci", None) => {
                let why = if device.no_iommu {
                    "bound to vfio-pci, without an IOMMU"
                } else {
                    "bound to vfio-pci"
                };
                Ok((Kind::Vfio, why.to_owned()))
            }
            ("uio_pci_generic" | "igb_uio" | "mana", None) => {
                Ok((Kind::Plain, format!("bound to {driver}")))
            }
            _ => Err(Error::PciBoundToKernel { address, driver }),
        }
    }

    fn check_vfio(&self, sys: &Path, report: &mut PciReport, needs: Option<DmaNeeds>) {
        let address = report.device.address;
        let mut problem = |error| report.problems.push(error);
        let vfio = self.root.join("dev/vfio");
        let container = vfio.join("vfio");
        if !container.exists() {
            problem(Error::NoSuchFile {
                path: container,
                hint: "load vfio (`modprobe vfio-pci`), or pass /dev/vfio into the container: in Kubernetes, ask \
                       for the device as a resource of the SR-IOV device plugin"
                    .to_owned(),
            });
        }
        let Some(group) = report.device.iommu_group.clone() else {
            problem(Error::NoSuchFile {
                path: sys.join("iommu_group"),
                hint: "the device has no IOMMU group: switch the IOMMU on (firmware, and intel_iommu=on on Intel)"
                    .to_owned(),
            });
            return;
        };
        let others = self.strangers(sys, address);
        if !others.is_empty() {
            problem(Error::GroupNotViable {
                address,
                group: group.clone(),
                others: others.join(", "),
            });
        }
        let mut node = vfio.join(&group);
        if report.device.no_iommu {
            node = vfio.join(format!("noiommu-{group}"));
            report.warnings.push(format!(
                "{address} is used without an IOMMU: whatever it is told to reach in memory, it reaches, and nothing \
                 confines it; switch the IOMMU on where there is one"
            ));
            if !Capability::SYS_RAWIO.is_in(self.capabilities) {
                problem(
                    Capability::SYS_RAWIO.missing(format!("{address} in VFIO's no-IOMMU mode")),
                );
            }
        } else if self.no_iommu_allowed() {
            report.warnings.push(
                "enable_unsafe_noiommu_mode is set, though this device has an IOMMU: unset it if no other needs it"
                    .to_owned(),
            );
        }
        if !node.exists() {
            problem(Error::NoSuchFile {
                path: node,
                hint: format!(
                    "pass the VFIO group of {address} into the container: in Kubernetes, ask for the device as a \
                     resource of the SR-IOV device plugin"
                ),
            });
        } else if let Some(holder) = self.holder(&node) {
            problem(Error::PciInUse {
                address,
                group: group.clone(),
                holder,
            });
        } else if self.live && !self.is_ours(&node) {
            match preflight::ask_vfio_group(&node) {
                Ok(false) if others.is_empty() => problem(Error::GroupNotViable {
                    address,
                    group: group.clone(),
                    others: "devices that are not to be seen from here".to_owned(),
                }),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    problem(Error::PciInUse {
                        address,
                        group: group.clone(),
                        holder: "a process that is not to be seen from here, in another container or on the host"
                            .to_owned(),
                    });
                }
                Err(source) => problem(Error::GroupDenied {
                    path: node,
                    source,
                    hint: "run as root, or as a user or group that may read and write it; in a container, the device \
                           must be passed in by the SR-IOV device plugin",
                }),
            }
        }
        let Some(needs) = needs else { return };
        if report.device.no_iommu {
            let free_mib = free_hugepage_mib_in(&self.root);
            if !needs.hugepages || free_mib < needs.memory_mib {
                problem(Error::NoIommuWithoutHugepages {
                    address,
                    need_mib: needs.memory_mib,
                    free_mib: if needs.hugepages { free_mib } else { 0 },
                    pages: needs.memory_mib.div_ceil(2),
                });
            }
        } else {
            self.check_memlock(report, needs);
        }
    }

    fn check_verbs(&self, sys: &Path, report: &mut PciReport, needs: Option<DmaNeeds>) {
        let address = report.device.address;
        let mut problem = |error| report.problems.push(error);
        match first_entry(&sys.join("infiniband_verbs")) {
            None => problem(Error::NoSuchFile {
                path: sys.join("infiniband_verbs"),
                hint: "load the kernel's RDMA modules (`modprobe mlx5_ib ib_uverbs`); in a container, the RDMA device \
                       may be in another network namespace (`rdma system show`, and the RDMA CNI plugin)"
                    .to_owned(),
            }),
            Some(name) => {
                let node = self.root.join("dev/infiniband").join(name);
                if !node.exists() {
                    problem(Error::NoSuchFile {
                        path: node,
                        hint: format!(
                            "pass the RDMA device of {address} into the container: in Kubernetes, `isRdma: true` in \
                             its SriovNetworkNodePolicy"
                        ),
                    });
                }
            }
        }
        if !Capability::NET_RAW.is_in(self.capabilities) {
            problem(Capability::NET_RAW.missing(format!("{address} by RDMA verbs")));
        }
        if let Some(needs) = needs {
            self.check_memlock(report, needs);
        }
    }

    /// What the device shall reach is locked in memory, hugepages or not.
    fn check_memlock(&self, report: &mut PciReport, needs: DmaNeeds) {
        let unlimited = Capability::IPC_LOCK.is_in(self.capabilities);
        let have_mib = self.memlock >> 20;
        if !unlimited && have_mib < needs.memory_mib {
            report.problems.push(Error::Memlock {
                address: report.device.address,
                need_mib: needs.memory_mib,
                have_mib,
            });
        }
    }

    /// Whether VFIO would drive devices that have no IOMMU.
    fn no_iommu_allowed(&self) -> bool {
        let path = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        let value = fs::read_to_string(self.root.join(path));
        value.is_ok_and(|value| matches!(value.trim(), "Y" | "1"))
    }

    /// The other devices of the IOMMU group that a driver other than VFIO's holds.
    fn strangers(&self, sys: &Path, address: PciAddress) -> Vec<String> {
        let entries = fs::read_dir(sys.join("iommu_group/devices"));
        let mut found: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let other: PciAddress = name.parse().ok()?;
                let path = self.root.join("sys/bus/pci/devices").join(&name);
                let driver = link_name(&path.join("driver"))?;
                // The kernel does not count bridges, nor those that hold a device for nobody.
                let harmless = driver.contains("vfio")
                    || matches!(driver.as_str(), "pci-stub" | "pcieport" | "pci-pf-stub");
                (other != address && !harmless).then(|| format!("{name} ({driver})"))
            })
            .collect();
        found.sort();
        found
    }

    /// Another process that has a device node open, as far as this one may see.
    fn holder(&self, node: &Path) -> Option<String> {
        let me = std::process::id().to_string();
        fs::read_dir(self.root.join("proc"))
            .ok()?
            .flatten()
            .find_map(|process| {
                let pid = process.file_name().to_str()?.to_owned();
                if pid == me || !pid.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let has_it = self.has_open(&process.path(), node);
                has_it.then(|| format!("process {pid} ({})", name.trim()))
            })
    }

    /// Whether this process has a device node open already, as DPDK does once it has started.
    fn is_ours(&self, node: &Path) -> bool {
        self.has_open(&self.root.join("proc/self"), node)
    }

    fn has_open(&self, process: &Path, node: &Path) -> bool {
        let Ok(node) = node.strip_prefix(&self.root) else {
            return false;
        };
        let node = Path::new("/").join(node);
        let files = fs::read_dir(process.join("fd")).into_iter().flatten();
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to == node))
    }
}

/// Whether DPDK drives this device beside `mlx5_core`: ConnectX-4 and later, and `BlueField`,
/// physical and virtual functions alike.
fn is_mlx5((vendor, device): (u16, u16)) -> bool {
    vendor == MELLANOX
        && matches!(
            device,
            // ConnectX-4 to ConnectX-8 and their virtual functions, `BlueField` 1 to 3.
            0x1013..=0x1025 | 0xa2d2 | 0xa2d3 | 0xa2d6 | 0xa2d9 | 0xa2dc
        )
}

fn first_entry(dir: &Path) -> Option<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.into_iter().next()
}

#[cfg(test)]
#[path = "pci_tests.rs"]
mod tests;
