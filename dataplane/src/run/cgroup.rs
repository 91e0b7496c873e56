//! What the control group leaves this process: memory, huge pages and CPU time, of both versions.
//!
//! A container sees its own group at the mount point, or, without a namespace for groups, somewhere below it; the
//! limits of all groups above count as well. So every folder from the process's own up to the mount point
//! is asked, and the tightest limit holds.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of a controller's groups that this process is in, its own first. Empty where there is no
/// such controller.
fn folders(root: &Path, controller: &str) -> Vec<PathBuf> {
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let v1 = folder_of(&groups, &mounts, Some(controller));
    let v2 = folder_of(&groups, &mounts, None);
    [v1, v2]
        .into_iter()
        .flatten()
        .flat_map(|found| ancestors(root, &found))
        .collect()
}

/// A mount point, and where below it a process is.
struct Found {
    mount: String,
    below: String,
}

fn ancestors(root: &Path, found: &Found) -> Vec<PathBuf> {
    let mount = root.join(found.mount.trim_start_matches('/'));
    let mut all = Vec::new();
    let mut below = Path::new(found.below.trim_start_matches('/'));
    loop {
        all.push(mount.join(below));
        match below.parent() {
            Some(parent) => below = parent,
            None => return all,
        }
    }
}

/// Where the process is in the hierarchy of a controller (version 1), or in the unified one.
fn folder_of(groups: &str, mounts: &str, controller: Option<&str>) -> Option<Found> {
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let wanted = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => number == "0" && controllers.is_empty(),
        };
        wanted.then_some(path)
    })?;
    let (mount_root, mount) = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (filesystem, _, options) = (kind.next()?, kind.next()?, kind.next()?);
        let wanted = match controller {
            Some(name) => filesystem == "cgroup" && options.split(',').any(|one| one == name),
            None => filesystem == "cgroup2",
        };
        let mut place = place.split(' ').skip(3);
        wanted.then(|| Some((place.next()?, place.next()?)))?
    })?;
    // What is outside of the part that is mounted shows as the mount's own root.
    let below = path
        .strip_prefix(mount_root.trim_end_matches('/'))
        .filter(|below| below.starts_with('/') && !below.starts_with("/.."))
        .unwrap_or_default();
    Some(Found {
        mount: mount.to_owned(),
        below: below.to_owned(),
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line of memory.stat.
fn stat(folder: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join("memory.stat")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// A limit, and what is left below it, octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// As it was set.
    pub limit: u64,
    /// What may still be taken.
    pub free: u64,
}

/// The tightest of the limits that the readings of the folders give: each a limit and what is used.
fn tightest(readings: impl Iterator<Item = (u64, u64)>) -> Option<Limit> {
    readings
        // Version 1 writes "none" as the largest number of whole pages.
        .filter(|(limit, _)| *limit < 1 << 62)
        .map(|(limit, used)| Limit {
            limit,
            free: limit.saturating_sub(used),
        })
        .min_by_key(|limit| limit.free)
}

/// What the memory limit leaves. Pages of files that the kernel can drop do not count as used.
pub fn memory(root: &Path) -> Option<Limit> {
    tightest(folders(root, "memory").into_iter().filter_map(|folder| {
        let v2 = number(&folder.join("memory.max"));
        let (limit, used, cache) = match v2 {
            Some(limit) => (
                limit,
                number(&folder.join("memory.current")),
                stat(&folder, "inactive_file "),
            ),
            None => (
                number(&folder.join("memory.limit_in_bytes"))?,
                number(&folder.join("memory.usage_in_bytes")),
                stat(&folder, "total_inactive_file "),
            ),
        };
        Some((limit, used.unwrap_or(0).saturating_sub(cache.unwrap_or(0))))
    }))
}

/// What the limit of huge pages of so many KiB leaves; each size has its own.
pub fn huge_pages(root: &Path, kib: u64) -> Option<Limit> {
    let size = match kib {
        _ if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        _ if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    };
    // Pages in use and pages set aside have a limit each.
    let files = [
        ("max", "current"),
        ("rsvd.max", "rsvd.current"),
        ("limit_in_bytes", "usage_in_bytes"),
        ("rsvd.limit_in_bytes", "rsvd.usage_in_bytes"),
    ];
    let folders = folders(root, "hugetlb");
    tightest(folders.iter().flat_map(|folder| {
        let read = |file: &str| number(&folder.join(format!("hugetlb.{size}.{file}")));
        files
            .iter()
            .filter_map(move |(limit, used)| Some((read(limit)?, read(used).unwrap_or(0))))
    }))
}

/// How many whole CPUs the quota of CPU time is worth, at least one; `None` without a quota.
pub fn cpu_quota(root: &Path) -> Option<usize> {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let of = |folder: PathBuf| -> Option<u64> {
        let (quota, period) = match read(folder.join("cpu.max")) {
            // "max 100000" without a quota.
            Some(text) => {
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
            }
            // -1 without a quota.
            None => (
                number(&folder.join("cpu.cfs_quota_us"))?,
                number(&folder.join("cpu.cfs_period_us"))?,
            ),
        };
        quota.checked_div(period)
    };
    let tightest = folders(root, "cpu").into_iter().filter_map(of).min()?;
    usize::try_from(tightest.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const V2_MOUNT: &str = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_container_with_its_own_namespace_finds_its_limits_at_the_mount_point() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.max", "1000000\n"),
            ("sys/fs/cgroup/memory.current", "300000\n"),
            (
                "sys/fs/cgroup/memory.stat",
                "anon 1\ninactive_file 100000\n",
            ),
            ("sys/fs/cgroup/hugetlb.2MB.max", "4194304\n"),
            ("sys/fs/cgroup/hugetlb.2MB.current", "2097152\n"),
        ]);
        assert_eq!(
            memory(root.path()),
            Some(Limit {
                limit: 1_000_000,
                free: 800_000
            })
        );
        assert_eq!(
            huge_pages(root.path(), 2048),
            Some(Limit {
                limit: 4_194_304,
                free: 2_097_152
            })
        );
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_holds() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/ours\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/kubepods/pod1/ours/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "5000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.current", "1000\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "9000\n"),
        ]);
        assert_eq!(
            memory(root.path()),
            Some(Limit {
                limit: 5000,
                free: 4000
            })
        );
        assert_eq!(huge_pages(root.path(), 2048), None);
    }

    #[test]
    fn limits_of_the_first_version_are_read_where_the_process_is() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb\n";
        let root = machine(&[
            (
                "proc/self/cgroup",
                "5:hugetlb:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            ),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "total_inactive_file 500\n",
            ),
            (
                "sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/hugetlb/docker/abc/hugetlb.2MB.limit_in_bytes",
                "0\n",
            ),
        ]);
        assert_eq!(
            memory(root.path()),
            Some(Limit {
                limit: 2000,
                free: 1000
            })
        );
        assert_eq!(
            huge_pages(root.path(), 2048),
            Some(Limit { limit: 0, free: 0 })
        );
    }

    #[test]
    fn a_quota_of_cpu_time_is_worth_whole_cpus() {
        let v2 = |text: &str| {
            machine(&[
                ("proc/self/cgroup", "0::/pod/ours\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/pod/ours/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/pod/cpu.max", text),
            ])
        };
        for (text, cpus) in [
            ("max 100000\n", None),
            ("200000 100000\n", Some(2)),
            ("250000 100000\n", Some(2)),
            ("50000 100000\n", Some(1)),
            ("1 0\n", None),
            ("nonsense\n", None),
        ] {
            assert_eq!(cpu_quota(v2(text).path()), cpus, "{text}");
        }
        let mounts = "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        for (quota, cpus) in [("-1\n", None), ("300000\n", Some(3))] {
            let root = machine(&[
                ("proc/self/cgroup", "4:cpu,cpuacct:/\n0::/\n"),
                ("proc/self/mountinfo", mounts),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ]);
            assert_eq!(cpu_quota(root.path()), cpus, "{quota}");
        }
    }

    #[test]
    fn without_control_groups_there_is_no_limit() {
        let root = machine(&[("proc/self/cgroup", "")]);
        assert_eq!(
            (memory(root.path()), huge_pages(root.path(), 2048)),
            (None, None)
        );
    }

    #[test]
    fn a_process_outside_of_what_is_mounted_uses_the_mount_point() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/../other\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.max", "7000\n"),
        ]);
        assert_eq!(memory(root.path()).map(|limit| limit.limit), Some(7000));
    }
}
