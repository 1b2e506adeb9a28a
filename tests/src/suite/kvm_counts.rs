//! What KVM counts of its vCPUs, as the sampler reads it, equals what KVM itself shows in debugfs.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::source::Kvm;
use sampler_ebpf::abi::{KVM_STATS, MEMBERS};

use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use crate::exactness::Thread;
use crate::guest::{Guest, GuestConfig};
use crate::oracle::KvmDebugfs;
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Time for its comparisons.
const DEADLINE: Duration = Duration::from_secs(60);
/// Snapshots in which the VM's counts must have stood still, so that there is one right answer.
const ROUNDS: u32 = 20;

/// A VM whose vCPUs have halted in the kernel for good.
pub(super) fn halted(context: &Context) -> anyhow::Result<Outcome> {
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("counts", 3, Load::Halt))?;
    let threads: Vec<_> = guest.tids().into_iter().map(|tid| Thread { pid: guest.pid(), tid }).collect();
    compare(context, guest.pid(), &threads)
}

/// A Linux guest that works and halts in turn, with timers, interrupts and page faults.
pub(super) fn of_linux(context: &Context) -> anyhow::Result<Outcome> {
    let config = LinuxGuestConfig {
        name: "counts".into(),
        uuid: None,
        vcpus: 2,
        does: "load=half stat=0",
        devices: &[],
    };
    let guest = LinuxGuest::start(&[config])?.remove(0);
    compare(context, guest.pid(), &guest.threads())
}

type Counts = BTreeMap<&'static str, u64>;

fn compare(context: &Context, pid: u32, threads: &[Thread]) -> anyhow::Result<Outcome> {
    let debugfs = KvmDebugfs::find_or_mount(&context.directory().join("debugfs"))?;
    let vm = debugfs.vm(pid).context("KVM shows no such VM in debugfs")?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, threads)?;
    let end = Instant::now() + DEADLINE;
    let (mut rounds, mut moved, mut nonzero) = (0, 0, 0);
    while rounds < ROUNDS {
        ensure!(Instant::now() < end, "the VM stood still in {rounds} snapshots, it moved in {moved}");
        let Some(before) = ours(&mut source, pid)? else { continue };
        let Some(before) = shown(&vm, &before)? else { continue };
        let Some(ours) = ours(&mut source, pid)? else { continue };
        let Some(after) = shown(&vm, &ours)? else { continue };
        for (name, count) in &ours {
            ensure!(*count <= after[name], "{name} is {count}, and KVM has counted {} since", after[name]);
        }
        if before != after {
            moved += 1;
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        ensure!(ours == after, "{ours:?}, KVM shows {after:?}");
        rounds += 1;
        nonzero = ours.values().filter(|count| **count > 0).count();
    }
    ensure!(nonzero > 0, "every count is 0");
    Ok(Outcome::Passed(format!(
        "{} counts of {} vCPUs equal debugfs in {rounds} snapshots, {nonzero} of them not 0; the VM moved in {moved}",
        KVM_STATS.len(),
        threads.len(),
    )))
}

/// Sums over the vCPUs of a VM, by the kernel's name of the count; `None` where one of them could not be
/// read.
fn ours(source: &mut Kvm, pid: u32) -> anyhow::Result<Option<Counts>> {
    sampler::identify(source);
    let snapshot = source.snapshot()?;
    let vm = snapshot
        .vms
        .iter()
        .find(|vm| vm.origin.pid() == Some(pid))
        .context("the VM is not in the snapshot")?;
    // It switched at each attempt to read it, and has what it had before.
    if vm.vcpus.iter().any(|vcpu| vcpu.interval.is_none()) {
        return Ok(None);
    }
    let mut sums = Counts::new();
    for counts in vm.vcpus.iter().filter_map(|vcpu| vcpu.kvm.as_ref()?.counts) {
        for (key, count) in counts.iter() {
            *sums.entry(kernels_name(key)).or_default() += count;
        }
    }
    Ok(Some(sums))
}

/// The last part of the member's path: KVM names the file in debugfs after it.
fn kernels_name(key: &str) -> &'static str {
    let row = KVM_STATS.iter().find(|row| row.key == key);
    row.and_then(|row| MEMBERS[row.member as usize].path.rsplit('.').next()).unwrap_or_default()
}

/// What debugfs shows for the same names; `None` while nothing is known of the vCPUs yet.
fn shown(vm: &Path, ours: &Counts) -> anyhow::Result<Option<Counts>> {
    let counts: Result<Counts, _> =
        ours.keys().map(|name| Ok::<_, anyhow::Error>((*name, KvmDebugfs::count(vm, name)?))).collect();
    Ok(Some(counts?).filter(|counts| !counts.is_empty()))
}
