//! Exits by thread and reason, as the kernel's own tracing has them: the event `kvm_exit`, in a buffer of ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{OracleError, read, write};
use super::mount::OwnMount;

/// Where tracefs is when somebody has mounted it.
const USUAL: &str = "/sys/kernel/tracing";
/// Room for some hundred thousand exits on each CPU.
const BUFFER_KB: &str = "16384";

/// Exits by thread id and by the kernel's name of the reason.
pub type ExitCounts = BTreeMap<(u32, String), u64>;

/// The buffer. Dropping it takes it away.
#[derive(Debug)]
pub struct KvmTrace {
    instance: PathBuf,
    // Unmounts when dropped, where it was mounted by us.
    _mounted: Option<OwnMount>,
}

impl KvmTrace {
    /// Starts recording; mounts tracefs on a directory of ours where nobody has mounted it.
    ///
    /// # Errors
    /// When it cannot be mounted, or the kernel has no such event.
    pub fn start(directory: &Path) -> Result<Self, OracleError> {
        let usual = Path::new(USUAL);
        let (root, mounted) = if usual.join("events").is_dir() {
            (usual.to_owned(), None)
        } else {
            (directory.to_owned(), Some(OwnMount::of("tracefs", directory)?))
        };
        let instance = root.join("instances").join(format!("hvsampler-{}", std::process::id()));
        fs::create_dir(&instance).map_err(|source| OracleError::Change {
            path: instance.clone(),
            action: "made",
            source,
        })?;
        let trace = Self { instance, _mounted: mounted };
        write(&trace.instance.join("buffer_size_kb"), BUFFER_KB)?;
        write(&trace.instance.join("events/kvm/kvm_exit/enable"), "1")?;
        Ok(trace)
    }

    /// What was recorded so far.
    ///
    /// # Errors
    /// When a line is not understood, or the buffer had no room for all.
    pub fn counts(&self) -> Result<ExitCounts, OracleError> {
        let path = self.instance.join("trace");
        let text = read(&path)?;
        parse(&text).map_err(|(what, line)| OracleError::format(&path, what, &line))
    }
}

impl Drop for KvmTrace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("the trace buffer {} stays: {error}", self.instance.display());
        }
    }
}

fn parse(text: &str) -> Result<ExitCounts, (&'static str, String)> {
    let written = text.lines().find_map(|line| line.split_once("entries-in-buffer/entries-written: "));
    let numbers = written.and_then(|(_, rest)| rest.split_whitespace().next()?.split_once('/'));
    if numbers.is_none_or(|(kept, written)| kept != written) {
        return Err(("exits were dropped, or it is not told", text.lines().take(4).collect()));
    }
    let mut counts = ExitCounts::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let entry = entry(line).ok_or_else(|| ("no exit", line.to_owned()))?;
        *counts.entry(entry).or_default() += 1;
    }
    Ok(counts)
}

/// `       CPU 0/KVM-219     [001] d..1.    31.123456: kvm_exit:       vcpu 0 reason io rip 0x1000 info1 ...`
fn entry(line: &str) -> Option<(u32, String)> {
    let (head, tail) = line.split_once(" kvm_exit: ")?;
    // The thread's name may hold anything.
    let (task, _) = head.rsplit_once('[')?;
    let tid = task.trim_end().rsplit_once('-')?.1.parse().ok()?;
    let (reason, _) = tail.split_once("reason ")?.1.split_once(" rip ")?;
    Some((tid, reason.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 3/3   #P:3\n#\n";

    #[test]
    fn lines_of_two_kernels_are_counted() {
        let text = format!(
            "{HEAD}       CPU 0/KVM-219     [001] d..1.    31.1: kvm_exit:             vcpu 0 reason io rip 0x1 info1 0x0\n \
             CPU-1 [x] -7/KVM-220   [002] ....    31.2: kvm_exit:             reason npf rip 0x1 info 0 0\n \
             CPU-1 [x] -7/KVM-220   [002] ....    31.3: kvm_exit:             reason npf rip 0x2 info 0 0\n"
        );
        let counts = parse(&text).unwrap();
        let expected = [((219, "io".to_owned()), 1), ((220, "npf".to_owned()), 2)];
        assert_eq!(counts, expected.into_iter().collect());
    }

    #[test]
    fn what_was_dropped_or_is_not_understood_is_an_error() {
        assert!(parse(&HEAD.replace("3/3", "3/4")).is_err());
        assert!(parse("").is_err());
        assert!(parse(&format!("{HEAD} what is this\n")).is_err());
        assert!(parse(HEAD).unwrap().is_empty());
    }
}
