//! Guests are born and die while the sampler samples: none is missed, mixed up or left behind.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hvsampler::collect::wait_readable;
use hvsampler::model::COUNTERS;
use hvsampler::model::{SamplerStats, Snapshot, VcpuId, VmKey};
use hvsampler::source::{Kvm, KvmGuest, ThreadId};

use super::sampler;
use crate::guest::Ending;
use crate::runner::{Context, Outcome};
use crate::scenario::{Churn, Life};

/// Time for the whole test.
pub(super) const LIMIT: Duration = Duration::from_secs(300);
const INTERVAL: Duration = Duration::from_millis(100);
const GUESTS: usize = 500;
const ALIVE: usize = 24;
/// Clock ticks a second in `/proc/PID/stat`.
const TICKS: u64 = 100;

pub(super) fn five_hundred_guests(context: &Context) -> anyhow::Result<Outcome> {
    let churn = Churn { binary: context.binary("tiny-vmm")?, guests: GUESTS, alive: ALIVE, seed: 1 };
    let source = sampler::start()?;
    let over = AtomicBool::new(false);
    let begin = Instant::now();
    let (lives, watched) = thread::scope(|scope| {
        let watcher = scope.spawn(|| Watch::new(source).until(&over));
        // In this thread: guests end with the thread that starts them.
        let lives = churn.run(|_| ());
        over.store(true, Ordering::Release);
        (lives, watcher.join())
    });
    let lives = lives?;
    let Ok(watched) = watched else { bail!("the thread that samples panicked") };
    let watched = watched?;
    let elapsed = begin.elapsed();
    watched.check(&lives)?;
    let vcpus: usize = lives.iter().map(|life| life.vcpus.len()).sum();
    let killed = lives.iter().filter(|life| life.ending == Ending::Killed).count();
    Ok(Outcome::Passed(format!(
        "{GUESTS} guests with {vcpus} vCPUs in {:.1} s, {killed} killed; all seen, {} of them in {} snapshots; \
         nothing lost; {} ends found by walks",
        elapsed.as_secs_f64(),
        watched.streams.values().filter(|stream| stream.shown).count(),
        watched.snapshots,
        watched.last.gone_by_walk,
    )))
}

/// All that the sampler ever said of a vCPU.
#[derive(Debug, Default)]
struct Stream {
    vm: Option<VmKey>,
    index: u32,
    counters: [u64; COUNTERS.len()],
    shown: bool,
    ended: u32,
    last_of_vm: bool,
}

/// The sampler at work, and what it says.
struct Watch {
    source: Kvm,
    streams: HashMap<VcpuId, Stream>,
    faults: Vec<String>,
    snapshots: u32,
    last: SamplerStats,
}

impl Watch {
    fn new(source: Kvm) -> Self {
        let (streams, faults) = (HashMap::new(), Vec::new());
        Self { source, streams, faults, snapshots: 0, last: SamplerStats::default() }
    }

    /// Samples until `over` is set, and once more when everybody is gone.
    fn until(mut self, over: &AtomicBool) -> anyhow::Result<Self> {
        while !over.load(Ordering::Acquire) {
            self.interval()?;
        }
        // A guest can be reaped before its last thread has left its CPU, and a thread whose end was lost
        // takes two walks to be found out.
        for _ in 0..5 {
            self.interval()?;
        }
        Ok(self)
    }

    fn interval(&mut self) -> anyhow::Result<()> {
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next {
            wait_readable(self.source.as_fd(), next.saturating_duration_since(Instant::now()))?;
            self.follow();
        }
        self.sample()
    }

    fn follow(&mut self) {
        sampler::identify(&mut self.source);
        for thread in self.source.slots().threads() {
            let stream = self.streams.entry(thread.id.vcpu()).or_default();
            stream.belongs(thread.id.vcpu(), thread.vm.key(), thread.index, &mut self.faults);
        }
    }

    fn sample(&mut self) -> anyhow::Result<()> {
        self.follow();
        let snapshot = self.source.snapshot()?;
        self.snapshots += 1;
        self.last = snapshot.sampler;
        self.take_in(&snapshot);
        Ok(())
    }

    fn take_in(&mut self, snapshot: &Snapshot) {
        for (vm, vcpu) in snapshot.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |vcpu| (vm, vcpu))) {
            let stream = self.streams.entry(vcpu.id).or_default();
            stream.belongs(vcpu.id, vm.key, vcpu.index, &mut self.faults);
            stream.grows(vcpu.id, vcpu.counters, &mut self.faults);
            stream.shown = true;
        }
        for ended in &snapshot.ended {
            let stream = self.streams.entry(ended.id).or_default();
            stream.grows(ended.id, ended.counters, &mut self.faults);
            stream.ended += 1;
            stream.last_of_vm |= ended.vm_gone;
        }
    }

    fn check(&self, lives: &[Life]) -> anyhow::Result<()> {
        ensure!(self.faults.is_empty(), "{} streams are confused: {}", self.faults.len(), self.faults[0]);
        sampler::nothing_lost(&self.last)?;
        // On a busy host a thread may wait for its last switch longer than the sampler waits for it. That is
        // rare: were the ends not reported by the hook, all of them would be found this way.
        let (late, all) = (self.last.gone_by_walk, self.streams.len() as u64);
        ensure!(late * 20 <= all, "{late} of {all} ends were found by walks only");
        ensure!(self.source.slots().slots_add_up(), "slots are lost or given out twice");
        for life in lives {
            self.check_life(life).with_context(|| format!("guest {life:?}"))?;
        }
        Ok(())
    }

    fn check_life(&self, life: &Life) -> anyhow::Result<()> {
        let left = self.source.slots().threads().filter(|thread| thread.vm.pid == life.pid).count();
        ensure!(left == 0, "{left} of its threads still have slots");
        let own = |stream: &&Stream| stream.vm.is_some_and(|vm| is_of(vm, life));
        // The thread that sets the vCPUs up is inside their ioctls for a moment as well, and is none of them.
        let runs = |id: &VcpuId| life.vcpus.iter().any(|vcpu| vcpu.tid == ThreadId::of(*id).tid);
        let others = self.streams.iter().filter(|(id, stream)| own(stream) && !runs(id)).count();
        ensure!(others == 0, "the sampler saw {others} vCPUs too many");
        for vcpu in &life.vcpus {
            let mut streams =
                self.streams.iter().filter(|(id, stream)| ThreadId::of(**id).tid == vcpu.tid && own(stream));
            let (_, stream) =
                streams.next().with_context(|| format!("thread {} was never seen", vcpu.tid))?;
            ensure!(stream.index == vcpu.index, "vCPU {} was seen as vCPU {}", vcpu.index, stream.index);
            // One that lived between two snapshots was never shown; its end may be reported all the same, for
            // it can be the end of its VM.
            let is_right = if stream.shown { stream.ended == 1 } else { stream.ended <= 1 };
            ensure!(
                is_right,
                "vCPU {} was shown: {}, and ended {} times",
                vcpu.index,
                stream.shown,
                stream.ended
            );
        }
        let shown = self.streams.values().filter(own).any(|stream| stream.shown);
        let ends = self.streams.values().filter(own).filter(|stream| stream.last_of_vm).count();
        // One that died in the middle of the only snapshot of its life was not shown either, and ends as its
        // vCPUs do.
        let is_right = if shown { ends == 1 } else { ends <= 1 };
        ensure!(is_right, "the VM was shown: {shown}, and ended {ends} times");
        Ok(())
    }
}

fn is_of(vm: VmKey, life: &Life) -> bool {
    let vm = KvmGuest::of(vm);
    let start_ticks = vm.start_boottime_ns / (1_000_000_000 / TICKS);
    vm.pid == life.pid && start_ticks == life.start_ticks
}

impl Stream {
    /// A stream's VM and number never change.
    fn belongs(&mut self, id: VcpuId, vm: VmKey, index: u32, faults: &mut Vec<String>) {
        if self.vm.is_some_and(|known| known != vm || self.index != index) {
            faults.push(format!(
                "{id:?} was vCPU {} of {:?} and is vCPU {index} of {vm:?}",
                self.index, self.vm
            ));
        }
        (self.vm, self.index) = (Some(vm), index);
    }

    /// Its counts never fall, and end with it.
    fn grows(&mut self, id: VcpuId, counters: [u64; COUNTERS.len()], faults: &mut Vec<String>) {
        if self.ended > 0 {
            faults.push(format!("{id:?} goes on after its end"));
        }
        if self.counters.iter().zip(&counters).any(|(before, now)| now < before) {
            faults.push(format!("{id:?} fell from {:?} to {counters:?}", self.counters));
        }
        self.counters = counters;
    }
}
