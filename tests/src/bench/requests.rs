//! What the program on the block layer adds to a request: the kernel's own measure of its time, over that of
//! an empty one at the same requests.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aya::sys::{Stats, enable_stats};
use hvsampler::collect::Collector;
use hvsampler::kernel::clock::Clock;
use hvsampler::kernel::limits;
use hvsampler::load::{self, Loaded, Options};
use hvsampler::source::{Kvm, Source as _};

use super::{
    machine, median,
    programs::{Runs, program},
};
use crate::guest::{Ending, Guest, GuestConfig, tiny_vmm};
use crate::host::{Disk, dd};
use crate::oracle::{Controller, Group, Hierarchy};
use crate::twin;
use crate::vmm::Load;

const REPETITIONS: usize = 51;
/// Requests of a repetition.
const REQUESTS: u64 = 2_000;
/// Rounds until the guest's control group is known.
const SETTLING: u32 = 20;
/// The program, and its empty twin.
const OURS: &str = "block_rq_complete_btf";
const EMPTY: &str = "empty_request_btf";

/// Runs the benchmark alone.
///
/// # Errors
/// When the programs cannot be loaded or there is no disk.
pub fn run_alone() -> Result<()> {
    run(Options { log_level: 0, possible_cpus: limits::possible_cpus() })
}

/// Runs the benchmark and prints its table.
pub(super) fn run(options: Options) -> Result<()> {
    let disk = Disk::fast(&std::env::temp_dir())?;
    let guest = Guest::start(&tiny_vmm()?, &GuestConfig::new("disk", 1, Load::Halt))?;
    let group = Group::create(Hierarchy::find(Controller::Io)?)?;
    group.add_process(guest.pid())?;
    let _measuring = enable_stats(Stats::RunTime).context("the kernel does not measure programs")?;
    let empty = twin::load_empty_request(options)?;
    let mut source = Kvm::start(Collector::new(load::load(options)?)?, Arc::default(), Clock::start())?;
    settle(&mut source)?;
    // Its disk has a place from now on.
    dd(Some(&group), &format!("if={} of=/dev/null bs=4k iflag=direct count=1", disk.path().display()))?;
    settle(&mut source)?;
    let (mut strangers, mut guests) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        strangers.push(over_empty(&disk, None, &empty, source.loaded())?);
        guests.push(over_empty(&disk, Some(&group), &empty, source.loaded())?);
    }
    let snapshot = source.snapshot()?;
    let disks = snapshot.vms.iter().flat_map(|vm| &vm.disks);
    let counted: u64 = disks.map(|disk| disk.counts.operations[0]).sum();
    // The kernel may skip one that comes in an interrupt.
    ensure!(counted >= REPETITIONS as u64 * REQUESTS * 99 / 100, "only {counted} requests were a guest's");
    println!("{REPETITIONS} repetitions of {REQUESTS} reads in turn, medians; the kernel's own measure");
    println!("| block_rq_complete | ns |");
    println!("|---|---|");
    println!("| ours over empty, a request of nobody | {:+.1} |", median(strangers));
    println!("| ours over empty, a guest's request | {:+.1} |", median(guests));
    println!("{}", machine());
    guest.end(Ending::Killed)?;
    Ok(())
}

fn settle(source: &mut Kvm) -> Result<()> {
    let ask = source.answerer();
    for _ in 0..SETTLING {
        source.snapshot()?;
        for question in source.questions() {
            source.answer(ask(question));
        }
    }
    Ok(())
}

/// Time of a run of ours less that of a run of the empty one, at the same requests, ns.
fn over_empty(disk: &Disk, group: Option<&Group>, empty: &Loaded, ours: &Loaded) -> Result<f64> {
    let before = [cost(empty, EMPTY)?, cost(ours, OURS)?];
    let arguments = format!("if={} of=/dev/null bs=4k iflag=direct count={REQUESTS}", disk.path().display());
    dd(group, &arguments)?;
    let after = [cost(empty, EMPTY)?, cost(ours, OURS)?];
    let [empty, ours] = [0, 1].map(|n| after[n].since(before[n]).ns());
    Ok(ours - empty)
}

/// Runs of a program and their time.
fn cost(loaded: &Loaded, name: &str) -> Result<Runs> {
    Runs::of(program(loaded, name)?)
}
