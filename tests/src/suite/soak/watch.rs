//! What the service takes, as the kernel shows it to others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::oracle::{Controller, Group, Hierarchy};
use crate::runner::Context;

/// Descriptors, or threads, that may be there at one moment and not at another: a connection, a file that is
/// read, a thread of tokio's that waits for more.
pub(super) const SLACK: u64 = 8;

/// Clock ticks a second in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

/// What was there at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Since the first, s.
    at: f64,
    /// Resident memory, bytes.
    pub(super) resident: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    /// CPU time so far, s.
    cpu: f64,
    /// Memory that is charged to its control group, which has that of its maps; bytes.
    charged: Option<u64>,
}

/// The service's process, watched.
pub(super) struct Watch {
    process: PathBuf,
    /// Its own group of the memory controller, where there is one to be had.
    group: Option<Group>,
    looks: Vec<Look>,
}

impl Watch {
    pub(super) fn of(pid: u32) -> Self {
        let group = Hierarchy::find(Controller::Memory).and_then(Group::create).ok();
        // What was charged before stays where it was: what comes from here on is what may grow.
        let group = group.filter(|group| group.add_process(pid).is_ok());
        let process = Path::new("/proc").join(pid.to_string());
        Self { process, group, looks: Vec::new() }
    }

    pub(super) fn look(&mut self, at: Duration) -> anyhow::Result<()> {
        let status = fs::read_to_string(self.process.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let resident: u64 = resident.trim().trim_end_matches(" kB").parse()?;
        self.looks.push(Look {
            at: at.as_secs_f64(),
            resident: resident * 1024,
            descriptors: count(&self.process.join("fd"))?,
            threads: count(&self.process.join("task"))?,
            cpu: cpu(&fs::read_to_string(self.process.join("stat"))?).context("no times in stat")?,
            charged: self.group.as_ref().and_then(charged),
        });
        Ok(())
    }

    pub(super) fn last(&self) -> Look {
        self.looks.last().copied().unwrap_or_default()
    }

    /// A value at each moment of the second half, with when that was, s.
    pub(super) fn second_half(&self, value: fn(&Look) -> f64) -> Vec<(f64, f64)> {
        self.looks[self.looks.len() / 2..].iter().map(|look| (look.at, value(look))).collect()
    }

    /// The highest value of each half.
    pub(super) fn most_of_halves(&self, value: fn(&Look) -> u64) -> (u64, u64) {
        let (first, second) = self.looks.split_at(self.looks.len() / 2);
        let most = |looks: &[Look]| looks.iter().map(value).max().unwrap_or(0);
        (most(first), most(second))
    }

    /// CPU time over the whole time, in words.
    pub(super) fn cpu(&self) -> String {
        let (first, last) = (self.looks.first().copied().unwrap_or_default(), self.last());
        let share = (last.cpu - first.cpu) / (last.at - first.at).max(1.0);
        format!("{:.2} % of a CPU", share * 100.0)
    }

    /// Prints some moments of the whole time.
    pub(super) fn details(&self, context: &Context) {
        const LINES: usize = 6;
        for look in self.looks.iter().step_by(self.looks.len().div_ceil(LINES).max(1)) {
            context.detail(format!(
                "after {:>5.0} s: resident {:.1} MiB, charged to its group {}, {} descriptors, {} threads",
                look.at,
                mebibytes(look.resident),
                look.charged.map_or("-".to_owned(), |bytes| format!("{:.1} MiB", mebibytes(bytes))),
                look.descriptors,
                look.threads
            ));
        }
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn count(directory: &Path) -> io::Result<u64> {
    Ok(fs::read_dir(directory)?.count() as u64)
}

/// CPU time in user space and in the kernel, s: fields 14 and 15.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(14 - 3);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn charged(group: &Group) -> Option<u64> {
    let file = if group.is_unified() { "memory.current" } else { "memory.usage_in_bytes" };
    fs::read_to_string(group.path().join(file)).ok()?.trim().parse().ok()
}
