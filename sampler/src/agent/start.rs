//! From nothing to a source that samples.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{BpfLog, Driver};
use crate::{
    collect::{Collector, procfs::ProcFs},
    kernel::{
        Root, calls, capability,
        check::{CheckItem, CheckStatus},
        clock::Clock,
        host, limits, lockdown, namespace, priority, proc_mount,
    },
    load::{self, Loaded, Options},
    model::{Host, HostParts, Levels},
    source::{Kvm, Settings, Source},
};

/// What stands in the way for certain, asked before the kernel answers with nothing more than a number.
const OBSTACLES: &[fn(&Root) -> CheckItem] =
    &[proc_mount::check, capability::check_bpf, lockdown::check, namespace::check_pid, namespace::check_time];

/// What the sampler shows less without.
const SHORTCOMINGS: &[fn(&Root) -> CheckItem] =
    &[proc_mount::check, capability::check_discovery, calls::check_descriptors, namespace::check_cgroup];

/// The same where other network namespaces are to be entered.
const SHORTCOMING_OF_NAMESPACES: fn(&Root) -> CheckItem = calls::check_namespaces;

/// How long vCPUs are waited for that are there and were not seen inside KVM yet, and guests that do not say
/// who they are: the first snapshot is to be whole, but a paused guest or a hung one must not keep it for
/// ever.
pub const SETTLE: Duration = Duration::from_secs(1);

/// How to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// Level of the eBPF programs' messages; 0 is none.
    pub bpf_log_level: u8,
    /// Time between snapshots.
    pub interval: Duration,
    /// How much is sampled of guests.
    pub levels: Levels,
    /// Which parts of the host are read.
    pub host: HostParts,
    /// Nice value of the calling thread while it starts.
    pub nice: i32,
}

/// One kind of source.
pub struct Opener<F> {
    /// Whose guests it samples: `hypervisor.name` of the resource.
    pub hypervisor: &'static str,
    /// Opens the source.
    pub open: F,
}

/// The source of this host.
pub const SOURCE: Opener<fn(&StartOptions) -> Result<Opened>> = Opener { hypervisor: Kvm::HYPERVISOR, open };

/// A source that was just opened.
pub struct Opened {
    /// The source.
    pub source: Box<dyn Source>,
    /// vCPUs that there are, as far as this process may see; the source finds them one by one.
    pub vcpus: usize,
    /// The hooks that are attached, and the way of each. Those that come with guests are not among them.
    pub hooks: Vec<String>,
    /// Carries the messages of the source's programs.
    pub bpf_log: BpfLog,
}

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

/// What this process will show less without, each as `check` has it.
#[must_use]
pub fn shortcomings(network_namespaces: bool) -> Vec<CheckItem> {
    let root = Root::system();
    let of_namespaces = network_namespaces.then_some(&SHORTCOMING_OF_NAMESPACES);
    let items = SHORTCOMINGS.iter().chain(of_namespaces).map(|check| check(&root));
    items.filter(|item| item.status == CheckStatus::Warn).collect()
}

/// Loads the programs and attaches them; [`obstacles`] are asked about before, by whoever still sees what it may.
/// The calling thread has a priority of its own meanwhile: on a host
/// whose CPUs are scarce the kernel's check of the programs would take minutes. What privileges are for
/// loading is needed here and never again.
///
/// # Errors
/// Says which privilege, kernel feature, map or hook is missing, and how to get it.
pub fn load(options: &StartOptions) -> Result<Loaded> {
    limits::lift_memlock();
    limits::lift_descriptors();
    let programs = self::options(options.bpf_log_level);
    priority::with(options.nice, || load::load(programs)).context("starting the eBPF half")
}

/// Opens a source on programs that are loaded.
///
/// # Errors
/// Says which map is missing, or what kept the source from its first look.
pub fn begin(mut loaded: Loaded, options: &StartOptions) -> Result<Opened> {
    let bpf_log = BpfLog::start(loaded.messages.take()).context("carrying the eBPF programs' messages")?;
    let host = Arc::new(Host { hypervisor: Some(SOURCE.hypervisor), ..host::read(&Root::system())? });
    let hook = |attached: &load::Attached| format!("{} ({})", attached.hook, attached.way.label());
    let hooks = loaded.attached.iter().map(hook).collect();
    let source = priority::with(options.nice, || -> Result<_> {
        let mut source = Kvm::start(Collector::new(loaded)?, host, Clock::start())?;
        let StartOptions { interval, levels, host, .. } = *options;
        source.configure(Settings { interval, levels, host })?;
        Ok(source)
    })?;
    Ok(Opened { source: Box::new(source), vcpus: vcpus_of_proc(), hooks, bpf_log })
}

/// Loads the programs and opens a source on them.
///
/// # Errors
/// Those of [`obstacles`], [`load()`] and [`begin`].
pub fn open(options: &StartOptions) -> Result<Opened> {
    obstacles()?;
    begin(load(options)?, options)
}

/// Finds the vCPUs that run already and the names of their guests. Takes a second at most when some of them
/// do not show themselves.
///
/// # Errors
/// When the source cannot look for vCPUs, or no thread can be started.
pub fn settle(opened: Opened, nice: i32) -> Result<(Driver, BpfLog)> {
    let Opened { source, vcpus, bpf_log, .. } = opened;
    let mut driver = Driver::new(source)?;
    priority::with(nice, || driver.settle(vcpus, SETTLE))?;
    Ok((driver, bpf_log))
}

/// Opens the source and lets it settle.
///
/// # Errors
/// Those of [`open`] and [`settle`].
pub fn start(options: &StartOptions) -> Result<(Driver, BpfLog)> {
    settle(open(options)?, options.nice)
}

/// vCPUs that `/proc` knows of, as far as this process may see.
fn vcpus_of_proc() -> usize {
    ProcFs::system().scan().map_or(0, |scan| scan.guests.iter().map(|guest| guest.vcpu_ids.len()).sum())
}

/// What the programs are loaded with on this host.
#[must_use]
pub fn options(log_level: u8) -> Options {
    Options { log_level, possible_cpus: limits::possible_cpus() }
}
