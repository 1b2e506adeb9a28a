//! `GUESTSTAT` lines: what a Linux guest reads in its own `/proc/stat`, printed on its console.
//!
//! `GUESTSTAT UPTIME CPU USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL [GUEST GUEST_NICE]`: the guest's
//! uptime in seconds, then one line of `/proc/stat` as it is.

use std::path::Path;

use super::error::OracleError;

/// One CPU's line of a guest's `/proc/stat`.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestStat {
    /// The guest's uptime, seconds.
    pub uptime: f64,
    /// The guest's CPU; `None` on the line that sums all of them.
    pub cpu: Option<u32>,
    /// Its times.
    pub ticks: CpuTicks,
}

/// Times of a guest's CPU in the guest's clock ticks (100 a second).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTicks {
    /// Busy: user, nice, system, irq and softirq.
    pub busy: u64,
    /// Idle: idle and iowait.
    pub idle: u64,
    /// Runnable while the host did not run it.
    pub steal: u64,
}

const WORD: &str = "GUESTSTAT ";

impl GuestStat {
    /// Reads one line of the console; `None` when it is not one of these.
    ///
    /// # Errors
    /// When it is one and not understood; `console` names its source.
    pub fn parse(console: &Path, line: &str) -> Result<Option<Self>, OracleError> {
        // Consoles end lines with CR LF, and kernel messages may come before ours on the same line.
        let Some(start) = line.find(WORD) else { return Ok(None) };
        let rest = &line[start + WORD.len()..];
        let parsed = Self::parse_fields(rest);
        parsed
            .map(Some)
            .ok_or_else(|| OracleError::format(console, "expected uptime and a line of /proc/stat", line))
    }

    /// Reads all such lines of a console, in order.
    ///
    /// # Errors
    /// On the first that is not understood.
    pub fn parse_all(console: &Path, text: &str) -> Result<Vec<Self>, OracleError> {
        text.lines().filter_map(|line| Self::parse(console, line).transpose()).collect()
    }

    fn parse_fields(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let uptime: f64 = fields.next()?.parse().ok()?;
        let cpu = fields.next()?.strip_prefix("cpu")?;
        let cpu = if cpu.is_empty() { None } else { Some(cpu.parse().ok()?) };
        let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        let &[user, nice, system, idle, iowait, irq, softirq, steal] = ticks.first_chunk::<8>()?;
        // A line cut short by a guest that powers off must not pass for a whole one.
        let whole = matches!(ticks.len(), 8 | 10);
        let ticks = CpuTicks { busy: user + nice + system + irq + softirq, idle: idle + iowait, steal };
        (whole && uptime.is_finite()).then_some(Self { uptime, cpu, ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "[    0.5] Run /init as init process\r\n\
        GUESTSTAT 5.42 cpu  300 1 20 10 2 3 4 57 0 0\r\n\
        [    5.5] random: crng init doneGUESTSTAT 5.42 cpu0 300 1 20 10 2 3 4 57 0 0\r\n\
        GUESTSTAT 9.00 cpu0 310 1 20 400 2 3 4 60 0 0\r\n";

    #[test]
    fn lines_are_found_among_kernel_messages() {
        let lines = GuestStat::parse_all(Path::new("console"), CONSOLE).unwrap();
        let first = CpuTicks { busy: 328, idle: 12, steal: 57 };
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], GuestStat { uptime: 5.42, cpu: None, ticks: first });
        assert_eq!(lines[1], GuestStat { uptime: 5.42, cpu: Some(0), ticks: first });
        assert_eq!(lines[2].ticks.steal, 60);
    }

    #[test]
    fn damaged_lines_are_errors_and_never_shorter_numbers() {
        for line in [
            "GUESTSTAT ",
            "GUESTSTAT 5.42 cpu0 1 2 3 4 5 6 7",
            "GUESTSTAT 5.42 cpu0 1 2 3 4 5 6 7 8 9",
            "GUESTSTAT 5.42 cpux 1 2 3 4 5 6 7 8",
            "GUESTSTAT nan cpu0 1 2 3 4 5 6 7 8",
            "GUESTSTAT 5.42 cpu0 1 2 3 4 5 6 7 8 9 x",
        ] {
            let error = GuestStat::parse(Path::new("guest.log"), line).unwrap_err();
            assert!(error.to_string().starts_with("guest.log is not understood"), "{error}");
        }
        assert_eq!(GuestStat::parse(Path::new("guest.log"), "login:").unwrap(), None);
    }
}
