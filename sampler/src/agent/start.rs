//! From nothing to a source that samples.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::{BpfLog, Follower};
use crate::{
    collect::{Collector, platform, procfs::ProcFs},
    kernel::{
        Root, capability,
        check::{CheckItem, CheckStatus},
        clock::Clock,
        host, limits, lockdown, namespace,
    },
    load::{self, Options},
    model::VmKey,
    source::{GuestFacts, Kvm},
};

/// What stands in the way for certain, asked before the kernel answers with nothing more than a number.
const OBSTACLES: &[fn(&Root) -> CheckItem] = &[capability::check_bpf, lockdown::check, namespace::check_pid];

/// Loads the programs, attaches them and finds the vCPUs that run already.
///
/// # Errors
/// Says which privilege, kernel feature, map or hook is missing, and how to get it.
pub fn start(bpf_log_level: u8) -> Result<(Follower, BpfLog)> {
    let root = Root::system();
    for item in OBSTACLES.iter().map(|check| check(&root)) {
        if item.status == CheckStatus::Fail {
            let fix = item.fix.map(|fix| format!("; {fix}")).unwrap_or_default();
            bail!("{}: {}{fix}", item.name, item.detail);
        }
    }
    limits::lift_memlock();
    let mut loaded = load::load(options(bpf_log_level)).context("starting the eBPF half")?;
    let bpf_log = BpfLog::start(&mut loaded.ebpf, bpf_log_level)?;
    let host = Arc::new(host::read(&root)?);
    let source = Kvm::start(Collector::new(loaded)?, host, Clock::start())?;
    Ok((Follower::new(source, identify)?, bpf_log))
}

/// What the programs are loaded with on this host.
#[must_use]
pub fn options(log_level: u8) -> Options {
    Options { log_level, pid_max: limits::pid_max(), possible_cpus: limits::possible_cpus() }
}

/// May block for as long as the guest's process hangs.
fn identify(vm: VmKey) -> Option<GuestFacts> {
    let facts = match ProcFs::system().facts(vm.pid, vm.start_boottime_ns) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::debug!(%error, pid = vm.pid, "a guest's process does not tell who it is");
            return None;
        }
    };
    let identity = platform::identify(&facts);
    Some(GuestFacts {
        platform: identity.platform.value,
        name: identity.name.map(|name| name.value),
        uuid: identity.uuid.map(|uuid| uuid.value),
    })
}
