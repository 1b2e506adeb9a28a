//! `/proc/PID/stat`: when a process was created.

use std::fs;

use super::{ProcError, ProcFs, vanished};

/// Length of the clock tick that proc(5) counts in, ns. `USER_HZ` is part of the kernel's ABI and 100 on
/// every architecture that has KVM.
pub const TICK_NS: u64 = 10_000_000;

/// `starttime` is field 22 and the text after the command name begins with field 3.
const START_TIME_AFTER_COMM: usize = 22 - 3;

impl ProcFs {
    /// When a process was created: `CLOCK_BOOTTIME` in ns, rounded down to [`TICK_NS`].
    ///
    /// # Errors
    /// [`ProcError::Gone`] where there is no such process, [`ProcError::Malformed`] where `stat` is not what
    /// proc(5) says.
    pub fn start_boottime_ns(&self, pid: u32) -> Result<u64, ProcError> {
        let path = self.process(pid).join("stat");
        let stat = fs::read(&path).map_err(|source| match vanished(&source) {
            true => ProcError::Gone { pid },
            false => ProcError::Read { path: path.clone(), source },
        })?;
        parse_start_ticks(&stat)
            .and_then(|ticks| ticks.checked_mul(TICK_NS))
            .ok_or(ProcError::Malformed { path })
    }
}

/// A process names itself, and may do so with blanks, newlines and `)`: only the last `)` ends the name.
fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    let comm_end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = str::from_utf8(&stat[comm_end + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(START_TIME_AFTER_COMM)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stat_line(comm: &[u8], ticks: u64) -> Vec<u8> {
        let mut line = b"4242 (".to_vec();
        line.extend_from_slice(comm);
        line.extend_from_slice(
            format!(
                ") S 1 4242 4242 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 7 0 {ticks} 1000 50 18446744073709551615\n"
            )
            .as_bytes(),
        );
        line
    }

    #[test]
    fn reads_the_start_of_this_process_like_the_kernel_reports_it() {
        let proc = ProcFs::system();
        let own = proc.start_boottime_ns(std::process::id()).unwrap();
        let init = proc.start_boottime_ns(1).unwrap();
        assert!(own > init);
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((own as f64) / 1e9 <= uptime + 0.02);
    }

    #[test]
    fn a_missing_process_is_gone() {
        let fake = tempfile::tempdir().unwrap();
        let error = ProcFs::at(fake.path()).start_boottime_ns(7).unwrap_err();
        assert!(matches!(error, ProcError::Gone { pid: 7 }), "{error}");
    }

    #[test]
    fn a_short_line_is_malformed() {
        assert_eq!(parse_start_ticks(b"1 (x) S 1 2 3"), None);
        assert_eq!(parse_start_ticks(b""), None);
        assert_eq!(parse_start_ticks(b")"), None);
    }

    proptest! {
        #[test]
        fn no_command_name_hides_the_start(
            comm in proptest::collection::vec(any::<u8>(), 0..64),
            ticks: u64,
        ) {
            prop_assert_eq!(parse_start_ticks(&stat_line(&comm, ticks)), Some(ticks));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse_start_ticks(&bytes);
        }
    }
}
