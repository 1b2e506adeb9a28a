//! Memory for slots grows with the vCPUs that are followed.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{Snapshot, Vcpu};
use sampler_ebpf::abi::{Counter, SEGMENT};

use super::sampler;
use crate::exactness::Thread;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Guests that together have more vCPUs than a segment has slots.
const GUESTS: usize = 3;
const VCPUS: u32 = 450;
/// vCPUs that come last, and do something.
const BUSY: u32 = 2;
const LOAD: Load = Load::Half { burn: Duration::from_millis(2), sleep: Duration::from_millis(5) };
/// Time in which all of these run.
const INTERVAL: Duration = Duration::from_millis(500);

/// More vCPUs than the first segment has slots for are followed, none is refused for long, and what those of
/// later segments do is shown.
pub(super) fn grow(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let mut source = sampler::start()?;
    ensure!(source.collector().slots() == SEGMENT, "there are {} slots", source.collector().slots());
    let mut guests = Vec::new();
    for n in 0..GUESTS {
        guests.push(Guest::start(&binary, &GuestConfig::new(format!("many-{n}"), VCPUS, Load::Halt))?);
    }
    let busy = Guest::start(&binary, &GuestConfig::new("late", BUSY, LOAD))?;
    let many: Vec<Thread> = guests.iter().flat_map(threads_of).collect();
    sampler::follow(&mut source, &many)?;
    sampler::follow(&mut source, &threads_of(&busy))?;
    sampler::identify(&mut source);
    source.snapshot()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    let (slots, used) = (source.collector().slots(), snapshot.sampler.slots_used);
    let vcpus = GUESTS as u64 * u64::from(VCPUS) + u64::from(BUSY);
    ensure!(used >= vcpus && slots > SEGMENT, "of {vcpus} vCPUs {used} are followed, in {slots} slots");
    for tid in busy.tids() {
        let vcpu = shown(&snapshot, tid).with_context(|| format!("thread {tid} is not shown"))?;
        ensure!(vcpu.interval.is_some_and(|added| added.run_ns > 0), "what thread {tid} did is not shown");
    }
    let later = source.slots().threads().filter(|thread| u32::from(thread.slot) >= SEGMENT);
    let later: Vec<_> = later.map(|thread| (thread.slot, thread.id.tid)).collect();
    let switched = later.iter().filter(|(slot, _)| {
        source.collector().slot(*slot).is_some_and(|slot| slot.counters[Counter::Timeslices as usize] > 0)
    });
    let switched = switched.count();
    ensure!(
        !later.is_empty() && switched == later.len(),
        "{switched} of {} later slots hold counts",
        later.len()
    );
    sampler::nothing_lost(&snapshot.sampler)?;
    guests.into_iter().try_for_each(|guest| guest.end(Ending::Killed))?;
    busy.end(Ending::Killed)?;
    ensure!(source.slots().slots_add_up(), "slots are lost or given out twice");
    Ok(Outcome::Passed(format!(
        "{used} vCPUs in {slots} slots, {} of them beyond the first segment",
        later.len()
    )))
}

fn threads_of(guest: &Guest) -> Vec<Thread> {
    let pid = guest.pid();
    guest.tids().into_iter().map(|tid| Thread { pid, tid }).collect()
}

fn shown(snapshot: &Snapshot, tid: u32) -> Option<&Vcpu> {
    snapshot.vms.iter().flat_map(|vm| &vm.vcpus).find(|vcpu| vcpu.tid == Some(tid))
}
