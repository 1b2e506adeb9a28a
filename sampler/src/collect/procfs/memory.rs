//! `/proc/PID/status`: what a process has of the host's memory.

use std::{fs, path::Path};

use super::{ProcError, ProcFs, TICK_NS, vanished};
use crate::collect::lines;

/// Sizes of a process's memory, bytes. What this kernel does not say is absent, and so is all of a process
/// that has no memory any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Anonymous pages in memory (`RssAnon`).
    pub anonymous: Option<u64>,
    /// Pages of files in memory (`RssFile`).
    pub file: Option<u64>,
    /// Pages of shared memory in memory (`RssShmem`).
    pub shared: Option<u64>,
    /// Pages of hugetlbfs (`HugetlbPages`).
    pub huge: Option<u64>,
    /// Anonymous pages that are swapped out (`VmSwap`).
    pub swapped: Option<u64>,
}

impl ProcessMemory {
    /// Of a kernel that writes lines of the form `RssAnon:     123 kB`.
    fn parse(status: &str) -> Self {
        let of = |key| lines::kilobytes(status, key);
        Self {
            anonymous: of("RssAnon"),
            file: of("RssFile"),
            shared: of("RssShmem"),
            huge: of("HugetlbPages"),
            swapped: of("VmSwap"),
        }
    }
}

impl ProcFs {
    /// Reads the sizes of the memory of the process that has this pid and was created at this time,
    /// `CLOCK_BOOTTIME` in ns, exact or rounded down to [`TICK_NS`].
    ///
    /// The kernel keeps these counts; no page table is walked for them, and no lock of the process's memory
    /// taken (5.10 to 7.2).
    ///
    /// # Errors
    /// [`ProcError::Gone`] where the process ended or its pid is another process's now,
    /// [`ProcError::Read`] where it cannot be read.
    pub fn memory(&self, pid: u32, start_boottime_ns: u64) -> Result<ProcessMemory, ProcError> {
        let read = |dir: &Path| fs::read(dir.join("status"));
        let dir = self.process(pid);
        let status = read(&dir).map_err(|source| match vanished(&source) {
            true => ProcError::Gone { pid },
            false => ProcError::Read { path: dir.join("status"), source },
        })?;
        let parse = |status: Vec<u8>| ProcessMemory::parse(&String::from_utf8_lossy(&status));
        let mut memory = parse(status);
        if memory == ProcessMemory::default() {
            // Its first thread has ended, and lives on through the others: the memory is theirs.
            let others = self.other_threads(pid).into_iter().filter_map(|dir| Some(parse(read(&dir).ok()?)));
            memory = others.into_iter().find(|memory| *memory != ProcessMemory::default()).unwrap_or(memory);
        }
        if self.start_boottime_ns(pid)? / TICK_NS != start_boottime_ns / TICK_NS {
            return Err(ProcError::Gone { pid });
        }
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_their_lines() {
        let status = "Name:\tRssAnon:  9 kB\nVmRSS:\t  60 kB\nRssAnon:\t      10 kB\nRssFile:\t  20 kB\nRssShmem:\t\
                      30 kB\nVmSwap:\t 5 kB\nHugetlbPages:\t 2048 kB\nThreads:\t3\n";
        let memory = ProcessMemory::parse(status);
        let all = [memory.anonymous, memory.file, memory.shared, memory.huge, memory.swapped];
        assert_eq!(all, [10, 20, 30, 2048, 5].map(|kilobytes| Some(kilobytes * 1024)));
    }

    #[test]
    fn a_guest_in_huge_pages_has_them_and_a_resident_size_of_nothing() {
        let status = "VmRSS:\t 0 kB\nRssAnon:\t 0 kB\nRssFile:\t 0 kB\nRssShmem:\t 0 kB\nVmSwap:\t 0 kB\n\
                      HugetlbPages:\t 4194304 kB\n";
        let none = Some(0);
        let expected =
            ProcessMemory { anonymous: none, file: none, shared: none, huge: Some(4 << 30), swapped: none };
        assert_eq!(ProcessMemory::parse(status), expected);
    }

    #[test]
    fn what_is_not_there_or_no_size_is_absent() {
        for status in ["", "RssAnon:", "RssAnon: x kB", "RssAnon: 5", "RssAnon: 18446744073709551615 kB"] {
            assert_eq!(ProcessMemory::parse(status), ProcessMemory::default(), "{status:?}");
        }
    }

    #[test]
    fn this_process_has_memory_and_another_start_is_another_process() {
        let (proc, pid) = (ProcFs::system(), std::process::id());
        let start = proc.start_boottime_ns(pid).unwrap();
        let memory = proc.memory(pid, start).unwrap();
        assert!(memory.anonymous.unwrap() > 0 && memory.file.unwrap() > 0, "{memory:?}");
        assert!(matches!(proc.memory(pid, start + 2 * TICK_NS), Err(ProcError::Gone { .. })));
    }

    #[test]
    fn the_memory_of_a_process_whose_first_thread_has_ended_is_that_of_the_others() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("7");
        fs::create_dir_all(dir.join("task/7")).unwrap();
        fs::create_dir_all(dir.join("task/8")).unwrap();
        fs::write(dir.join("status"), "State:\tZ (zombie)\n").unwrap();
        fs::write(dir.join("stat"), "7 (x) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap();
        fs::write(dir.join("task/8/status"), "RssAnon:\t 4 kB\n").unwrap();
        let memory = ProcFs::at(root.path()).memory(7, 5 * TICK_NS).unwrap();
        assert_eq!(memory.anonymous, Some(4096));
    }
}
