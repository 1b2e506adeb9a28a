//! From nothing to a source that samples.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    BpfLog, Follower,
    follower::{Answer, Question},
};
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
    source::{GuestFacts, Kvm, KvmGuest, Levels, TaskFacts, telling_unit},
};

/// What stands in the way for certain, asked before the kernel answers with nothing more than a number.
const OBSTACLES: &[fn(&Root) -> CheckItem] = &[capability::check_bpf, lockdown::check, namespace::check_pid];

/// How long vCPUs are waited for that /proc knows of and no walk has seen inside KVM yet, and guests that do not say
/// who they are: the first snapshot is to be whole, but a paused guest or a hung one must not keep it for ever.
const SETTLE: Duration = Duration::from_secs(1);

/// Fails where a privilege or a kernel feature is missing that nothing can do without.
///
/// # Errors
/// Says what is missing, and how to get it.
pub fn obstacles() -> Result<()> {
    let root = Root::system();
    for item in OBSTACLES.iter().map(|check| check(&root)) {
        if item.status == CheckStatus::Fail {
            let fix = item.fix.map(|fix| format!("; {fix}")).unwrap_or_default();
            bail!("{}: {}{fix}", item.name, item.detail);
        }
    }
    Ok(())
}

/// Loads the programs, attaches them, and finds the vCPUs that run already and the names of their guests. Takes a
/// second at most when some of them do not show themselves.
///
/// # Errors
/// Says which privilege, kernel feature, map or hook is missing, and how to get it.
pub fn start(bpf_log_level: u8, levels: Levels) -> Result<(Follower, BpfLog)> {
    obstacles()?;
    let root = Root::system();
    limits::lift_memlock();
    let mut loaded = load::load(options(bpf_log_level)).context("starting the eBPF half")?;
    let bpf_log = BpfLog::start(&mut loaded.ebpf, bpf_log_level)?;
    let host = Arc::new(host::read(&root)?);
    let mut source = Kvm::start(Collector::new(loaded)?, host, Clock::start())?;
    source.set_levels(levels);
    let mut follower = Follower::new(source, answer)?;
    follower.settle(vcpus_of_proc(), SETTLE)?;
    Ok((follower, bpf_log))
}

/// vCPUs that `/proc` knows of, as far as this process may see.
fn vcpus_of_proc() -> usize {
    ProcFs::system().scan().map_or(0, |scan| scan.guests.iter().map(|guest| guest.vcpu_ids.len()).sum())
}

/// What the programs are loaded with on this host.
#[must_use]
pub fn options(log_level: u8) -> Options {
    Options { log_level, pid_max: limits::pid_max(), possible_cpus: limits::possible_cpus() }
}

fn answer(question: Question) -> Answer {
    match question {
        Question::Guest(vm) => Answer::Guest(identify(vm)),
        Question::Task(pid) => Answer::Task(name_task(pid)),
    }
}

/// `None` of a process that has ended meanwhile, as most that are asked about late have.
fn name_task(pid: u32) -> Option<TaskFacts> {
    let name = ProcFs::system().task_name(pid).ok()?;
    Some(TaskFacts { comm: name.comm, unit: name.cgroup.as_deref().and_then(telling_unit) })
}

/// May block for as long as the guest's process hangs.
fn identify(vm: VmKey) -> Option<GuestFacts> {
    let KvmGuest { pid, start_boottime_ns, .. } = KvmGuest::of(vm);
    let facts = match ProcFs::system().facts(pid, start_boottime_ns) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::debug!(%error, pid, "a guest's process does not tell who it is");
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
