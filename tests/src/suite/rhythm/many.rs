//! As many VMMs as a large host has.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hvsampler::agent::Schedule;
use hvsampler::model::Fact;

use super::super::agent::{Agent, schedule};
use super::super::sampler;
use super::watch;
use crate::guest::{Guest, GuestConfig, Guests};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// VMMs, each a process with one VM of one vCPU.
const VMMS: usize = 1000;
/// Time in which they are started. A machine on which that takes longer has fewer.
const START: Duration = Duration::from_secs(60);
/// So long that a busy machine, too, skips none: a build without optimisation takes some 0.2 s to read all.
const INTERVAL: Duration = Duration::from_secs(5);
/// What changes slowly is asked this often: the snapshots that are judged come with its answers.
const SLOW: Duration = Duration::from_secs(4);
const SNAPSHOTS: u64 = 5;

/// All are in each snapshot with all that is known of them, and nothing is lost.
pub(super) fn vmms(context: &Context) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let in_time = (0..VMMS).take_while(|_| begin.elapsed() < START);
    let configs = in_time.map(|n| GuestConfig::new(format!("many-{n}"), 1, Load::Halt));
    let guests = Guests::side_by_side(&context.binary("tiny-vmm")?, configs)?;
    let started = begin.elapsed();
    let all: BTreeMap<u32, usize> =
        guests.iter().enumerate().map(|(n, guest): (usize, &Guest)| (guest.pid(), n)).collect();
    let schedule = Schedule { slow_interval: SLOW, ..schedule(INTERVAL) };
    let agent = Agent::start(sampler::start()?, schedule)?;
    let known = agent.until("each VMM is known", |snapshot| {
        let named = snapshot.vms.iter().filter(|vm| {
            let number = vm.origin.pid().and_then(|pid| all.get(&pid));
            number.zip(vm.facts.get(Fact::Name)).is_some_and(|(n, name)| **name == *format!("many-{n}"))
        });
        named.count() == all.len()
    })?;
    let kept = watch(&agent, SNAPSHOTS, |snapshot| {
        let vms = snapshot.vms.iter().filter(|vm| vm.origin.pid().is_some_and(|pid| all.contains_key(&pid)));
        let read = vms.clone().filter(|vm| vm.vcpus.len() == 1 && vm.vcpus[0].interval.is_some()).count();
        ensure!(
            read == all.len() && vms.count() == all.len(),
            "the vCPUs of {read} of {} VMMs were read",
            all.len()
        );
        Ok(())
    })?;
    agent.stop()?;
    Ok(Outcome::Passed(format!(
        "{} of {VMMS} VMMs, started in {:.1} s, all known after {} snapshots; {kept}",
        all.len(),
        started.as_secs_f64(),
        known.sampler.snapshots
    )))
}
