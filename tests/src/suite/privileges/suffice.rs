//! What is left is enough, on each kernel of the lab: for the programs that are attached with the first
//! guest, for walks and maps, for another network namespace.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::agent::{self, Driver, StartOptions};
use hvsampler::config::ServiceSettings;
use hvsampler::model::{HostParts, Level, Levels, Snapshot, State, Vcpu, Vm};
use hvsampler::service::privileges::confine;

use super::child::in_child;
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::Tap;
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

const INTERFACE: &str = "hvs-suffice";
const INTERVAL: Duration = Duration::from_millis(500);
/// How long all may take to be seen: an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that has given up what the service gives up observes all of a guest.
pub(super) fn on_this_kernel(context: &Context) -> anyhow::Result<Outcome> {
    let _tap = Tap::create(INTERFACE)?;
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("suffices", 2, Load::Io))?;
    let pid = guest.pid();
    let all = in_child(move || observe(pid, true))?;
    // With CAP_BPF and CAP_PERFMON alone, for which CAP_SYS_ADMIN does as well.
    let without = in_child(move || observe(pid, false))?;
    guest.end(Ending::Killed)?;
    Ok(Outcome::Passed(format!("{all}; without CAP_SYS_ADMIN {without}")))
}

fn observe(pid: u32, network_namespaces: bool) -> anyhow::Result<String> {
    let confined = confine(&ServiceSettings { network_namespaces, ..ServiceSettings::default() })?;
    ensure!(confined.kept().is_empty(), "not given up: {:?}", confined.kept());
    let options = StartOptions {
        bpf_log_level: 0,
        interval: INTERVAL,
        levels: Levels { most: Level::Full, max_exits: u64::MAX },
        host: HostParts::default(),
        nice: 0,
    };
    let loaded = confined.load(move || agent::load(&options))??;
    let (mut driver, _log) = agent::settle(agent::begin(loaded, &options)?, options.nice)?;
    driver.read_slowly_each(INTERVAL);
    until_all_is_seen(&mut driver, pid, network_namespaces)
}

fn until_all_is_seen(driver: &mut Driver, pid: u32, network_namespaces: bool) -> anyhow::Result<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        driver.attend_until(Instant::now() + INTERVAL);
        driver.read()?;
        let snapshot = driver.compose();
        match lacks(&snapshot, pid, network_namespaces) {
            Ok(seen) => return Ok(seen),
            Err(lack) => ensure!(Instant::now() < end, "{lack:#}; {:?}", snapshot.sampler),
        }
    }
}

/// Fails while not all of the guest is observed.
fn lacks(snapshot: &Snapshot, pid: u32, network_namespaces: bool) -> anyhow::Result<String> {
    let of_guest = |vm: &&Vm| vm.origin.pid() == Some(pid);
    let vm = snapshot.vms.iter().find(of_guest).context("the guest is not seen")?;
    ensure!(vm.level() == Some(Level::Full), "it is observed at level {:?}", vm.level());
    ensure!(vm.vcpus.len() == 2, "{} vCPUs are seen", vm.vcpus.len());
    // A KVM that reports no entries into guests leaves their time in one state with the VMM's.
    let of = |vcpu: &Vcpu| vcpu.states.get(State::Guest).or_else(|| vcpu.states.get(State::Run));
    let on_cpu: u64 = vm.vcpus.iter().filter_map(of).sum();
    ensure!(on_cpu > 0, "no CPU time of the guest is seen");
    let interface = vm.interfaces.iter().any(|interface| &*interface.name == INTERFACE);
    ensure!(
        interface == network_namespaces,
        "the interface in another network namespace is seen: {interface}"
    );
    Ok(format!("at level full, {} ms on a CPU, its interface: {interface}", on_cpu / 1_000_000))
}
