//! What the host's memory is used for.

use std::path::Path;

use super::lines;
use crate::model::{HUGE_PAGE_SIZES, HugePages, MEMORY_STATES};

/// Bytes of a file that has one number.
const MOST: usize = 64;

/// Kilobytes of a huge page, by [`crate::model::HugePageSize`].
const HUGE_PAGE_KB: [u32; HUGE_PAGE_SIZES.len()] = [2048, 1_048_576];

/// Memory by [`crate::model::MemoryState`], bytes, which sum to all of it; absent where `/proc/meminfo` lacks
/// a line, or has parts that come to more than their whole.
pub(super) fn states(meminfo: &str) -> Option<[u64; MEMORY_STATES.len()]> {
    let of = |key| lines::kilobytes(meminfo, key);
    let (free, buffers, cached) = (of("MemFree")?, of("Buffers")?, of("Cached")?);
    let others = free.checked_add(buffers)?.checked_add(cached)?;
    Some([of("MemTotal")?.checked_sub(others)?, free, buffers, cached])
}

/// Reserved huge pages, by size; absent where the kernel has none of that size, or its numbers were read
/// while they changed.
pub(super) fn huge_pages(directory: &Path) -> [Option<HugePages>; HUGE_PAGE_SIZES.len()] {
    HUGE_PAGE_KB.map(|kilobytes| {
        let directory = directory.join(format!("hugepages-{kilobytes}kB"));
        let number = |file| lines::read(&directory.join(file), MOST).ok()?.trim().parse::<u64>().ok();
        let (free, reserved) = (number("free_hugepages")?, number("resv_hugepages")?);
        let used = number("nr_hugepages")?.checked_sub(free)?;
        Some(HugePages { states: [used, free], reserved })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_states_sum_to_all_of_it() {
        let meminfo = "MemTotal:  100 kB\nMemFree:  10 kB\nMemAvailable: 90 kB\nBuffers:  5 kB\nCached:  25 kB\n\
                       SwapCached: 3 kB\n";
        let states = states(meminfo).unwrap();
        assert_eq!(states, [60, 10, 5, 25].map(|kilobytes| kilobytes * 1024));
        assert_eq!(states.iter().sum::<u64>(), 100 * 1024);
    }

    #[test]
    fn parts_that_are_missing_or_more_than_the_whole_are_no_states() {
        for meminfo in [
            "",
            "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\n",
            "MemTotal: 30 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 25 kB\n",
            "MemTotal: 30 kB\nMemFree: 18014398509481983 kB\nBuffers: 18014398509481983 kB\nCached: 1 kB\n",
        ] {
            assert_eq!(states(meminfo), None, "{meminfo:?}");
        }
    }

    #[test]
    fn huge_pages_of_each_size_are_apart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |kilobytes: u32, [all, free, reserved]: [&str; 3]| {
            let directory = dir.path().join(format!("hugepages-{kilobytes}kB"));
            fs::create_dir_all(&directory).unwrap();
            for (file, text) in
                [("nr_hugepages", all), ("free_hugepages", free), ("resv_hugepages", reserved)]
            {
                fs::write(directory.join(file), text).unwrap();
            }
        };
        assert_eq!(huge_pages(dir.path()), [None, None]);
        write(2048, ["8\n", "3\n", "1\n"]);
        write(1_048_576, ["1\n", "x\n", "0\n"]);
        write(64, ["9\n", "9\n", "9\n"]);
        let expected = HugePages { states: [5, 3], reserved: 1 };
        assert_eq!(huge_pages(dir.path()), [Some(expected), None]);
        write(1_048_576, ["1\n", "2\n", "0\n"]);
        assert_eq!(huge_pages(dir.path())[1], None, "more are free than there are");
    }
}
