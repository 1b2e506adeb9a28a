//! Buffers of the kernel's own tracing, one for each oracle, so that nobody else's is touched.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{OracleError, read, write};
use super::mount::OwnMount;

/// Where tracefs is when somebody has mounted it.
const USUAL: &str = "/sys/kernel/tracing";
/// Room for some hundred thousand events on each CPU.
const BUFFER_KB: &str = "16384";

/// An event to be recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct TracedEvent<'a> {
    /// `system/event`.
    pub(super) name: &'static str,
    /// Which of them, in the kernel's own language of filters.
    pub(super) filter: Option<&'a str>,
}

/// What is wrong with a text, and where.
pub(super) type Mistake = (&'static str, String);

/// A buffer that records. Dropping it takes it away.
#[derive(Debug)]
pub(super) struct TraceBuffer {
    instance: PathBuf,
    // Unmounts when dropped, where it was mounted by us.
    _mounted: Option<OwnMount>,
}

impl TraceBuffer {
    /// Starts recording; mounts tracefs on a directory of ours where nobody has mounted it.
    pub(super) fn start(
        directory: &Path,
        clock: &str,
        events: &[TracedEvent<'_>],
    ) -> Result<Self, OracleError> {
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
        let buffer = Self { instance, _mounted: mounted };
        write(&buffer.instance.join("buffer_size_kb"), BUFFER_KB)?;
        write(&buffer.instance.join("trace_clock"), clock)?;
        for event in events {
            let event_directory = buffer.instance.join("events").join(event.name);
            if let Some(filter) = event.filter {
                write(&event_directory.join("filter"), filter)?;
            }
            write(&event_directory.join("enable"), "1")?;
        }
        Ok(buffer)
    }

    /// What `parse` makes of all that was recorded so far.
    pub(super) fn read<T>(&self, parse: impl Fn(&str) -> Result<T, Mistake>) -> Result<T, OracleError> {
        let path = self.instance.join("trace");
        let text = read(&path)?;
        parse(&text).map_err(|(what, line)| OracleError::format(&path, what, &line))
    }
}

impl Drop for TraceBuffer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("the trace buffer {} stays: {error}", self.instance.display());
        }
    }
}

/// The lines of a buffer that had room for all.
pub(super) fn events_of(text: &str) -> Result<impl Iterator<Item = &str>, Mistake> {
    let written = text.lines().find_map(|line| line.split_once("entries-in-buffer/entries-written: "));
    let numbers = written.and_then(|(_, rest)| rest.split_whitespace().next()?.split_once('/'));
    if numbers.is_none_or(|(kept, written)| kept != written) {
        return Err(("events were dropped, or their number is not known", text.lines().take(4).collect()));
    }
    Ok(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()))
}

/// What comes before an event's name.
pub(super) struct Head {
    pub(super) tid: u32,
    pub(super) at_us: u64,
}

/// `       CPU 0/KVM-219     [001] d..1.    31.123456`
pub(super) fn head_of(text: &str) -> Option<Head> {
    // The thread's name may hold anything.
    let (task, rest) = text.rsplit_once('[')?;
    let tid = task.trim_end().rsplit_once('-')?.1.parse().ok()?;
    let (seconds, us) = rest.split_whitespace().last()?.split_once('.')?;
    let us = us.parse::<u64>().ok().filter(|_| us.len() == 6)?;
    Some(Head { tid, at_us: seconds.parse::<u64>().ok()? * 1_000_000 + us })
}
