use super::*;

#[test]
fn a_missing_driver_names_the_package_of_this_abi() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("pmds-23.0");
    fs::create_dir(&plugins).unwrap();
    let error = check_driver("net_af_xdp", &plugins)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("apt-get install librte-net-af-xdp23"),
        "{error}"
    );
    fs::write(plugins.join("librte_net_af_xdp.so.23"), "").unwrap();
    check_driver("net_af_xdp", &plugins).unwrap();
}

#[test]
fn a_missing_interface_is_named_with_those_there_are() {
    let error = check_netdev("tmm-nowhere").unwrap_err().to_string();
    assert!(
        error.contains("no network interface \"tmm-nowhere\""),
        "{error}"
    );
    assert!(error.contains("there "), "{error}");
}

#[test]
fn loopback_is_found_and_running() {
    assert!(netdev_names().contains(&"lo".to_owned()));
    assert!(netdev_index("lo").is_some());
    assert!(netdev_is_running("lo").is_some());
}

#[test]
fn the_capability_set_is_read_from_the_status_file() {
    assert_eq!(
        effective_capabilities("Name:\tx\nCapEff:\t0000000000003000\n"),
        Some(0x3000)
    );
    assert_eq!(effective_capabilities("CapEff:\tzz\n"), None);
    assert_eq!(effective_capabilities(""), None);
}

#[test]
fn hugepages_beyond_the_cgroups_limit_do_not_count() {
    let root = tempfile::tempdir().unwrap();
    let pool = root.path().join("sys/kernel/mm/hugepages/hugepages-2048kB");
    fs::create_dir_all(&pool).unwrap();
    fs::write(pool.join("free_hugepages"), "512\n").unwrap();
    assert_eq!(free_hugepage_mib_in(root.path()), 1024);

    let cgroup = root.path().join("sys/fs/cgroup");
    fs::create_dir_all(&cgroup).unwrap();
    fs::write(cgroup.join("hugetlb.2MB.max"), "max\n").unwrap();
    assert_eq!(free_hugepage_mib_in(root.path()), 1024);
    fs::write(cgroup.join("hugetlb.2MB.max"), format!("{}\n", 256 << 20)).unwrap();
    fs::write(
        cgroup.join("hugetlb.2MB.current"),
        format!("{}\n", 56 << 20),
    )
    .unwrap();
    assert_eq!(free_hugepage_mib_in(root.path()), 200);
    fs::write(cgroup.join("hugetlb.2MB.max"), "0\n").unwrap();
    assert_eq!(free_hugepage_mib_in(root.path()), 0);
}

#[test]
fn only_the_socket_of_a_dead_server_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    clear_stale_socket(&path).unwrap();

    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    clear_stale_socket(&path).unwrap();
    assert!(path.exists(), "a living server keeps its socket");
    drop(listener);
    clear_stale_socket(&path).unwrap();
    assert!(!path.exists());

    fs::write(&path, "precious").unwrap();
    let error = clear_stale_socket(&path).unwrap_err().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert!(path.exists());
}
