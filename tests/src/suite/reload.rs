//! KVM's modules come, go and come again while the sampler runs.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::command::check::Report;
use hvsampler::kernel::Root;
use hvsampler::load::{HOOKS, When};
use hvsampler::model::KvmStat;
use hvsampler::model::{Level, State};
use hvsampler::source::{Kvm, Levels};
use rustix::io::Errno;
use rustix::system::{delete_module, finit_module};

use super::sampler;
use super::states::{interval_of, threads_of};
use crate::guest::{Ending, Guest, GuestConfig};
use crate::runner::{Context, LAB_MODULES, Outcome};
use crate::vmm::Load;

/// Time for the test.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(4);
/// Time within which KVM's hooks, once they are attached, have been called for a vCPU that exits often.
const OBSERVED_WITHIN: Duration = Duration::from_millis(500);
/// What the modules' users may take to be gone: detached hooks are freed after a grace period.
const PATIENCE: Duration = Duration::from_secs(10);
/// In the order in which they are loaded.
const MODULES: [&str; 2] = ["kvm", "kvm_amd"];

/// A sampler that was started on a host without KVM observes all of a guest once there is one, lets the
/// modules go with it, and observes all of the next guest, which runs on modules that were loaded anew.
pub(super) fn while_we_sample(context: &Context) -> anyhow::Result<Outcome> {
    unload(|| {})?;
    without_kvm_all_waits()?;
    let mut source = sampler::start()?;
    // However often its guest exits on a fast machine.
    source.set_levels(Levels { most: Level::Full, max_exits: u64::MAX });
    source.snapshot()?;
    let mut seen = Vec::new();
    for round in 0..2 {
        MODULES.into_iter().try_for_each(load)?;
        seen.push(judge_a_guest(context, &mut source).with_context(|| format!("load {}", round + 1))?);
        // As the sampling thread does when the ring has news.
        unload(|| source.drain())?;
    }
    MODULES.into_iter().try_for_each(load)?;
    sampler::nothing_lost(&source.snapshot()?.sampler)?;
    Ok(Outcome::Passed(seen.join("; then ")))
}

/// `hvsampler check` says of a host without KVM what the service does there: it waits.
fn without_kvm_all_waits() -> anyhow::Result<()> {
    let root = Root::system();
    let report = Report::of(&root)?.with_hooks(&root);
    let waits = report.items.iter().filter(|item| item.detail.starts_with("kvm is not loaded")).count();
    let of_kvm = HOOKS.iter().filter(|hook| hook.when == When::Guests).count();
    ensure!(report.can_work() && waits == of_kvm, "{waits} of {of_kvm} hooks wait: {:?}", report.items);
    Ok(())
}

/// Follows a guest from its start to its end.
fn judge_a_guest(context: &Context, source: &mut Kvm) -> anyhow::Result<String> {
    let guest = Guest::start(&context.binary("tiny-vmm")?, &GuestConfig::new("reloaded", 1, Load::Io))?;
    let thread = threads_of(&guest)[0];
    sampler::follow(source, &[thread])?;
    thread::sleep(OBSERVED_WITHIN);
    source.snapshot()?;
    thread::sleep(INTERVAL);
    let snapshot = source.snapshot()?;
    let vm =
        snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(thread.pid)).context("the guest is missing")?;
    ensure!(vm.level() == Some(Level::Full), "at level {:?}", vm.level());
    let interval = interval_of(&snapshot, thread)?;
    super::modes::add_up(&interval)?;
    let in_guest = interval.states.get(State::Guest).context("time in the guest was not observed")?;
    ensure!(in_guest > 0 && interval.states.get(State::Run).is_none(), "not all was observed: {interval:?}");
    let counted =
        interval.kvm.and_then(|kvm| kvm.get(KvmStat::Exits)).context("KVM's counts were not read")?;
    let counts = vm.exits().iter().filter(|(_, exits)| exits.count > 0);
    let reasons: Vec<String> =
        counts.map(|(kind, exits)| format!("{} {}", exits.count, kind.reason)).collect();
    ensure!(!reasons.is_empty() && counted > 0, "{counted} exits, with the reasons {reasons:?}");
    guest.end(Ending::Killed)?;
    Ok(format!(
        "{:.1} % in the guest, {}",
        in_guest as f64 * 100.0 / interval.run_ns as f64,
        reasons.join(", ")
    ))
}

fn load(module: &str) -> anyhow::Result<()> {
    let path = Path::new(LAB_MODULES).join(format!("{module}.ko"));
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    finit_module(file, c"", 0).with_context(|| format!("{} cannot be loaded", path.display()))
}

/// Takes the modules out, as soon as their last users are gone; `meanwhile` is done again and again.
fn unload(mut meanwhile: impl FnMut()) -> anyhow::Result<()> {
    for module in MODULES.into_iter().rev() {
        let name = CString::new(module)?;
        let end = Instant::now() + PATIENCE;
        meanwhile();
        while let Err(error) = delete_module(&name, libc::O_NONBLOCK) {
            let users = || fs::read_to_string(format!("/sys/module/{module}/refcnt")).unwrap_or_default();
            let is_in_use = error == Errno::AGAIN || error == Errno::BUSY;
            ensure!(
                is_in_use && Instant::now() < end,
                "{module} cannot be unloaded: {error}, {} users",
                users().trim()
            );
            thread::sleep(Duration::from_millis(10));
            meanwhile();
        }
    }
    Ok(())
}
