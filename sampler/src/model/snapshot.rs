//! What one interval says about a host.

use std::sync::Arc;

use super::{
    attached::Attached,
    attribution::{Attributed, Share},
    blocked::BlockedTimes,
    co_stop::CoStop,
    control_group::{ControlGroup, NumaNode},
    counted::{COUNTERS, Counters},
    disk::Disk,
    distribution::Distributions,
    exits::Exits,
    facts::{Fact, Facts},
    helper::Helpers,
    host_state::HostState,
    identity::{Origin, VcpuId, VmKey},
    interface::Interface,
    kvm::{KvmCounts, KvmVcpu, KvmVm},
    level::Level,
    memory::Memory,
    placement::NodeVcpus,
    program::ProgramRuns,
    state::StateTimes,
    statistics::SamplerStats,
};
use crate::kept::kept;

/// The host that the sampler runs on; read at the start, and again with the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `/etc/machine-id`, or absent where there is none.
    pub id: Option<String>,
    /// The host's name.
    pub name: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Version of the operating system: `VERSION_ID` of its os-release. Absent where it has none, as rolling
    /// releases do.
    pub os_version: Option<String>,
    /// Build of the operating system: `BUILD_ID` of its os-release. Most have none.
    pub os_build: Option<String>,
    /// Machine architecture in OpenTelemetry's words (`amd64`, `arm64`).
    pub arch: String,
    /// Physical CPUs that are online.
    pub cpus: u32,
    /// Whose guests are sampled (`kvm`): the source says so.
    pub hypervisor: Option<&'static str>,
}

/// One interval's picture of the host. Cumulative values count from the creation of each thread.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken, Unix time in ns.
    pub at_unix_ns: u64,
    /// Time since the snapshot before, ns; 0 for the first.
    pub interval_ns: u64,
    /// When its reading was begun, by `CLOCK_BOOTTIME` in ns: nothing in it is older, but for vCPUs without
    /// an interval.
    pub read_boottime_ns: u64,
    /// The host.
    pub host: Arc<Host>,
    /// What the host does beside its guests, once that was read.
    pub host_state: Option<HostState>,
    /// The VMs that live, ordered by key.
    pub vms: Vec<Vm>,
    /// vCPUs that ended since the snapshot before: their series are to be closed.
    pub ended: Vec<Ended>,
    /// What the sampler says of itself.
    pub sampler: SamplerStats,
    /// What the source's programs cost; those that are loaded. None where a source has no programs.
    pub programs: Arc<[ProgramRuns]>,
}

impl Snapshot {
    /// The vCPUs that ended, as a snapshot that has nothing else.
    #[must_use]
    pub fn ended_vcpus(&self) -> Self {
        self.of_ended(self.ended.iter())
    }

    /// The VMs that ended, as a snapshot that has nothing else.
    #[must_use]
    pub fn ended_vms(&self) -> Self {
        self.of_ended(self.ended.iter().filter(|ended| ended.vm_gone))
    }

    fn of_ended<'a>(&self, ended: impl Iterator<Item = &'a Ended>) -> Self {
        Self { at_unix_ns: self.at_unix_ns, vms: ended.map(Ended::last).collect(), ..Self::default() }
    }
}

/// One VM.
#[derive(Clone, Debug, Default)]
pub struct Vm {
    /// Identity on this host.
    pub key: VmKey,
    /// Where it comes from.
    pub origin: Origin,
    /// Identity in exported series; it never changes while the VM lives.
    pub id: Arc<str>,
    /// What is known of it; the platform always is, if only as unknown.
    pub facts: Arc<Facts>,
    /// When its VMM's process, or its domain, was created, Unix time in ns.
    pub start_unix_ns: u64,
    /// Time since then, ns.
    pub uptime_ns: u64,
    /// Distributions of its vCPUs together, those that ended included.
    pub distributions: Distributions,
    /// What KVM alone knows of it; absent where it is no guest of KVM.
    pub kvm: Option<KvmVm>,
    /// When the first of its vCPUs was seen running, Unix time in ns: the start of its distributions, of what
    /// KVM counts, of `attributed`, of `blocked`, of `counters`, of `co_stop` and of `helpers`.
    pub seen_unix_ns: u64,
    /// Who took its vCPUs' time; of vCPUs that ended, up to their last reading.
    pub attributed: Attributed,
    /// Who took how much of it in the interval, the one that took most first; sums to the steal of its vCPUs'
    /// intervals. Absent where no vCPU has an interval.
    pub shares: Option<Arc<[Share]>>,
    /// Time in which its vCPUs were in state blocked, by why; of vCPUs that ended, up to their last reading.
    pub blocked: BlockedTimes,
    /// What the kernel counted of its vCPUs' threads, by [`super::Counter`]; as `blocked`.
    pub counters: Counters,
    /// Time in which some of its vCPUs ran while others waited for a CPU.
    pub co_stop: CoStop,
    /// The threads that work for it and run no vCPU.
    pub helpers: Helpers,
    /// The memory of its VMM's process, once that was read. Of several VMs of a process the first has it.
    pub memory: Option<Memory>,
    /// Its own control group, once that was read; where it has none, and of several VMs of a process, none.
    pub control_group: Option<ControlGroup>,
    /// What that has of each NUMA node, ordered.
    pub numa: Vec<NumaNode>,
    /// The disks that have served it, ordered by device. Of several VMs of a process, and where its control
    /// group is not its own, none.
    pub disks: Vec<Disk>,
    /// The network interfaces that serve it, ordered. Of several VMs of a process the first has them.
    pub interfaces: Vec<Interface>,
    /// The devices that its VMM holds for it, and where they are seen; ordered. Of several VMs of a process
    /// the first has them.
    pub attached: Arc<[Attached]>,
    /// Its vCPUs by the host's NUMA nodes, each node that has CPUs; ordered.
    pub placement: Vec<NodeVcpus>,
    /// Its vCPUs, ordered by index and thread.
    pub vcpus: Vec<Vcpu>,
}

impl Vm {
    /// Its vCPUs, one for each number. Where two threads served the same vCPU it is the younger: two series
    /// with the same attributes would contradict each other, and the thread that set the vCPU up is the
    /// older.
    pub fn vcpus_by_index(&self) -> impl Iterator<Item = &Vcpu> {
        let same = self.vcpus.chunk_by(|a, b| a.index == b.index);
        same.filter_map(|same| same.iter().max_by_key(|vcpu| (vcpu.start_unix_ns, vcpu.id)))
    }

    /// The name that the platform gave the guest, where one is known.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.facts.get(Fact::Name)
    }

    /// The UUID that the platform gave the guest, where one is known.
    #[must_use]
    pub fn uuid(&self) -> Option<&Arc<str>> {
        self.facts.get(Fact::Uuid)
    }

    /// What KVM has counted of its vCPUs; nothing of a VM that is no guest of KVM.
    #[must_use]
    pub fn kvm_counts(&self) -> &KvmCounts {
        static NONE: KvmCounts = KvmCounts::NONE;
        self.kvm.as_ref().map_or(&NONE, |kvm| &kvm.counts)
    }

    /// Why its vCPUs left the guest; none of a VM that is no guest of KVM.
    #[must_use]
    pub fn exits(&self) -> &Exits {
        static NONE: Exits = Exits::NONE;
        self.kvm.as_ref().map_or(&NONE, |kvm| &kvm.exits)
    }

    /// How much is observed of it; `None` of a VM that is no guest of KVM.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.kvm.as_ref().map(|kvm| kvm.level)
    }
}

/// One vCPU.
#[derive(Clone, Debug, Default)]
pub struct Vcpu {
    /// Identity of the stream.
    pub id: VcpuId,
    /// The thread that runs it, where one of this host does: its id in the initial pid namespace.
    pub tid: Option<u32>,
    /// The vCPU's number as the VMM chose it.
    pub index: u32,
    /// No thread has run it yet: there is nothing that the kernel would count of it.
    pub unused: bool,
    /// The start of the kernel's counts, Unix time in ns: when the thread was created, the first one of
    /// several. Where that one had run another vCPU before, when it was first seen to run this one.
    pub start_unix_ns: u64,
    /// When all states were zero, Unix time in ns: the first reading, or the creation of a thread that was
    /// new then.
    pub followed_unix_ns: u64,
    /// The kernel's times since the thread's creation, with what goes on.
    pub totals: Totals,
    /// Where totals are held because an estimate of what goes on has fallen, until the kernel has counted as
    /// much; 0 of what is not held. As `totals`, without `others`.
    pub held: Totals,
    /// The kernel's cumulative counts, by [`super::Counter`].
    pub counters: Counters,
    /// By how much what the kernel counts of the thread is ahead of the counts here, by [`super::Counter`],
    /// modulo 2^64. Zero unless the thread has run another vCPU, or this one was run by another thread.
    pub others: Counters,
    /// CPU time that the kernel has not yet added to its count, ns; non-zero only while on a CPU.
    pub running_ns: u64,
    /// Length of the wait that is going on, which the kernel counts when it ends, ns.
    pub waiting_ns: u64,
    /// Wall time of the thread by state since `followed_unix_ns`.
    pub states: StateTimes,
    /// Time in state blocked since then, by why.
    pub blocked: BlockedTimes,
    /// What KVM alone knows of it; absent where it is no vCPU of KVM.
    pub kvm: Option<KvmVcpu>,
    /// Its distributions since it is followed. A stint and the wait before it are added when the stint ends.
    pub distributions: Arc<Distributions>,
    /// The same where the interval began; what it added is the difference.
    pub distributions_before: Arc<Distributions>,
    /// When it was first seen running, Unix time in ns: the start of its distributions and of its exits.
    pub seen_unix_ns: u64,
    /// What the interval added; absent in the first snapshot that has this vCPU.
    pub interval: Option<Interval>,
}

impl Vcpu {
    /// Why it left the guest; never of a vCPU that is none of KVM.
    #[must_use]
    pub fn exits(&self) -> &Exits {
        static NONE: Exits = Exits::NONE;
        self.kvm.as_ref().map_or(&NONE, |kvm| &kvm.exits)
    }

    /// What the interval added to the distributions.
    #[must_use]
    pub fn distributions_added(&self) -> Distributions {
        self.distributions.since(&self.distributions_before)
    }
}

/// The kernel's times of a vCPU's thread since its creation. What goes on and is not yet in the kernel's
/// counts is in them, and they never fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// CPU time, ns.
    pub run_ns: u64,
    /// Run delay, ns.
    pub run_delay_ns: u64,
}

kept! { Totals { run_ns, run_delay_ns } }

/// What one interval added to a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Length on the scheduler's clock between the two readings of this vCPU, ns.
    pub wall_ns: u64,
    /// Run time in the interval, ns: its states that are spent on a CPU.
    pub run_ns: u64,
    /// Run delay in the interval, ns, the part of a wait that goes on included: its states steal and
    /// throttled.
    pub run_delay_ns: u64,
    /// Change of each counter, by [`super::Counter`].
    pub counters: Counters,
    /// Wall time by state; the sum is `wall_ns`.
    pub states: StateTimes,
    /// Time in state blocked, by why.
    pub blocked: BlockedTimes,
    /// What KVM counted in the interval; absent where its counts were not known at both ends.
    pub kvm: Option<KvmCounts>,
}

/// A vCPU that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Identity of its VM in exported series.
    pub vm_id: Arc<str>,
    /// What was known of its VM.
    pub vm_facts: Arc<Facts>,
    /// Identity of the stream.
    pub id: VcpuId,
    /// The thread that ran it, where one of this host did.
    pub tid: Option<u32>,
    /// The vCPU's number as the VMM chose it.
    pub index: u32,
    /// No thread has run it.
    pub unused: bool,
    /// The start of the kernel's counts, Unix time in ns.
    pub start_unix_ns: u64,
    /// When all states were zero, Unix time in ns.
    pub followed_unix_ns: u64,
    /// The kernel's counts at its very last switch, by [`super::Counter`]; where that was not
    /// recorded, those of the last snapshot.
    pub counters: Counters,
    /// The kernel's times at that switch; not less than any snapshot has shown.
    pub totals: Totals,
    /// Which states the series had, with the times of the last snapshot; none for a vCPU that no snapshot has
    /// shown.
    pub states: StateTimes,
    /// The VM ended with it: no vCPU thread of it is left.
    pub vm_gone: bool,
}

kept! {
    Ended {
        vm_id,
        vm_facts,
        id,
        tid,
        index,
        unused,
        start_unix_ns,
        followed_unix_ns,
        counters in COUNTERS,
        totals,
        states,
        vm_gone,
    }
}

impl Ended {
    /// What is known of the vCPU, in what is known of its VM.
    fn last(&self) -> Vm {
        let vcpu = Vcpu {
            id: self.id,
            tid: self.tid,
            index: self.index,
            unused: self.unused,
            start_unix_ns: self.start_unix_ns,
            followed_unix_ns: self.followed_unix_ns,
            seen_unix_ns: self.start_unix_ns,
            counters: self.counters,
            totals: self.totals,
            states: self.states,
            ..Vcpu::default()
        };
        Vm {
            id: self.vm_id.clone(),
            facts: self.vm_facts.clone(),
            start_unix_ns: self.start_unix_ns,
            seen_unix_ns: self.start_unix_ns,
            vcpus: vec![vcpu],
            ..Vm::default()
        }
    }
}
