use std::os::unix::fs::symlink;

use super::*;

const ADDRESS: &str = "0000:3b:02.0";
const NEEDS: DmaNeeds = DmaNeeds {
    memory_mib: 100,
    hugepages: true,
};

fn address() -> PciAddress {
    ADDRESS.parse().unwrap()
}

/// A model of a machine, in a folder of its own.
struct Model {
    host: Host,
    _folder: tempfile::TempDir,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host {
            root: folder.path().to_owned(),
            capabilities: u64::MAX,
            memlock: u64::MAX,
            live: false,
        };
        Self {
            host,
            _folder: folder,
        }
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.host.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.host.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    /// A PCI device with these numbers, bound to `driver` if one is given.
    fn device(&self, address: &str, ids: (u16, u16), driver: Option<&str>) -> &Self {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{folder}/vendor"), &format!("{:#06x}\n", ids.0));
        self.write(&format!("{folder}/device"), &format!("{:#06x}\n", ids.1));
        if let Some(driver) = driver {
            let to = format!("../../../bus/pci/drivers/{driver}");
            self.link(&format!("{folder}/driver"), &to);
        }
        self
    }

    /// A virtual function as a pod should have it.
    fn good(ids: (u16, u16)) -> Self {
        let model = Self::new();
        model
            .device(ADDRESS, ids, Some("vfio-pci"))
            .write("dev/vfio/vfio", "")
            .write("dev/vfio/42", "")
            .link(
                &format!("sys/bus/pci/devices/{ADDRESS}/iommu_group"),
                "../../../kernel/iommu_groups/42",
            )
            .link(
                &format!("sys/bus/pci/devices/{ADDRESS}/physfn"),
                "../0000:3b:00.0",
            )
            .write(&format!("sys/bus/pci/devices/{ADDRESS}/numa_node"), "1\n");
        model
    }

    fn inspect(&self) -> PciReport {
        self.host.inspect(address(), Some(NEEDS))
    }

    /// The only problem there is.
    fn problem(&self) -> String {
        let report = self.inspect();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        report.problems[0].to_string()
    }
}

const IAVF: (u16, u16) = (0x8086, 0x154c);
const CONNECTX5_VF: (u16, u16) = (MELLANOX, 0x1018);

#[test]
fn a_function_on_vfio_is_described_and_has_no_problem() {
    let report = Model::good(IAVF).inspect();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let device = report.device;
    assert_eq!(device.ids, Some(IAVF));
    assert_eq!(device.kernel_driver.as_deref(), Some("vfio-pci"));
    assert_eq!(device.iommu_group.as_deref(), Some("42"));
    assert_eq!(device.numa_node, Some(1));
    assert_eq!(device.physical_function, "0000:3b:00.0".parse().ok());
    assert!(!device.no_iommu);
}

#[test]
fn a_missing_pci_device_is_named() {
    let error = Model::new().problem();
    assert!(error.contains("no PCI device 0000:3b:02.0"), "{error}");
}

#[test]
fn a_device_in_the_kernels_hands_comes_with_the_command_to_free_it() {
    for driver in ["iavf", "ixgbevf", "igbvf", "gve"] {
        let model = Model::new();
        model.device(ADDRESS, IAVF, Some(driver));
        let error = model.problem();
        assert!(
            error.contains(&format!("0000:3b:02.0 is bound to {driver}")),
            "{error}"
        );
        assert!(
            error.contains("driverctl set-override 0000:3b:02.0 vfio-pci"),
            "{error}"
        );
        assert!(error.contains("deviceType: vfio-pci"), "{error}");
    }
}

#[test]
fn an_unbound_device_is_told_from_a_bound_one() {
    let model = Model::new();
    model.device(ADDRESS, IAVF, None);
    assert!(matches!(
        model.host.check(address()),
        Err(Error::PciUnbound(_))
    ));
}

#[test]
fn vfio_needs_its_container_its_group_and_the_groups_device() {
    let model = Model::new();
    model.device(ADDRESS, IAVF, Some("vfio-pci"));
    let said = |model: &Model| {
        let report = model.inspect();
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        problems.join("\n")
    };
    // All at once.
    let all = said(&model);
    assert!(all.contains("dev/vfio/vfio is missing"), "{all}");
    assert!(all.contains("switch the IOMMU on"), "{all}");
    model.write("dev/vfio/vfio", "").link(
        &format!("sys/bus/pci/devices/{ADDRESS}/iommu_group"),
        "../../../kernel/iommu_groups/42",
    );
    assert!(
        said(&model).contains("dev/vfio/42 is missing"),
        "{}",
        said(&model)
    );
    model.write("dev/vfio/42", "");
    assert_eq!(said(&model), "");
}

#[test]
fn mlx5_functions_are_used_beside_their_kernel_driver() {
    let mut model = Model::new();
    let sys = format!("sys/bus/pci/devices/{ADDRESS}");
    model.device(ADDRESS, CONNECTX5_VF, Some("mlx5_core"));
    assert!(model.problem().contains("modprobe mlx5_ib"));
    model.write(&format!("{sys}/infiniband_verbs/uverbs3/dev"), "");
    let error = model.problem();
    assert!(
        error.contains("dev/infiniband/uverbs3 is missing"),
        "{error}"
    );
    assert!(error.contains("isRdma: true"), "{error}");
    model.write("dev/infiniband/uverbs3", "");
    model.write(&format!("{sys}/net/net1/mtu"), "");
    let report = model.inspect();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.device.netdev.as_deref(), Some("net1"));
    assert!(report.why.contains("beside mlx5_core"), "{}", report.why);
    model.host.capabilities = !(1 << 13);
    assert!(model.problem().contains("cap_net_raw"));
}

#[test]
fn mlx5_functions_on_vfio_are_sent_back_to_the_kernel() {
    for device in [
        0x1014, 0x1016, 0x1018, 0x101a, 0x101c, 0x101e, 0xa2d3, 0xa2dc,
    ] {
        let ids = (MELLANOX, device);
        let error = Model::good(ids).problem();
        assert!(
            error.contains("bound to vfio-pci") && error.contains("deviceType: netdevice"),
            "{error}"
        );
        let unbound = Model::new();
        unbound.device(ADDRESS, ids, None);
        assert!(unbound.problem().contains("bound to no driver"));
    }
    assert!(
        !is_mlx5((MELLANOX, 0x1004)),
        "ConnectX-3 belongs to another driver"
    );
    assert!(!is_mlx5((0x8086, 0x1018)));
}

#[test]
fn a_group_with_devices_of_the_kernels_lists_them() {
    let model = Model::good(IAVF);
    let group = format!("sys/bus/pci/devices/{ADDRESS}/iommu_group");
    fs::remove_file(model.host.root.join(&group)).unwrap();
    let groups = "sys/kernel/iommu_groups/42";
    for (other, driver) in [
        (ADDRESS, None),
        ("0000:3b:02.1", Some("iavf")),
        ("0000:3b:00.0", Some("pcieport")),
        ("0000:3b:02.2", Some("vfio-pci")),
        ("0000:3b:02.3", None),
        ("0000:3b:02.4", Some("igb")),
    ] {
        if other != ADDRESS {
            model.device(other, IAVF, driver);
        }
        model.write(&format!("{groups}/devices/{other}"), "");
    }
    model.link(&group, "../../../../kernel/iommu_groups/42");
    let error = model.problem();
    assert!(
        error.contains("the IOMMU group 42 with 0000:3b:02.1 (iavf), 0000:3b:02.4 (igb)"),
        "{error}"
    );
}

#[test]
fn the_process_that_has_the_device_is_named() {
    let model = Model::good(IAVF);
    model.write("proc/77/comm", "testpmd\n");
    model.link("proc/77/fd/5", "/dev/vfio/42");
    model.link("proc/77/fd/6", "/dev/vfio/vfio");
    let error = model.problem();
    assert!(
        error.contains("0000:3b:02.0 is in use by process 77 (testpmd)"),
        "{error}"
    );
}

#[test]
fn a_group_that_this_process_has_open_is_not_asked_again() {
    let mut model = Model::good(IAVF);
    model.host.live = true;
    // A folder stands for a device node that cannot be opened.
    let node = model.host.root.join("dev/vfio/42");
    fs::remove_file(&node).unwrap();
    fs::create_dir(&node).unwrap();
    let error = model.problem();
    assert!(error.contains("cannot be opened"), "{error}");
    model.link("proc/self/fd/9", "/dev/vfio/42");
    assert!(model.inspect().problems.is_empty());
}

#[test]
fn without_an_iommu_there_is_a_warning_and_hugepages_are_a_must() {
    let mut model = Model::good(IAVF);
    fs::remove_file(model.host.root.join("dev/vfio/42")).unwrap();
    model.write("dev/vfio/noiommu-42", "").write(
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y\n",
    );
    let report = model.inspect();
    assert!(report.device.no_iommu);
    assert!(
        report.warnings[0].contains("without an IOMMU"),
        "{:?}",
        report.warnings
    );
    let error = model.problem();
    assert!(
        error.contains("100 MiB are needed and 0 MiB are free"),
        "{error}"
    );
    assert!(error.contains("vm.nr_hugepages=50"), "{error}");
    model.write(
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
        "64\n",
    );
    assert!(model.inspect().problems.is_empty());
    model.host.capabilities = !(1 << 17);
    assert!(model.problem().contains("cap_sys_rawio"));
}

#[test]
fn memory_that_cannot_be_locked_is_told_with_the_sum() {
    let mut model = Model::good(IAVF);
    model.host.capabilities = 0;
    model.host.memlock = 8 << 20;
    let error = model.problem();
    assert!(
        error.contains("100 MiB of memory locked") && error.contains("may lock 8 MiB"),
        "{error}"
    );
    assert!(error.contains("IPC_LOCK"), "{error}");
    model.host.memlock = 100 << 20;
    assert!(model.inspect().problems.is_empty());
}
