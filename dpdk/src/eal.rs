//! The environment abstraction layer: DPDK's start and end.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dpdk_sys as sys;

use crate::device::Device;
use crate::error::{Error, Excerpt, last_error, os_error};
use crate::fanout;
use crate::log;
use crate::pci;
use crate::preflight;
use crate::spec::{PciAddress, PortSpec, VdevOptions};
use crate::thread::LcoreGuard;
use crate::wakeup::OpenFiles;

/// Whether to take packet memory from hugepages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// When enough of them are free; ordinary memory otherwise.
    #[default]
    Auto,
    /// Never: ordinary memory.
    Never,
    /// Always: without enough of them the start fails.
    Required,
}

/// How much DPDK logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Warnings too.
    Warning,
    /// What DPDK does unasked.
    #[default]
    Notice,
    /// How it starts.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// How DPDK is to be started.
#[derive(Debug, Clone, Default)]
pub struct EalConfig {
    /// Name of the program, for DPDK's log.
    pub program: String,
    /// Memory for mempools and drivers, in MiB. Without hugepages it is reserved (not touched) at
    /// the start and is all there will be; 512 when `None`. With hugepages it is what must be free.
    pub memory_mib: Option<u32>,
    /// Whether to use hugepages.
    pub hugepages: HugePages,
    /// PCI devices DPDK may touch. Without any, it does not look at the PCI bus.
    pub pci_allow: Vec<PciAddress>,
    /// Virtual devices to create at once; [`Eal::attach`] gives better errors.
    pub vdevs: Vec<String>,
    /// CPUs the calling thread may run on; those it may run on now when empty.
    pub cpus: Vec<usize>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// More EAL arguments, passed on as they are.
    pub extra_args: Vec<String>,
}

/// Memory reserved without hugepages when nobody says how much.
const DEFAULT_MEMORY_MIB: u32 = 512;

/// DPDK, initialised. Clones share it; it is cleaned up when the last clone, port and pool are gone.
#[derive(Debug, Clone)]
pub struct Eal(Arc<EalInner>);

#[derive(Debug)]
pub(crate) struct EalInner {
    pci_allow: Vec<PciAddress>,
    hugepages: bool,
    /// Numbers the virtual devices.
    next_vdev: AtomicUsize,
    /// Ports that belong to a [`Device`]: no two may claim one.
    claimed: Mutex<BTreeSet<u16>>,
}

impl Eal {
    /// Starts DPDK: once in the life of a process.
    ///
    /// Takes well under a second. Memory is private to the process; telemetry and
    /// the PCI bus are left alone unless asked for.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`], [`Error::NoHugepages`], [`Error::BadConfig`], an error of a PCI
    /// device in the list, or [`Error::EalInit`] with what DPDK logged.
    pub fn init(config: &EalConfig) -> Result<Self, Error> {
        static STARTED: AtomicBool = AtomicBool::new(false);

        for address in &config.pci_allow {
            pci::check(*address)?;
        }
        let hugepages = choose_hugepages(config, preflight::free_hugepage_mib())?;
        let arguments = arguments(config, hugepages)?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyInitialised);
        }
        log::install();
        tracing::debug!(target: "dpdk", ?arguments, "starting");

        let mut pointers: Vec<*mut c_char> = arguments
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        let count = c_int::try_from(pointers.len())
            .map_err(|_| Error::BadConfig("too many EAL arguments".to_owned()))?;
        pointers.push(std::ptr::null_mut());
        let (result, lines) = log::capture(|| {
            // SAFETY: a NULL-terminated argv of C strings that outlive the call; EAL permutes the
            // pointers, copies what it keeps, and writes to none of the strings.
            let result = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
            if result < 0 {
                Err(last_error())
            } else {
                Ok(())
            }
        });
        // EAL keeps pointers into the first argument (the log identity) for good.
        std::mem::forget(arguments);
        result.map_err(|source| Error::EalInit {
            source,
            log: Excerpt::of(&lines),
        })?;
        log::replay(&lines);
        Ok(Self(Arc::new(EalInner {
            pci_allow: config.pci_allow.clone(),
            hugepages,
            next_vdev: AtomicUsize::new(0),
            claimed: Mutex::default(),
        })))
    }

    /// Whether memory comes from hugepages.
    pub fn uses_hugepages(&self) -> bool {
        self.0.hugepages
    }

    /// Opens the device a port specification names.
    ///
    /// # Errors
    /// What is wrong with this one port, and what to do about it: see [`Error`].
    pub fn attach(&self, spec: &PortSpec, options: &VdevOptions) -> Result<Device, Error> {
        // DPDK opens PCI devices on its list when it starts: their groups are in use from then on, by
        // this process, which the check would take for another.
        let probed = match spec {
            PortSpec::Pci(address) => CString::new(address.to_string())
                .ok()
                .and_then(|name| port_by_name(&name)),
            _ => None,
        };
        if probed.is_none() {
            preflight::prepare_port(spec, &driver_dir())?;
        }
        let arguments = match spec {
            PortSpec::Pci(address) => {
                if !self.0.pci_allow.contains(address) {
                    return Err(Error::PciNotAllowed(*address));
                }
                address.to_string()
            }
            _ => spec
                .to_vdev(self.0.next_vdev.fetch_add(1, Ordering::Relaxed), options)
                .unwrap_or_default(),
        };
        let name = arguments.split(',').next().unwrap_or_default().to_owned();
        let as_c = |text: &str| {
            CString::new(text).map_err(|_| Error::BadConfig(format!("{spec} has a NUL byte")))
        };
        let (c_arguments, c_name) = (as_c(&arguments)?, as_c(&name)?);

        let taken = || Error::NameInUse {
            spec: spec.to_string(),
            name: name.clone(),
        };
        let is_pci = matches!(spec, PortSpec::Pci(_));
        let before = OpenFiles::now();
        // Look-up, creation and claim are one step: a port's number may be given out again as soon
        // as the port is gone.
        let (found, lines) = log::capture(|| {
            match port_by_name(&c_name) {
                // PCI devices on the list were probed when EAL started.
                Some(id) if is_pci && self.0.claim(id) => return Ok(id),
                Some(_) => return Err(-libc::EEXIST),
                None => {}
            }
            // SAFETY: EAL is initialised and the argument is a C string, which is copied.
            let probe = || unsafe { sys::rte_dev_probe(c_arguments.as_ptr()) };
            let code = match spec {
                PortSpec::AfPacket(_) => fanout::unjoined(probe),
                _ => probe(),
            };
            match code {
                0 => port_by_name(&c_name).ok_or(-libc::ENODEV),
                error => Err(error),
            }
            .and_then(|id| {
                if self.0.claim(id) {
                    Ok(id)
                } else {
                    Err(-libc::EEXIST)
                }
            })
        });
        match found {
            Ok(id) => {
                log::replay(&lines);
                Ok(Device::new(
                    Arc::clone(&self.0),
                    id,
                    name,
                    spec.clone(),
                    before,
                ))
            }
            Err(code) if code == -libc::EEXIST => Err(taken()),
            Err(code) => Err(Error::Attach {
                spec: spec.to_string(),
                source: os_error(code),
                log: Excerpt::of(&lines),
            }),
        }
    }

    /// The device DPDK created under this name at the start ([`EalConfig::vdevs`]); `None` if there
    /// is none, or it has been taken.
    pub fn take_device(&self, name: &str) -> Option<Device> {
        let c_name = CString::new(name).ok()?;
        let claim = || port_by_name(&c_name).filter(|id| self.0.claim(*id));
        let id = log::capture(claim).0?;
        let spec = PortSpec::Raw(name.to_owned());
        let before = OpenFiles::default();
        Some(Device::new(
            Arc::clone(&self.0),
            id,
            name.to_owned(),
            spec,
            before,
        ))
    }

    /// Makes the calling thread known to DPDK until the guard is dropped, so that it uses the
    /// mempools' caches. A thread that is known already gets a guard that does nothing.
    ///
    /// # Errors
    /// [`Error::Thread`] when there are too many threads.
    pub fn register_thread(&self) -> Result<LcoreGuard, Error> {
        LcoreGuard::register(Arc::clone(&self.0))
    }

    pub(crate) fn inner(&self) -> &Arc<EalInner> {
        &self.0
    }
}

impl EalInner {
    /// Claims a port; false when it is taken.
    fn claim(&self, id: u16) -> bool {
        self.claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id)
    }

    /// Gives a claimed port up.
    pub(crate) fn disclaim(&self, id: u16) {
        self.claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}

impl Drop for EalInner {
    fn drop(&mut self) {
        let (code, lines) = log::capture(|| {
            // SAFETY: EAL was initialised once, and every port, pool and registered thread holds
            // this value: none is left.
            unsafe { sys::rte_eal_cleanup() }
        });
        log::replay(&lines);
        if code != 0 {
            tracing::warn!(error = %os_error(code), "DPDK did not clean up completely");
        }
    }
}

fn port_by_name(name: &CString) -> Option<u16> {
    let mut id = 0;
    // SAFETY: EAL is initialised; a C string in and one integer out.
    let code = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (code == 0).then_some(id)
}

/// Where drivers are: of the DPDK this was built against, unless `DPDK_DRIVER_DIR` says otherwise.
/// Where DPDK's drivers are.
pub(crate) fn driver_dir() -> PathBuf {
    std::env::var_os("DPDK_DRIVER_DIR")
        .map_or_else(|| PathBuf::from(sys::DRIVER_DIR), PathBuf::from)
}

fn choose_hugepages(config: &EalConfig, free_mib: u64) -> Result<bool, Error> {
    let need_mib = u64::from(config.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB));
    match config.hugepages {
        HugePages::Never => Ok(false),
        HugePages::Auto => Ok(free_mib >= need_mib),
        HugePages::Required if free_mib >= need_mib => Ok(true),
        HugePages::Required => Err(Error::NoHugepages {
            need_mib,
            free_mib,
            pages: need_mib.div_ceil(2),
        }),
    }
}

/// The command line EAL is given.
fn arguments(config: &EalConfig, hugepages: bool) -> Result<Vec<CString>, Error> {
    let program = if config.program.is_empty() {
        "dpdk"
    } else {
        &config.program
    };
    let cpus = if config.cpus.is_empty() {
        preflight::allowed_cpus()
            .map_err(|e| Error::BadConfig(format!("cannot read the CPU affinity: {e}")))?
    } else {
        config.cpus.clone()
    };
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let mut words = vec![
        program.to_owned(),
        "--no-telemetry".to_owned(),
        format!("--log-level={}", config.log_level.as_str()),
        // One lcore: the caller, free to run on any of its CPUs. Workers register themselves.
        format!("--lcores=0@({})", cpus.join(",")),
    ];
    // Nothing is left in the file system and no second process can join, either way; EAL takes the
    // first only with hugepages.
    if hugepages {
        words.push("--in-memory".to_owned());
    } else {
        words.push("--no-shconf".to_owned());
        words.push("--no-huge".to_owned());
        words.push(format!(
            "-m{}",
            config.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB)
        ));
    }
    if config.pci_allow.is_empty() {
        words.push("--no-pci".to_owned());
        // No device needs physical addresses then, and finding them takes privileges.
        words.push("--iova-mode=va".to_owned());
    }
    words.extend(
        config
            .pci_allow
            .iter()
            .map(|address| format!("--allow={address}")),
    );
    words.extend(config.vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
    words.extend(config.extra_args.iter().cloned());
    words
        .into_iter()
        .map(|word| {
            CString::new(word)
                .map_err(|e| Error::BadConfig(format!("EAL argument with a NUL byte: {e}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &EalConfig, hugepages: bool) -> String {
        let words = arguments(config, hugepages).unwrap();
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn without_pci_devices_the_bus_is_left_alone() {
        let config = EalConfig {
            program: "tmm".into(),
            cpus: vec![3, 200],
            ..EalConfig::default()
        };
        assert_eq!(
            line(&config, false),
            "tmm --no-telemetry --log-level=notice --lcores=0@(3,200) \
             --no-shconf --no-huge -m512 --no-pci --iova-mode=va"
        );
    }

    #[test]
    fn listed_pci_devices_are_allowed_and_nothing_else() {
        let config = EalConfig {
            pci_allow: vec!["3b:02.0".parse().unwrap()],
            vdevs: vec!["net_null0".into()],
            extra_args: vec!["--huge-dir=/x".into()],
            ..EalConfig::default()
        };
        let line = line(&config, true);
        assert!(
            line.ends_with("--allow=0000:3b:02.0 --vdev=net_null0 --huge-dir=/x"),
            "{line}"
        );
        assert!(
            !line.contains("--no-pci") && !line.contains("--no-huge"),
            "{line}"
        );
    }

    #[test]
    fn hugepages_are_used_only_when_enough_are_free() {
        let config = |hugepages| EalConfig {
            hugepages,
            memory_mib: Some(256),
            ..EalConfig::default()
        };
        assert!(choose_hugepages(&config(HugePages::Auto), 256).unwrap());
        assert!(!choose_hugepages(&config(HugePages::Auto), 255).unwrap());
        assert!(!choose_hugepages(&config(HugePages::Never), 4096).unwrap());
        assert!(choose_hugepages(&config(HugePages::Required), 256).unwrap());
        let error = choose_hugepages(&config(HugePages::Required), 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("vm.nr_hugepages=128"), "{error}");
    }

    #[test]
    fn a_nul_byte_in_an_argument_is_an_error() {
        let config = EalConfig {
            extra_args: vec!["a\0b".into()],
            ..EalConfig::default()
        };
        assert!(matches!(
            arguments(&config, false),
            Err(Error::BadConfig(_))
        ));
    }
}
