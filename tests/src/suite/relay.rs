//! A vCPU that two threads run in turn is one stream: its account goes on, whichever thread runs it.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::model::{Snapshot, Vcpu};
use hvsampler::source::Kvm;

use super::sampler;
use crate::oracle::Schedstat;
use crate::runner::{Context, Outcome};
use crate::vmm::Relay;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// How long each thread runs the vCPU. A thread is seen at its next switch inside a vCPU ioctl or by the walk
/// of the next snapshot, so some turns are seen by nobody.
const TURN: Duration = Duration::from_millis(150);
/// Time between two snapshots.
const INTERVAL: Duration = Duration::from_millis(500);
/// Time between two looks at the ring.
const LOOKS: Duration = Duration::from_millis(5);
/// Snapshots that are compared.
const SNAPSHOTS: usize = 14;
/// Part of their CPU time that is seen at least. A turn that nobody sees in its interval counts as blocked.
const SEEN_PERCENT: u64 = 50;
/// Time within which both threads have been seen.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn one_vcpu_of_two_threads(_: &Context) -> anyhow::Result<Outcome> {
    let relay = Relay::start(2, TURN)?;
    let mut source = sampler::start()?;
    let first = until_both_were_seen(&mut source)?;
    let (kernel_ns, turns) = (run_ns(&relay)?, relay.turns());
    let mut before = first.clone();
    let mut threads = Vec::from_iter(first.tid);
    for _ in 0..SNAPSHOTS {
        let now = next(&mut source)?;
        goes_on(&before, &now)?;
        threads.extend(now.tid);
        before = now;
    }
    let kernel_ns = run_ns(&relay)? - kernel_ns;
    let turns = relay.turns() - turns;
    relay.stop()?;
    threads.dedup();
    ensure!(threads.len() > 2, "both run it in turn: {threads:?}");
    let ours_ns = before.totals.run_ns - first.totals.run_ns;
    let turn_ns = TURN.as_nanos() as u64;
    ensure!(
        (kernel_ns / 100 * SEEN_PERCENT..=kernel_ns + turn_ns).contains(&ours_ns),
        "both ran for {kernel_ns} ns by the kernel's count, the vCPU for {ours_ns} ns"
    );
    Ok(Outcome::Passed(format!(
        "{turns} turns, {} of them found the other thread in one of {SNAPSHOTS} snapshots; {:.3} s by the kernel's \
         count of both threads, {:.3} s by ours",
        threads.len() - 1,
        kernel_ns as f64 / 1e9,
        ours_ns as f64 / 1e9
    )))
}

/// Takes snapshots until each of the two threads has been shown to run the vCPU. Returns it as of then.
fn until_both_were_seen(source: &mut Kvm) -> anyhow::Result<Vcpu> {
    let end = Instant::now() + SEEN_WITHIN;
    let mut first = None;
    loop {
        if let Ok(vcpu) = next(source)
            && vcpu.tid.is_some()
            && *first.get_or_insert(vcpu.tid) != vcpu.tid
        {
            return Ok(vcpu);
        }
        ensure!(Instant::now() < end, "of both threads {first:?} alone was seen");
    }
}

/// The vCPU in the next snapshot.
fn next(source: &mut Kvm) -> anyhow::Result<Vcpu> {
    let end = Instant::now() + INTERVAL;
    // As the service does when the ring has news.
    while Instant::now() < end {
        thread::sleep(LOOKS);
        source.drain();
    }
    sampler::identify(source);
    let snapshot = source.snapshot()?;
    // Others may run guests on this host, which end.
    let own_vms = format!("{}-", process::id());
    let ended: Vec<_> = snapshot.ended.iter().filter(|ended| ended.vm_id.starts_with(&own_vms)).collect();
    ensure!(ended.is_empty(), "nothing has ended: {ended:?}");
    own(&snapshot).cloned()
}

fn own(snapshot: &Snapshot) -> anyhow::Result<&Vcpu> {
    let mut own = snapshot.vms.iter().filter(|vm| vm.origin.pid() == Some(process::id()));
    let vm = own.next().context("the VM is not there")?;
    ensure!(own.next().is_none(), "there is one VM");
    let [vcpu] = &vm.vcpus[..] else { anyhow::bail!("it has one vCPU: {:?}", vm.vcpus) };
    Ok(vcpu)
}

/// One stream: nothing falls, no start changes, and all time is of some state.
fn goes_on(before: &Vcpu, now: &Vcpu) -> anyhow::Result<()> {
    let starts = |vcpu: &Vcpu| (vcpu.id, vcpu.start_unix_ns, vcpu.followed_unix_ns, vcpu.seen_unix_ns);
    ensure!(starts(before) == starts(now), "it is the same stream: {before:?}, then {now:?}");
    let fallen = now.counters.iter().zip(&before.counters).any(|(now, before)| now < before);
    ensure!(!fallen, "a count has fallen: {:?}, then {:?}", before.counters, now.counters);
    ensure!(
        now.totals.run_ns >= before.totals.run_ns && now.totals.run_delay_ns >= before.totals.run_delay_ns,
        "a total has fallen: {:?}, then {:?}",
        before.totals,
        now.totals
    );
    let interval = now.interval.context("it was read")?;
    ensure!(
        interval.states.sum() == interval.wall_ns && interval.run_ns <= interval.wall_ns,
        "the states are the wall time: {interval:?}"
    );
    let added = now.states.sum() - before.states.sum();
    ensure!(added == interval.wall_ns, "{added} ns were added in {} ns", interval.wall_ns);
    Ok(())
}

/// CPU time of both threads as the kernel counts it, ns.
fn run_ns(relay: &Relay) -> anyhow::Result<u64> {
    let of = |tid: &u32| Ok(Schedstat::of(process::id(), *tid)?.run_ns);
    relay.tids().iter().map(of).sum()
}
