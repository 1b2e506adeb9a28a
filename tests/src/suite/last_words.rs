//! The end of a thread is reported when nothing more is written about it: from that moment on its slot may be
//! another's.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hvsampler::collect::{Collector, Reach};
use hvsampler::load;
use sampler_ebpf::abi::{Event, EventKind};

use super::sampler;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// Time for the whole test.
pub(super) const LIMIT: Duration = Duration::from_secs(240);
/// Guests that end, one after another.
const GUESTS: u32 = 12;
const VCPUS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(30);
/// What a program that reported the end may take for the rest.
const AFTERWARDS: Duration = Duration::from_millis(5);

pub(super) fn the_end(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let mut collector = Collector::new(load::load(sampler::options())?)?;
    let mut late = 0;
    for _ in 0..GUESTS {
        let guest = Guest::start(&binary, &GuestConfig::new("short-lived", VCPUS, Load::Busy))?;
        let slots = follow(&mut collector, &guest.tids())?;
        late += end(&mut collector, guest, &slots)?;
    }
    ensure!(late == 0, "{late} of {} threads were written about after their end", GUESTS * VCPUS);
    Ok(Outcome::Passed(format!(
        "{} threads ended, nothing was written about them afterwards",
        GUESTS * VCPUS
    )))
}

/// Gives each thread a slot, from 1 on, with its modes observed.
fn follow(collector: &mut Collector, tids: &[u32]) -> anyhow::Result<HashMap<u32, u16>> {
    let start = Instant::now();
    let mut slots = HashMap::new();
    while slots.len() < tids.len() {
        ensure!(start.elapsed() < PATIENCE, "of {} vCPU threads {} were seen", tids.len(), slots.len());
        collector.walk(&Reach::Host)?;
        for event in drain(collector, EventKind::VcpuSeen) {
            let slot = u16::try_from(slots.len() + 1)?;
            collector.assign(slot, &event);
            collector.set_epoch(slot, 1);
            slots.insert(event.tid, slot);
        }
    }
    Ok(slots)
}

/// Ends a guest; how many of its threads were written about after their end had been reported.
fn end(collector: &mut Collector, guest: Guest, slots: &HashMap<u32, u16>) -> anyhow::Result<usize> {
    let mut gone = Vec::new();
    let ended = thread::scope(|scope| {
        let end = scope.spawn(|| guest.end(Ending::Killed));
        let start = Instant::now();
        while gone.len() < slots.len() && start.elapsed() < PATIENCE {
            for event in drain(collector, EventKind::ThreadGone) {
                if let Some(&slot) = slots.get(&event.tid) {
                    gone.push((event.tid, slot, written(collector, slot)));
                }
            }
        }
        end.join()
    });
    ensure!(matches!(ended, Ok(Ok(()))), "the guest did not end: {ended:?}");
    ensure!(gone.len() == slots.len(), "of {} ends {} were reported", slots.len(), gone.len());
    thread::sleep(AFTERWARDS);
    let late = gone.iter().filter(|(_, slot, then)| written(collector, *slot) != *then).count();
    for (tid, slot, _) in gone {
        collector.release(slot, tid);
    }
    Ok(late)
}

/// How often a slot and its modes were written.
fn written(collector: &Collector, slot: u16) -> (u64, u64) {
    (collector.modes_seq(slot), collector.slot_seq(slot))
}

fn drain(collector: &mut Collector, kind: EventKind) -> Vec<Event> {
    let mut events = Vec::new();
    collector.drain(|event| events.push(event));
    events.retain(|event| event.kind == kind as u32);
    events
}
