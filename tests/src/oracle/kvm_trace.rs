//! Exits by thread and reason, as the kernel's own tracing counts them: a histogram over the event `kvm_exit`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{OracleError, read, write};
use super::mount::OwnMount;

/// Where tracefs is when somebody has mounted it.
const USUAL: &str = "/sys/kernel/tracing";
const EVENT: &str = "events/kvm/kvm_exit";
const TRIGGER: &str = "hist:keys=common_pid,exit_reason:size=4096";

/// Exits by thread id and by the number that the processor gives for the reason.
pub type ExitCounts = BTreeMap<(u32, u64), u64>;

/// The histogram. Dropping it takes it away.
#[derive(Debug)]
pub struct KvmTrace {
    event: PathBuf,
    // Unmounts when dropped, where it was mounted by us.
    _mounted: Option<OwnMount>,
}

impl KvmTrace {
    /// Starts counting; mounts tracefs on a directory of ours where nobody has mounted it.
    ///
    /// # Errors
    /// When it cannot be mounted, or the kernel has no such event or no histograms.
    pub fn start(directory: &Path) -> Result<Self, OracleError> {
        let usual = Path::new(USUAL);
        let (root, mounted) = if usual.join("events").is_dir() {
            (usual.to_owned(), None)
        } else {
            (directory.to_owned(), Some(OwnMount::of("tracefs", directory)?))
        };
        let trace = Self { event: root.join(EVENT), _mounted: mounted };
        trace.write(TRIGGER)?;
        Ok(trace)
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// When the histogram is not understood, or had no room for all.
    pub fn counts(&self) -> Result<ExitCounts, OracleError> {
        let path = self.event.join("hist");
        let text = read(&path)?;
        let mut counts = ExitCounts::new();
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let number = |key: &str| {
                let (_, rest) = line.split_once(key)?;
                let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            };
            let entry = || {
                let tid: u64 = number("common_pid:")?;
                Some(((u32::try_from(tid).ok()?, number("exit_reason:")?), number("hitcount:")?))
            };
            let ((tid, reason), count) =
                entry().ok_or_else(|| OracleError::format(&path, "no counts", line))?;
            counts.insert((tid, reason), count);
        }
        let dropped = text.lines().find_map(|line| line.trim().strip_prefix("Dropped:"));
        match dropped.map(str::trim) {
            Some("0") => Ok(counts),
            _ => Err(OracleError::format(&path, "exits were dropped", &text)),
        }
    }

    fn write(&self, text: &str) -> Result<(), OracleError> {
        write(&self.event.join("trigger"), text)
    }
}

impl Drop for KvmTrace {
    fn drop(&mut self) {
        if let Err(error) = self.write(&format!("!{TRIGGER}")) {
            eprintln!("the histogram of kvm_exit stays: {error}");
        }
    }
}
