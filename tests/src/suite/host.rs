//! What snapshots say of the host beside its guests is what its files say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hvsampler::model::{CPU_MODES, HostParts, HostState, Levels, RESOURCES, Resource, STALLED, Stalled};
use hvsampler::source::{Answer, Kvm, Settings, Source as _};

use super::{MINUTE, sampler};
use crate::oracle::{HostTicks, OracleError, StallTotals};
use crate::runner::{Context, Need, Outcome, Set, Test};

/// The tests of it.
pub(super) const TESTS: &[Test] = &[Test {
    name: "host.as-the-kernel-counts",
    sets: &[Set::Native, Set::Lab],
    needs: &[Need::Bpf],
    limit: MINUTE,
    run: as_the_kernel_counts,
}];

const PRESSURE: &str = "/proc/pressure";
const TICK_NS: u64 = 10_000_000;
const ALL: [Resource; RESOURCES.len()] = [Resource::Cpu, Resource::Memory, Resource::Io, Resource::Irq];

/// What the kernel says: times of CPUs, and pressure by resource, where there is some.
struct Counted {
    ticks: HostTicks,
    pressure: Vec<Option<StallTotals>>,
}

impl Counted {
    fn now() -> anyhow::Result<Self> {
        let totals = |resource: &Resource| {
            let path = Path::new(PRESSURE).join(RESOURCES[*resource as usize].key);
            match StallTotals::of(&path) {
                Ok(totals) => Ok(Some(totals)),
                // Not built, or switched off.
                Err(OracleError::Read { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        Ok(Self { ticks: HostTicks::now()?, pressure: ALL.iter().map(totals).collect::<Result<_, _>>()? })
    }
}

/// Each number lies between two readings of the kernel's file that were taken around the snapshot's.
pub(super) fn as_the_kernel_counts(_: &Context) -> anyhow::Result<Outcome> {
    let mut source = sampler::start()?;
    let pressure_alone = ask(&mut source, HostParts::default())?;
    if let Some(host) = pressure_alone {
        let system = HostState { pressure: host.pressure, ..HostState::default() };
        let timeless = HostState { at_unix_ns: 0, booted_unix_ns: 0, is_new: false, ..host };
        ensure!(timeless == system, "nobody asked for more than pressure: {host:?}");
    }
    let before = Counted::now()?;
    let host = ask(&mut source, HostParts { pressure: true, system: true })?.context("nothing is known")?;
    let after = Counted::now()?;
    let again = source.snapshot()?.host_state.context("it is not known any more")?;
    ensure!(host.is_new && !again.is_new, "a reading is new once");
    ensure!(again.at_unix_ns == host.at_unix_ns, "it was read at one time");
    booted(&host)?;
    let times = pressure(&host, &before, &after)?;
    cpus(&host, &before, &after)?;
    memory(&host)?;
    ensure!(host.threads.iter().all(Option::is_some), "{:?}", host.threads);
    let idle = host.cpu_ns[hvsampler::model::CpuMode::Idle as usize].unwrap_or_default() / 1_000_000_000;
    ensure!(ask(&mut source, HostParts::NONE)?.is_none(), "what nobody wants is not shown");
    Ok(Outcome::Passed(format!("{times} times of pressure, CPUs idle for {idle} s, as the kernel counts")))
}

/// Has these parts of the host read; returns what the next snapshot shows.
fn ask(source: &mut Kvm, host: HostParts) -> anyhow::Result<Option<HostState>> {
    source.configure(Settings { interval: Duration::from_secs(1), levels: Levels::DEFAULT, host })?;
    let answer = source.answerer();
    for question in source.questions() {
        if let of_host @ Answer::Host(..) = answer(question) {
            source.answer(of_host);
        }
    }
    Ok(source.snapshot()?.host_state)
}

/// The kernel cuts the time of its boot to a second.
fn booted(host: &HostState) -> anyhow::Result<()> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime ")).context("no btime")?;
    let kernel_s: u64 = line.parse()?;
    let ours_s = host.booted_unix_ns / 1_000_000_000;
    ensure!(ours_s.abs_diff(kernel_s) <= 1, "booted at {ours_s}, by the kernel at {kernel_s}");
    Ok(())
}

/// Returns how many times there are.
fn pressure(host: &HostState, before: &Counted, after: &Counted) -> anyhow::Result<usize> {
    let mut times = 0;
    for (resource, (before, after)) in ALL.into_iter().zip(before.pressure.iter().zip(&after.pressure)) {
        for stalled in [Stalled::AtLeastOne, Stalled::All] {
            let of = |totals: &Option<StallTotals>| match stalled {
                Stalled::AtLeastOne => totals.and_then(|totals| totals.some),
                // Of the CPUs of a whole host that is always 0, and left out.
                Stalled::All => totals.and_then(|totals| totals.full).filter(|_| resource != Resource::Cpu),
            };
            let what = || (RESOURCES[resource as usize].key, STALLED[stalled as usize].key);
            let ours = host.pressure.get(resource, stalled);
            match (of(before), ours, of(after)) {
                (Some(before), Some(ours), Some(after)) => {
                    let range = before * 1000..=after * 1000;
                    ensure!(range.contains(&ours), "{:?}: {ours} ns, the kernel has {range:?}", what());
                    times += 1;
                }
                (None, None, None) => {}
                other => anyhow::bail!("{:?}: {other:?}", what()),
            }
        }
    }
    let there_is_some = fs::read(Path::new(PRESSURE).join("memory")).is_ok();
    ensure!((times > 0) == there_is_some, "{times} times, the kernel measures pressure: {there_is_some}");
    Ok(times)
}

fn cpus(host: &HostState, before: &Counted, after: &Counted) -> anyhow::Result<()> {
    for (mode, (before, after)) in before.ticks.0.into_iter().zip(after.ticks.0).enumerate() {
        let ours = host.cpu_ns[mode].context("a mode is missing")?;
        // Time without work may go back between any two readings.
        let range = before.min(after) * TICK_NS..=before.max(after) * TICK_NS;
        let key = CPU_MODES[mode].key;
        ensure!(range.contains(&ours), "{key}: {ours} ns, the kernel has {range:?}");
    }
    Ok(())
}

/// All of it stands still; what it is used for does not.
fn memory(host: &HostState) -> anyhow::Result<()> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kilobytes = |key: &str| -> anyhow::Result<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)).context("a line is missing")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let states = host.memory.context("no memory")?;
    let all = kilobytes("MemTotal:")? * 1024;
    ensure!(states.iter().sum::<u64>() == all, "{states:?} are not {all}");
    ensure!(states.iter().all(|bytes| *bytes <= all) && host.available.is_some_and(|bytes| bytes <= all));
    for (pages, kilobytes) in host.huge_pages.iter().zip([2048, 1_048_576]) {
        let directory = Path::new("/sys/kernel/mm/hugepages").join(format!("hugepages-{kilobytes}kB"));
        ensure!(pages.is_some() == directory.is_dir(), "{pages:?} of {}", directory.display());
        if let Some(pages) = pages {
            let all: u64 = fs::read_to_string(directory.join("nr_hugepages"))?.trim().parse()?;
            ensure!(pages.states.iter().sum::<u64>() == all, "{pages:?}, the kernel has {all}");
        }
    }
    Ok(())
}
