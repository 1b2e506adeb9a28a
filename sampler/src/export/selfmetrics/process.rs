//! What this process uses.

use std::{fs, mem::MaybeUninit, time::Duration};

/// CPU time in user and in kernel mode, all threads, since the process began.
#[must_use]
pub fn cpu_times() -> Option<[Duration; 2]> {
    let mut usage = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for a write of one `rusage`, and that is what the call writes.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has written the whole structure.
    let usage = unsafe { usage.assume_init() };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Some([duration(usage.ru_utime), duration(usage.ru_stime)])
}

/// Resident memory.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_uses_something() {
        let before: Duration = cpu_times().unwrap().iter().sum();
        let spent = || cpu_times().unwrap().iter().sum::<Duration>() - before;
        while spent() < Duration::from_millis(20) {}
        let memory = resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&memory), "{memory}");
    }
}
