//! The snapshots that the service prints, where a drop-in has it print them.

use std::fs;

use anyhow::Context as _;
use serde_json::Value;

const FILE: &str = "/run/hvs-snapshots.jsonl";

/// A guest in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at_unix_ns: u64,
    /// CPU time of its vCPUs, which the kernel counts since their threads began, ns.
    pub(super) cpu_ns: u64,
}

/// Has the service print a snapshot each second.
pub(super) const PRINTED: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/hvsampler run --json --interval 1s\n\
    StandardOutput=append:/run/hvs-snapshots.jsonl\nStandardError=journal\n";

/// Each snapshot so far that has a guest, in order.
///
/// # Errors
/// When a line is no snapshot.
pub(super) fn of_guest(pid: u32) -> anyhow::Result<Vec<Seen>> {
    let text = fs::read_to_string(FILE).unwrap_or_default();
    // The last line may still grow, and one may have been cut off where the service was killed.
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole.filter_map(|snapshot| seen(&snapshot, pid).transpose()).collect()
}

fn seen(snapshot: &Value, pid: u32) -> anyhow::Result<Option<Seen>> {
    let at_unix_ns = snapshot["at_unix_ns"].as_u64().context("a snapshot without a time")?;
    let vms = snapshot["vms"].as_array().context("a snapshot without a list of VMs")?;
    let Some(vm) = vms.iter().find(|vm| vm["attributes"]["process.pid"] == pid) else { return Ok(None) };
    let vcpus = vm["vcpus"].as_array().context("a VM without a list of vCPUs")?;
    let times = vcpus.iter().map(|vcpu| vcpu["metrics"]["hypervisor.vcpu.cpu.time"].as_u64());
    let cpu_ns = times.sum::<Option<u64>>().context("a vCPU without CPU time")?;
    Ok(Some(Seen { at_unix_ns, cpu_ns }))
}

/// How a guest's snapshots went on after those that there were before: the longest time without one, in s.
///
/// # Errors
/// When a count of the kernel's fell: it goes on, whoever reads it.
pub(super) fn longest_gap(all: &[Seen]) -> anyhow::Result<f64> {
    let mut longest = 0.0_f64;
    for pair in all.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        anyhow::ensure!(after.cpu_ns >= before.cpu_ns, "CPU time fell: {before:?}, {after:?}");
        longest = longest.max(after.at_unix_ns.saturating_sub(before.at_unix_ns) as f64 / 1e9);
    }
    Ok(longest)
}
