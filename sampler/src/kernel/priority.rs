//! The CPU priority of single threads. The kernel keeps a nice value for each thread, and new threads inherit
//! it.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

/// The nice value of the calling thread.
///
/// # Errors
/// When the kernel refuses to say.
pub fn get() -> io::Result<i32> {
    // The system call and not libc's function: that may return -1 as an answer.
    // SAFETY: two numbers are handed over; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // From 40 for the highest priority to 1 for the lowest.
        answer => Ok(20 - i32::try_from(answer).unwrap_or(20)),
    }
}

/// Sets the nice value of the calling thread, and of no other.
///
/// # Errors
/// A value below the present one needs `CAP_SYS_NICE`, or room in `RLIMIT_NICE`.
pub fn set(nice: i32) -> io::Result<()> {
    // SAFETY: three numbers are handed over; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the nice value of the calling thread where that is permitted. Where it is not, the log says so once.
pub fn try_set(nice: i32) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if get().is_ok_and(|now| now == nice) {
        return;
    }
    if let Err(error) = set(nice)
        && !SAID.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            %error,
            nice,
            "loading and sampling keep the process's priority: snapshots may be late while CPUs are scarce; \
             give CAP_SYS_NICE or LimitNICE={nice}, or set another `nice`"
        );
    }
}

/// Does something with the calling thread at this nice value, where that is permitted. Threads that are
/// started in it inherit the value.
pub fn with<T>(nice: i32, work: impl FnOnce() -> T) -> T {
    let before = get();
    try_set(nice);
    let done = work();
    if let Ok(before) = before {
        try_set(before);
    }
    done
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Lowest priority: anybody may go there.
    const LOWEST: i32 = 19;

    #[test]
    fn a_thread_s_nice_value_is_its_own() {
        let own = get().unwrap();
        let other = thread::spawn(|| {
            set(LOWEST).unwrap();
            get().unwrap()
        });
        assert_eq!(other.join().unwrap(), LOWEST);
        assert_eq!(get().unwrap(), own);
    }

    #[test]
    fn what_is_done_in_between_has_the_value() {
        thread::spawn(|| {
            let own = get().unwrap();
            assert_eq!(with(LOWEST, || get().unwrap()), LOWEST);
            // The way back needs the privilege.
            let back = get().unwrap();
            assert!(back == own || (back == LOWEST && set(own).is_err()), "{own}, then {back}");
        })
        .join()
        .unwrap();
    }
}
