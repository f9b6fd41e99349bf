//! How much memory this process may have: the machine's, or its control group's if that is less.

use std::fs;
use std::path::Path;

use ottla_proto::memory::MemoryShares;

/// The shares of the configured budget, or of the default for where the process runs.
pub fn shares(configured_bytes: Option<u64>) -> MemoryShares {
    let budget = configured_bytes
        .unwrap_or_else(|| MemoryShares::default_budget(available_bytes(Path::new("/"))));
    MemoryShares::of(budget)
}

/// `root` is `/`, except in tests.
fn available_bytes(root: &Path) -> u64 {
    let machine = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let total = machine
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let machine = total.map_or(u64::MAX, |kilobytes| kilobytes << 10);
    control_group_bytes(root).map_or(machine, |limit| limit.min(machine))
}

/// The least limit of the process's control group and of those it lies in (version 2, else 1).
fn control_group_bytes(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut least = None;
    let mut take = |file: &Path| {
        let limit = fs::read_to_string(file).ok();
        let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
        least = least.min(limit).or(least).or(limit);
    };
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next(), fields.next()?, fields.next()?);
        let (top, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let top = root.join(top);
        // Inside a container the path may be the host's: what lies at the top is then its own.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            take(&top.join(group).join(file));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file in a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        available_bytes(root.path())
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemFree: 5 kB\nMemTotal:        1000 kB\n");

    #[test]
    fn the_least_limit_counts() {
        let v2 = ("proc/self/cgroup", "0::/a/b\n");
        let limit = |path, text| system(&[MACHINE, v2, (path, text)]);
        assert_eq!(system(&[MACHINE]), 1000 << 10);
        assert_eq!(limit("sys/fs/cgroup/a/b/memory.max", "max\n"), 1000 << 10);
        assert_eq!(limit("sys/fs/cgroup/a/b/memory.max", "5000\n"), 5000);
        assert_eq!(limit("sys/fs/cgroup/a/memory.max", "6000\n"), 6000);
        assert_eq!(limit("sys/fs/cgroup/memory.max", "7000\n"), 7000);
        let both = [
            MACHINE,
            v2,
            ("sys/fs/cgroup/a/memory.max", "6000"),
            ("sys/fs/cgroup/a/b/memory.max", "9000"),
        ];
        assert_eq!(system(&both), 6000);
        let v1 = ("proc/self/cgroup", "3:cpu:/x\n4:memory,x:/docker/1\n");
        let file = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "8000");
        assert_eq!(system(&[MACHINE, v1, file]), 8000);
    }

    #[test]
    fn nonsense_is_no_limit() {
        let files = [
            ("proc/self/cgroup", "x\n::\n"),
            ("proc/meminfo", "MemTotal: much"),
        ];
        assert_eq!(system(&files), u64::MAX);
    }
}
