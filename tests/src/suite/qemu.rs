//! Guests as operators run them: real QEMU, Linux inside, vCPU threads that sleep in the kernel and in the
//! VMM.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::exact::compare_all;
use super::linux_guest::{LinuxGuest, LinuxGuestConfig};
use super::sampler;
use crate::exactness::{Moves, Thread};
use crate::host::CpuList;
use crate::runner::{Context, Outcome};
use crate::scenario::{Scenario, ScenarioError, waited};

/// Time for one of these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(300);
/// Comparisons; the tests with the tiny VMM make many more.
const COMPARISONS: u64 = 1_000;

/// The slots of QEMU's vCPU threads equal what the kernel counts, while they fight for a CPU.
pub(super) fn exact(context: &Context) -> anyhow::Result<Outcome> {
    let config =
        |name: &str, does| LinuxGuestConfig { name: name.into(), uuid: None, vcpus: 2, does, devices: &[] };
    let source = sampler::start()?;
    let guests =
        LinuxGuest::start(&[config("half", "load=half stat=0"), config("busy", "load=busy stat=0")])?;
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let cpu = CpuList::one(allowed.numbers()[0])?;
    guests.iter().try_for_each(|guest| guest.pin(&cpu))?;
    let threads: Vec<_> = guests.iter().flat_map(LinuxGuest::threads).collect();
    let waited_before = waited(&threads)?;
    compare_all(context, COMPARISONS, source, Pinned { _guests: guests, threads, waited_before })
}

/// Linux guests that share one CPU.
struct Pinned {
    _guests: Vec<LinuxGuest>,
    threads: Vec<Thread>,
    waited_before: u64,
}

impl Scenario for Pinned {
    fn threads(&self) -> Vec<Thread> {
        self.threads.clone()
    }

    fn moves(&self) -> Moves {
        Moves::Impossible
    }

    fn finish(self) -> Result<String, ScenarioError> {
        let waited = waited(&self.threads)?.saturating_sub(self.waited_before);
        if waited == 0 {
            return Err(ScenarioError::Idle("no vCPU ever waited for the CPU".to_owned()));
        }
        Ok(format!(
            "{} vCPUs of QEMU on one CPU waited {:.1} s in all",
            self.threads.len(),
            waited as f64 / 1e9
        ))
    }
}

const UUID: &str = "6b8b4567-327b-43c6-a643-5c1e8a7d2f10";
/// QEMU reads `,,` as a comma of the value.
const NAME_GIVEN: &str = "web,,01 \"ä\" \\n";
const NAME: &str = "web,01 \"ä\" \\n";

/// `hvsampler once` shows a guest by the name and the UUID that its operator gave it, and its vCPUs by their
/// numbers; when QEMU is killed, its vCPUs end at once.
pub(super) fn identity_and_end(context: &Context) -> anyhow::Result<Outcome> {
    let config = LinuxGuestConfig {
        name: NAME_GIVEN.into(),
        uuid: Some(UUID),
        vcpus: 2,
        does: "load=halt stat=0",
        devices: &[],
    };
    let guest = LinuxGuest::start(&[config])?.remove(0);
    shown_by_once(context, &guest)?;
    let mut source = sampler::start()?;
    let threads = guest.threads();
    sampler::follow(&mut source, &threads)?;
    drop(guest);
    let after = ended(&mut source, &threads)?;
    Ok(Outcome::Passed(format!(
        "name, UUID and 2 vCPUs as given; both ends reported {:.1} ms after QEMU was reaped",
        after.as_secs_f64() * 1e3
    )))
}

fn shown_by_once(context: &Context, guest: &LinuxGuest) -> anyhow::Result<()> {
    let mut once = Command::new(context.binary("hvsampler")?);
    let output = once.args(["once", "--interval", "1s", "--format", "json"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "hvsampler once ended with {}: {said}", output.status);
    let shown: Value = serde_json::from_slice(&output.stdout).context("hvsampler once prints no JSON")?;
    let vms = shown["vms"].as_array().context("no list of VMs")?;
    let vm = vms.iter().find(|vm| vm["attributes"]["process.pid"] == guest.pid());
    let vm = vm.with_context(|| format!("process {} is not among the VMs: {said}", guest.pid()))?;
    let known = &vm["attributes"];
    ensure!(known["hypervisor.vm.name"] == NAME && known["hypervisor.vm.id"] == UUID, "it is {known}");
    let vcpus = vm["vcpus"].as_array().context("no list of vCPUs")?;
    let tids: Vec<_> = vcpus.iter().map(|vcpu| vcpu["tid"].as_u64()).collect();
    let expected: Vec<_> = guest.threads().iter().map(|thread| Some(u64::from(thread.tid))).collect();
    ensure!(tids == expected, "the vCPU threads are {tids:?}, QEMU's are {expected:?}");
    let numbers: Vec<_> =
        vcpus.iter().map(|vcpu| vcpu["attributes"]["hypervisor.vcpu.id"].as_u64()).collect();
    ensure!(numbers == [Some(0), Some(1)], "the vCPUs are numbered {numbers:?}");
    Ok(())
}

fn ended(source: &mut hvsampler::source::Kvm, threads: &[Thread]) -> anyhow::Result<Duration> {
    const LIMIT: Duration = Duration::from_secs(5);
    let begin = Instant::now();
    let mut waiting: Vec<u32> = threads.iter().map(|thread| thread.tid).collect();
    let mut vm_gone = false;
    while !waiting.is_empty() {
        ensure!(begin.elapsed() < LIMIT, "threads {waiting:?} have not ended for the sampler");
        for ended in source.snapshot()?.ended {
            waiting.retain(|&tid| Some(tid) != ended.tid);
            vm_gone |= ended.vm_gone;
        }
    }
    ensure!(vm_gone, "the VM has not ended with its last vCPU");
    Ok(begin.elapsed())
}
