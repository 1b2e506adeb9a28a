//! What the programs cost a whole host whose vCPUs switch as often as its CPUs let them: the kernel's own
//! measure of each program's time, over that of an empty one on the same switches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use hvsampler::collect::Collector;
use hvsampler::kernel::clock::Clock;
use hvsampler::kernel::limits;
use hvsampler::load::{self, Loaded, Options};
use hvsampler::model::{Host, Level};
use hvsampler::source::{GuestFacts, Kvm, Levels};

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use super::programs::Runs;
use crate::twin;
use crate::vmm::Load;

/// About as many wake-ups as two CPUs can serve beside the start of more guests.
const LOAD: Load = Load::Half { burn: Duration::from_micros(2), sleep: Duration::from_millis(25) };
/// Turns of each level, and snapshots in each turn: the levels are measured in turns, for the load is not the
/// same all the time.
const TURNS: u32 = 4;
const LENGTH: u32 = 5;
/// Snapshots until all guests are at the level.
const SETTLING: u32 = 2;
const INTERVAL: Duration = Duration::from_secs(1);
/// The switches of vCPU threads in a second to which the sum is scaled.
const SWITCHES: f64 = 200_000.0;

/// Runs the benchmark and prints its tables.
///
/// # Errors
/// When guests do not start or the programs cannot be loaded.
pub fn run() -> Result<()> {
    let guests = fleet::start(LOAD)?;
    // The kernel measures as long as this is open.
    let _measuring = enable_stats(Stats::RunTime).context("the kernel does not measure programs")?;
    let options = Options { log_level: 0, possible_cpus: limits::possible_cpus() };
    let empty = twin::load_empty(options)?;
    let mut source =
        Kvm::start(Collector::new(load::load(options)?)?, Arc::new(Host::default()), Clock::start())?;
    let mut sums = [(Level::Basic, Sum::default()), (Level::Full, Sum::default())];
    follow(&mut source, 5)?;
    for _ in 0..TURNS {
        for (level, sum) in &mut sums {
            source.set_levels(Levels { most: *level, ..Levels::DEFAULT });
            follow(&mut source, SETTLING)?;
            let before = Moment::take(&mut source, &empty)?;
            follow(&mut source, LENGTH)?;
            sum.add(&before, &Moment::take(&mut source, &empty)?);
        }
    }
    sums.iter().for_each(|(level, sum)| sum.print(*level));
    println!("{GUESTS} guests of {VCPUS} vCPUs, {} in all; {}", guests.len() * VCPUS as usize, machine());
    Ok(())
}

/// Takes snapshots as the service does.
fn follow(source: &mut Kvm, intervals: u32) -> Result<()> {
    for _ in 0..intervals {
        source.drain();
        for vm in source.take_unidentified() {
            source.identify(vm, GuestFacts::default());
        }
        source.snapshot()?;
        thread::sleep(INTERVAL);
    }
    Ok(())
}

struct Moment {
    at: Instant,
    vcpu_switches: u64,
    programs: BTreeMap<String, Runs>,
    empty: Runs,
}

impl Moment {
    fn take(source: &mut Kvm, empty: &Loaded) -> Result<Self> {
        let vcpu_switches = source.collector().hook_stats().vcpu_switches;
        let costs = costs(source.loaded())?;
        let empty = costs_of_empty(empty)?;
        Ok(Self { at: Instant::now(), vcpu_switches, programs: costs, empty })
    }
}

/// What all turns of a level have come to.
#[derive(Default)]
struct Sum {
    wall: Duration,
    vcpu_switches: u64,
    programs: BTreeMap<String, Runs>,
    empty: Runs,
}

impl Sum {
    fn add(&mut self, from: &Moment, to: &Moment) {
        self.wall += to.at - from.at;
        self.vcpu_switches += to.vcpu_switches - from.vcpu_switches;
        self.empty.add(to.empty.since(from.empty));
        for (name, cost) in &to.programs {
            let before = from.programs.get(name).copied().unwrap_or_default();
            self.programs.entry(name.clone()).or_default().add(cost.since(before));
        }
    }

    fn print(&self, level: Level) {
        let seconds = self.wall.as_secs_f64();
        let empty = self.empty.ns();
        let switches = self.vcpu_switches as f64 / seconds;
        println!("level {}: {switches:.0} switches of vCPU threads in a second", level.key());
        println!("| program | runs in a second | ns each | over the empty one | of one core |");
        println!("|---|---|---|---|---|");
        let (mut sum, mut over) = (0.0, 0.0);
        for (name, cost) in self.programs.iter().filter(|(_, cost)| cost.count > 0) {
            let rate = cost.count as f64 / seconds;
            let (all, above) = (rate * cost.ns(), rate * (cost.ns() - empty));
            println!(
                "| {name} | {rate:.0} | {:.0} | {:+.0} | {:.2} % |",
                cost.ns(),
                cost.ns() - empty,
                all / 1e7
            );
            (sum, over) = (sum + all, over + above);
        }
        println!(
            "all: {:.2} % of one core, {:.2} % over empty ones; for {SWITCHES:.0} switches {:.2} % and {:.2} %\n",
            sum / 1e7,
            over / 1e7,
            sum / 1e7 * SWITCHES / switches,
            over / 1e7 * SWITCHES / switches,
        );
    }
}

fn costs(loaded: &Loaded) -> Result<BTreeMap<String, Runs>> {
    loaded.object.programs().map(|(name, program)| Ok((name.to_owned(), Runs::of(program)?))).collect()
}

fn costs_of_empty(empty: &Loaded) -> Result<Runs> {
    costs(empty)?.into_values().next().context("the empty program is not loaded")
}
