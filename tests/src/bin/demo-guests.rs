//! Four tiny guests that show what the sampler shows, for somebody who has none.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use sampler_tests::guest::{Ending, Guest, GuestConfig, tiny_vmm};
use sampler_tests::host::{CpuList, StopSignals, end_with_parent};
use sampler_tests::vmm::{Load, available};

/// Exit status where this host cannot run guests.
const NO_KVM: u8 = 3;

/// Runs four guests of a few bytes each until SIGTERM, SIGINT or the end of its parent.
///
/// demo-fight has two busy vCPUs pinned to one CPU: each gets half of it and shows about 50 % steal.
/// demo-busy has one vCPU that never sleeps, demo-half burns half of its time, demo-halted is halted. The
/// fight has the first allowed CPU to itself, busy the second and half the third; with two CPUs half shares
/// the second with busy, which then shows steal as well, and with one CPU all share it.
///
/// Prints `demo guests ready` when all vCPUs have run. Exit status 3: /dev/kvm is missing or may not be
/// opened.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The tiny VMM's binary; the one beside this binary when absent.
    #[arg(long, value_name = "FILE")]
    tiny_vmm: Option<PathBuf>,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(reason) = available() {
        eprintln!("demo-guests: {reason}");
        return ExitCode::from(NO_KVM);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-guests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    end_with_parent(None).context("cannot tie this process to its parent")?;
    let stop = StopSignals::catch().context("cannot catch signals")?;
    let binary = match &arguments.tiny_vmm {
        Some(binary) => binary.clone(),
        None => tiny_vmm()?,
    };
    let guests = start(&binary, &CpuList::allowed().context("cannot read the allowed CPUs")?)?;
    println!("demo guests ready");
    stop.wait(arguments.seconds.map(Duration::from_secs)).context("cannot wait for signals")?;
    for guest in guests {
        guest.end(Ending::Orderly)?;
    }
    Ok(())
}

fn start(binary: &Path, cpus: &CpuList) -> anyhow::Result<Vec<Guest>> {
    configs(cpus)?.iter().map(|config| Ok(Guest::start(binary, config)?)).collect()
}

fn configs(cpus: &CpuList) -> anyhow::Result<Vec<GuestConfig>> {
    let length = Duration::from_millis(2);
    let half = Load::Half { burn: length, sleep: length };
    let cpus = cpus.numbers();
    let guest = |name, vcpus, load, place: usize| -> anyhow::Result<GuestConfig> {
        let cpu = cpus.get(place).or(cpus.last()).context("no CPU is allowed")?;
        Ok(GuestConfig::new(name, vcpus, load).on(&CpuList::one(*cpu)?))
    };
    Ok(vec![
        guest("demo-busy", 1, Load::Busy, 1)?,
        guest("demo-half", 1, half, 2)?,
        guest("demo-halted", 1, Load::Halt, 1)?,
        guest("demo-fight", 2, Load::Busy, 0)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(allowed: &str) -> Vec<(String, String)> {
        let place = |config: &GuestConfig| {
            let cpus = config.cpus.as_ref().map(ToString::to_string);
            (config.name.to_string_lossy().into_owned(), cpus.unwrap_or_default())
        };
        configs(&allowed.parse().unwrap()).unwrap().iter().map(place).collect()
    }

    #[test]
    fn the_fight_keeps_a_cpu_to_itself_where_there_are_two() {
        for (allowed, fight, busy, half) in
            [("0", "0", "0", "0"), ("0,1", "0", "1", "1"), ("2,5,7,8", "2", "5", "7")]
        {
            let expected =
                [("demo-busy", busy), ("demo-half", half), ("demo-halted", busy), ("demo-fight", fight)];
            let found = places(allowed);
            let found: Vec<_> = found.iter().map(|(name, cpu)| (name.as_str(), cpu.as_str())).collect();
            assert_eq!(found, expected, "allowed {allowed}");
        }
    }
}
