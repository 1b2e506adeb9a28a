//! The memory of a VMM's process is what the kernel counts of it.

use std::fs;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Memory, Resident};
use hvsampler::source::{Question, Source as _};

use super::super::sampler;
use super::super::states::threads_of;
use crate::guest::{Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// A guest that does nothing: its memory stands still.
pub(super) fn as_the_kernel_counts(context: &Context) -> anyhow::Result<Outcome> {
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("memory", 2, Load::Halt))?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &threads_of(&guest))?;
    let before = resident_bytes(guest.pid())?;
    let ask = source.answerer();
    for vm in source.vms() {
        source.answer(ask(Question::Memory(vm)));
    }
    let after = resident_bytes(guest.pid())?;
    let memory = |snapshot: hvsampler::model::Snapshot| -> anyhow::Result<Memory> {
        let vm = snapshot.vms.into_iter().find(|vm| vm.origin.pid() == Some(guest.pid()));
        vm.context("the guest is missing")?.memory.context("its memory was not read")
    };
    let first = memory(source.snapshot()?)?;
    let second = memory(source.snapshot()?)?;
    ensure!(first.is_new && !second.is_new, "a reading is new once: {first:?}, {second:?}");
    let parts = [Resident::Anonymous, Resident::File, Resident::Shared];
    let parts = parts.map(|part| first.resident[part as usize]);
    let ours: u64 = parts.iter().map(|part| part.unwrap_or_default()).sum();
    let (least, most) = (before.min(after), before.max(after));
    ensure!(parts.iter().all(Option::is_some), "parts are missing: {first:?}");
    ensure!((least..=most).contains(&ours), "{ours} bytes are resident, by the kernel {least} to {most}");
    ensure!(first.swapped == Some(0), "nothing is swapped out: {first:?}");
    Ok(Outcome::Passed(format!("{ours} bytes are resident, the kernel says {least} to {most}")))
}

/// `VmRSS`, which is the sum of its parts.
fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
