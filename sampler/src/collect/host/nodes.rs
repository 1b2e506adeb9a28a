//! The host's NUMA nodes: which CPUs each has.

use std::{collections::BTreeMap, fs, path::Path};

/// Nodes, and CPUs of one, that are looked at; Linux has 1,024 and 8,192 at most.
const MOST: usize = 8_192;

/// Which node each CPU is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    of_cpu: BTreeMap<u32, u32>,
    /// Those that have CPUs, ascending.
    all: Vec<u32>,
}

impl Nodes {
    /// By sysfs, which is mounted at `sys`. Where it does not say there are none.
    #[must_use]
    pub fn read(sys: &Path) -> Self {
        let mut nodes = Self::default();
        for entry in fs::read_dir(sys.join("devices/system/node")).into_iter().flatten().flatten().take(MOST)
        {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("node")?.parse().ok());
            let cpus = number.and_then(|_| fs::read_to_string(entry.path().join("cpulist")).ok());
            let Some((node, cpus)) = number.zip(cpus) else { continue };
            nodes.of_cpu.extend(list(&cpus).map(|cpu| (cpu, node)));
        }
        nodes.all = nodes.of_cpu.values().copied().collect();
        nodes.all.sort_unstable();
        nodes.all.dedup();
        nodes
    }

    /// The node of a CPU.
    #[must_use]
    pub fn of(&self, cpu: u32) -> Option<u32> {
        self.of_cpu.get(&cpu).copied()
    }

    /// The nodes that have CPUs, ascending.
    #[must_use]
    pub fn all(&self) -> &[u32] {
        &self.all
    }
}

/// The numbers of a list as `0-3,8`; what is not understood is left out.
fn list(text: &str) -> impl Iterator<Item = u32> + '_ {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().take(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_is_of_a_node() {
        let sys = tempfile::tempdir().unwrap();
        let node = |name: &str, cpus: &str| {
            let node = sys.path().join("devices/system/node").join(name);
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("cpulist"), cpus).unwrap();
        };
        node("node1", "4-5,9\n");
        node("node0", "0-3,8\n");
        // Memory without CPUs.
        node("node7", "\n");
        node("power", "0-9\n");
        let nodes = Nodes::read(sys.path());
        assert_eq!(nodes.all(), [0, 1]);
        assert_eq!(
            [0, 3, 8, 4, 9, 6].map(|cpu| nodes.of(cpu)),
            [0, 0, 0, 1, 1, 9].map(|node| (node < 9).then_some(node))
        );
        assert_eq!(Nodes::read(&sys.path().join("none")), Nodes::default());
    }

    #[test]
    fn a_list_that_never_ends_is_cut() {
        assert_eq!(list("0-4294967295").count(), MOST);
        assert_eq!(list("x,3,5-y,7-8").collect::<Vec<_>>(), [3, 7, 8]);
    }
}
