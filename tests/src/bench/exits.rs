//! What our programs on KVM's hooks add to an exit and the entry after it, over empty programs of the same
//! type.
//!
//! Run by the kernel on request (`BPF_PROG_TEST_RUN`) and timed by the kernel (`BPF_ENABLE_STATS`), so it
//! needs no processor that can run guests: a thread that was seen to run a vCPU calls the programs in place
//! of KVM. What calling a program costs on a tracepoint, empty or not, comes on top.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    maps::{Array, MapData},
    sys::{Stats, enable_stats},
};
use hvsampler::{
    collect::Collector,
    kernel::{clock::Clock, limits},
    load::{self, Loaded, Options},
    model::SAMPLED,
    source::Kvm,
};
use kvm_ioctls::VcpuExit;
use sampler_ebpf::abi::{Event, Member};

use super::{
    machine,
    pingpong::{gettid, guest},
    programs::{self, Runs, program},
};
use crate::twin;

const REPETITIONS: usize = 101;
const RUNS: u64 = 500;
const TWINS: usize = 5;
const SLOT: u16 = 1;
/// `KVM_ISA_SVM`: the longer way to a reason.
const ISA: u64 = 2;

/// Runs this benchmark alone.
///
/// # Errors
/// As [`run`].
pub fn run_alone() -> Result<()> {
    println!("{}", machine());
    run(Options { log_level: 0, possible_cpus: limits::possible_cpus() })
}

/// Runs the benchmark and prints its table.
///
/// # Errors
/// When the programs cannot be loaded or run, or /dev/kvm cannot be used.
pub(super) fn run(options: Options) -> Result<()> {
    let (tid, task) = (gettid(), known(options)?);
    let mut empty = twin::load_empty(options)?;
    empty.pause();
    let mut ours = load::load(options)?;
    ours.pause();
    // They stay loaded.
    ours.attach_to_kvm()?;
    ours.detach_from_kvm();
    let leader = ours.offsets.at[Member::TaskGroupLeader as usize];
    // A pointer, and a word behind it: as many reads as from a vCPU to its reason, without either.
    set_exit_offsets(&mut ours, [0, leader, 16, 0])?;
    let mut ours = Collector::new(ours)?;
    let _stats = enable_stats(Stats::RunTime)?;
    let mut samples: [Vec<f64>; TWINS] = Default::default();
    for n in 0..REPETITIONS {
        ours.assign(SLOT, &Event { tid, tgid: std::process::id(), task, ..Event::default() });
        ours.set_epoch(SLOT, u32::try_from(n)? + 1);
        samples[0].push(pair(ours.loaded(), ["kvm_entry", "kvm_exit"], task)?);
        let exits: Option<u64> =
            ours.modes(SLOT).map(|modes| modes.exits.iter().map(|exits| u64::from(exits.count)).sum());
        ensure!(exits == Some(RUNS), "{exits:?} exits were counted of {RUNS}");
        ours.set_timed(SLOT, SAMPLED);
        samples[4].push(pair(ours.loaded(), ["kvm_entry", "kvm_exit"], task)?);
        ours.set_epoch(SLOT, 0);
        samples[1].push(pair(ours.loaded(), ["kvm_entry", "kvm_exit"], task)?);
        ours.release(SLOT, tid);
        samples[2].push(pair(ours.loaded(), ["kvm_entry", "kvm_exit"], task)?);
        samples[3].push(pair(&empty, ["empty_kvm_raw", "empty_kvm_raw"], task)?);
    }
    print(&samples);
    Ok(())
}

/// The `task_struct` of this thread, as the sampler sees it inside a guest.
fn known(options: Options) -> Result<u64> {
    let tid = gettid();
    let (_vm, mut vcpu) = guest().context("making a guest of one HLT")?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let finder = scope.spawn(|| {
            let found = find(tid, options);
            stop.store(true, Ordering::Release);
            found
        });
        while !stop.load(Ordering::Acquire) {
            match vcpu.run()? {
                VcpuExit::Hlt => {}
                other => bail!("the guest did not halt: {other:?}"),
            }
        }
        finder.join().map_err(|_| anyhow::anyhow!("the thread that looks for the vCPU panicked"))?
    })
}

fn find(tid: u32, options: Options) -> Result<u64> {
    let collector = Collector::new(load::load(options)?)?;
    let mut source = Kvm::start(collector, std::sync::Arc::default(), Clock::start())?;
    for _ in 0..1000 {
        source.snapshot()?;
        if let Some(thread) = source.slots().threads().find(|thread| thread.id.tid == tid) {
            return Ok(thread.task);
        }
    }
    bail!("the sampler did not see thread {tid} inside its guest")
}

fn set_exit_offsets(ours: &mut Loaded, offsets: [u32; 4]) -> Result<()> {
    let map = ours.object.map_mut(".bss.exits").context("the object has no section .bss.exits")?;
    let mut map: Array<&mut MapData, [u32; 4]> = Array::try_from(map)?;
    Ok(map.set(0, &offsets, 0)?)
}

/// Nanoseconds of an entry and an exit.
fn pair(loaded: &Loaded, names: [&str; 2], vcpu: u64) -> Result<f64> {
    let before = run_ns(loaded, names)?;
    for _ in 0..RUNS {
        for name in names {
            programs::run(program(loaded, name)?, [vcpu, ISA])?;
        }
    }
    Ok((run_ns(loaded, names)? - before) as f64 / RUNS as f64)
}

/// Time that the kernel has counted of both programs, ns; of one that stands for both, its time.
fn run_ns(loaded: &Loaded, [first, second]: [&str; 2]) -> Result<u64> {
    let of = |name| anyhow::Ok(u64::try_from(Runs::of(program(loaded, name)?)?.time.as_nanos())?);
    let first_ns = of(first)?;
    Ok(if first == second { first_ns } else { first_ns + of(second)? })
}

fn print(samples: &[Vec<f64>; TWINS]) {
    let over_empty = |n: usize| {
        let pairs = samples[n].iter().zip(&samples[3]);
        super::median(pairs.map(|(ours, empty)| ours - empty).collect())
    };
    println!();
    println!("{REPETITIONS} repetitions of {RUNS} entries and exits each; medians of paired differences");
    println!("| kvm_entry and kvm_exit, over two empty programs | ns |");
    println!("|---|---|");
    println!("| level full: two clocks, the reason by two reads, its latency | {:+.1} |", over_empty(0));
    println!("| level sampled: one pair in {SAMPLED} is timed | {:+.1} |", over_empty(4));
    println!("| a guest at level basic beside others at level full | {:+.1} |", over_empty(1));
    println!("| a vCPU that is not followed yet | {:+.1} |", over_empty(2));
}
