//! What our program adds to a context switch, over an empty program of the same type.

use anyhow::{Result, bail};
use hvsampler::{
    collect::Collector,
    kernel::{clock::Clock, limits},
    load::{self, Loaded, Options},
    source::Kvm,
};
use sampler_ebpf::abi::Event;

use super::{
    exits, machine, median,
    pingpong::{Pair, Strangers},
    requests,
};
use crate::twin;

const ROUNDS: u32 = 2_000;
const REPETITIONS: usize = 301;
const CPU: usize = 1;

/// What is attached while the pair plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twin {
    Nothing,
    Empty,
    /// Ours, on a CPU where no vCPU was lately.
    Strangers,
    /// Ours, on a CPU that remembers who has it, for a vCPU that may wait there.
    Remembered,
    /// The same of threads of two processes: each switch begins a stretch.
    RememberedApart,
    EmptyApart,
    /// Every switch is to or from the one vCPU.
    OneVcpu,
    BothVcpus,
    /// The same at level full: their modes are observed.
    OneObserved,
    BothObserved,
}

const TWINS: [Twin; 10] = [
    Twin::Nothing,
    Twin::Empty,
    Twin::Strangers,
    Twin::Remembered,
    Twin::RememberedApart,
    Twin::EmptyApart,
    Twin::OneVcpu,
    Twin::BothVcpus,
    Twin::OneObserved,
    Twin::BothObserved,
];

/// Runs the benchmark and prints its table.
///
/// # Errors
/// When the programs cannot be loaded or /dev/kvm cannot be used.
pub fn run() -> Result<()> {
    let options = Options { log_level: 0, possible_cpus: limits::possible_cpus() };
    let pair = Pair::start(CPU)?;
    let threads = know(&pair, options)?;
    pair.leave_guests();
    let mut stage = Stage::set(options, threads, Strangers::start(CPU)?)?;
    let mut samples: [Vec<f64>; TWINS.len()] = Default::default();
    stage.measure(&pair, Twin::Nothing)?;
    for n in 0..REPETITIONS {
        // Every other time the other way round, so that a drift of the machine's speed cancels out.
        let order: Vec<usize> =
            if n % 2 == 0 { (0..TWINS.len()).collect() } else { (0..TWINS.len()).rev().collect() };
        for twin in order {
            samples[twin].push(stage.measure(&pair, TWINS[twin])?);
        }
    }
    pair.end()?;
    stage.strangers.end()?;
    print(&samples);
    exits::run(options)?;
    requests::run(options)
}

/// Lets the sampler see both threads inside their guests, and returns their ids and `task_struct`s.
fn know(pair: &Pair, options: Options) -> Result<Vec<(u32, u64)>> {
    let mut source =
        Kvm::start(Collector::new(load::load(options)?)?, std::sync::Arc::default(), Clock::start())?;
    for _ in 0..1000 {
        source.snapshot()?;
        let known: Vec<(u32, u64)> = source
            .slots()
            .threads()
            .filter(|thread| pair.tids().contains(&thread.id.tid))
            .map(|thread| (thread.id.tid, thread.task))
            .collect();
        if known.len() == 2 {
            return Ok(known);
        }
    }
    bail!("the sampler did not see threads {:?} inside their guests", pair.tids())
}

/// All twins, loaded once; a measurement attaches what it needs.
struct Stage {
    empty: Loaded,
    /// Never sees a vCPU.
    idle: Loaded,
    ours: Collector,
    threads: Vec<(u32, u64)>,
    strangers: Strangers,
}

impl Stage {
    fn set(options: Options, threads: Vec<(u32, u64)>, strangers: Strangers) -> Result<Self> {
        let mut empty = twin::load_empty(options)?;
        empty.pause();
        let mut idle = load::load(options)?;
        idle.pause();
        let mut ours = load::load(options)?;
        ours.pause();
        Ok(Self { empty, idle, ours: Collector::new(ours)?, threads, strangers })
    }

    fn measure(&mut self, pair: &Pair, twin: Twin) -> Result<f64> {
        match twin {
            Twin::Nothing => pair.play(ROUNDS),
            Twin::Empty => attached(&mut self.empty, || pair.play(ROUNDS)),
            Twin::Strangers => attached(&mut self.idle, || pair.play(ROUNDS)),
            Twin::Remembered => {
                self.play_as_vcpus(pair, ROUNDS / 40, 2, 0)?;
                attached(self.ours.loaded(), || pair.play(ROUNDS))
            }
            Twin::RememberedApart => {
                self.play_as_vcpus(pair, ROUNDS / 40, 2, 0)?;
                attached(self.ours.loaded(), || self.strangers.play(ROUNDS))
            }
            Twin::EmptyApart => attached(&mut self.empty, || self.strangers.play(ROUNDS)),
            Twin::OneVcpu => self.play_as_vcpus(pair, ROUNDS, 1, 0),
            Twin::BothVcpus => self.play_as_vcpus(pair, ROUNDS, 2, 0),
            Twin::OneObserved => self.play_as_vcpus(pair, ROUNDS, 1, 1),
            Twin::BothObserved => self.play_as_vcpus(pair, ROUNDS, 2, 1),
        }
    }

    fn play_as_vcpus(&mut self, pair: &Pair, rounds: u32, vcpus: usize, epoch: u32) -> Result<f64> {
        let before = self.ours.hook_stats().vcpu_switches;
        for (slot, &(tid, task)) in (1..).zip(self.threads.iter().take(vcpus)) {
            self.ours.assign(slot, &Event { tid, tgid: std::process::id(), task, ..Event::default() });
            self.ours.set_epoch(slot, epoch);
        }
        self.ours.loaded().resume()?;
        let time = pair.play(rounds);
        self.ours.loaded().pause();
        for (slot, (tid, _)) in (1..).zip(self.threads.iter().take(vcpus)) {
            self.ours.release(slot, *tid);
        }
        let recorded = self.ours.hook_stats().vcpu_switches - before;
        anyhow::ensure!(recorded >= u64::from(rounds), "only {recorded} switches were recorded as a vCPU's");
        time
    }
}

fn attached(programs: &mut Loaded, play: impl FnOnce() -> Result<f64>) -> Result<f64> {
    programs.resume()?;
    let time = play();
    programs.pause();
    time
}

fn print(samples: &[Vec<f64>; TWINS.len()]) {
    let over = |twin: Twin, base: Twin| {
        let pairs = samples[twin as usize].iter().zip(&samples[base as usize]);
        median(pairs.map(|(a, b)| a - b).collect())
    };
    println!("{}", machine());
    println!(
        "{REPETITIONS} repetitions of {} switches each, twins in turn; medians of paired differences, ns per switch",
        ROUNDS * 2
    );
    println!("| sched_switch | ns |");
    println!("|---|---|");
    println!("| a switch without any program (pipe, one CPU) | {:.0} |", median(samples[0].clone()));
    println!("| an empty program over none | {:+.1} |", over(Twin::Empty, Twin::Nothing));
    println!("| ours over empty, neither thread of a VM | {:+.1} |", over(Twin::Strangers, Twin::Empty));
    println!("| the same where a vCPU ran lately | {:+.1} |", over(Twin::Remembered, Twin::Empty));
    println!(
        "| the same, threads of two processes | {:+.1} |",
        over(Twin::RememberedApart, Twin::EmptyApart)
    );
    println!("| ours over empty, one of both threads a vCPU | {:+.1} |", over(Twin::OneVcpu, Twin::Empty));
    println!("| ours over empty, both threads vCPUs | {:+.1} |", over(Twin::BothVcpus, Twin::Empty));
    println!("| the same at level full, one of both a vCPU | {:+.1} |", over(Twin::OneObserved, Twin::Empty));
    println!("| the same at level full, both vCPUs | {:+.1} |", over(Twin::BothObserved, Twin::Empty));
}
