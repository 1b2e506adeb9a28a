//! What one interval says about a host.

use std::sync::Arc;

use super::{
    attribution::{Attributed, Share},
    blocked::BlockedTimes,
    co_stop::CoStop,
    counted::Counters,
    disk::Disk,
    distribution::Distributions,
    exits::Exits,
    facts::{Fact, Facts},
    helper::Helpers,
    identity::{Origin, VcpuId, VmKey},
    interface::Interface,
    kvm::{KvmCounts, KvmVcpu, KvmVm},
    level::Level,
    memory::Memory,
    state::StateTimes,
};

/// The host that the sampler runs on; read once at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `/etc/machine-id`, or absent where there is none.
    pub id: Option<String>,
    /// The host's name.
    pub name: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// Machine architecture in OpenTelemetry's words (`amd64`, `arm64`).
    pub arch: String,
    /// Physical CPUs that are online.
    pub cpus: u32,
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
    /// The VMs that live, ordered by key.
    pub vms: Vec<Vm>,
    /// vCPUs that ended since the snapshot before: their series are to be closed.
    pub ended: Vec<Ended>,
    /// What the sampler says of itself.
    pub sampler: SamplerStats,
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
    /// The disks that have served it, ordered by device. Of several VMs of a process, and where its control
    /// group is not its own, none.
    pub disks: Vec<Disk>,
    /// The network interfaces that serve it, ordered. Of several VMs of a process the first has them.
    pub interfaces: Vec<Interface>,
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

/// How one of the [`SamplerStats`] moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    UpDown,
}

/// One of the [`SamplerStats`], for exporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerRow {
    /// Name in JSON.
    pub name: &'static str,
    /// Name of its metric, where that is not the same.
    pub dotted: Option<&'static str>,
    /// Unit in UCUM's words.
    pub unit: &'static str,
    /// One sentence for the documentation.
    pub help: &'static str,
    /// How it moves.
    pub kind: SamplerKind,
    /// Its value.
    pub value: u64,
}

impl SamplerRow {
    /// Name of its metric below `hypervisor.sampler.`, and the metric's unit: a time that is counted in ns is
    /// exported in seconds, and no unit is in a name.
    #[must_use]
    pub fn metric(&self) -> (&'static str, &'static str) {
        match (self.dotted, self.name.strip_suffix("_ns")) {
            (Some(name), _) => (name, self.unit),
            (None, Some(time)) => (time, "s"),
            (None, None) => (self.name, self.unit),
        }
    }
}

macro_rules! sampler_stats {
    ($($(#[doc = $help:literal])+ $kind:ident $name:ident $(as $dotted:literal)?, $unit:literal;)*) => {
        /// What the sampler counts of itself since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct SamplerStats { $($(#[doc = $help])+ pub $name: u64,)* }

        impl SamplerStats {
            /// One row for each, in order.
            #[must_use]
            pub fn rows(&self) -> Vec<SamplerRow> {
                vec![$(SamplerRow {
                    name: stringify!($name),
                    dotted: [$($dotted,)?].first().copied(),
                    unit: $unit,
                    help: concat!($($help),+).trim_ascii(),
                    kind: SamplerKind::$kind,
                    value: self.$name,
                },)*]
            }
        }
    };
}

sampler_stats! {
    /// Snapshots taken.
    Counter snapshots, "{snapshot}";
    /// Walks over threads, of the whole host or of the VMMs alone: one for each snapshot, and up to two more
    /// for threads that it could not read.
    Counter walks, "{walk}";
    /// Threads visited by those walks. One that several of them visited counts as often.
    Counter walked_threads, "{thread}";
    /// Switches of vCPU threads that the scheduler program recorded.
    Counter vcpu_switches, "{switch}";
    /// Threads announced as vCPUs.
    Counter threads_announced, "{thread}";
    /// vCPU threads that ended.
    Counter threads_gone, "{thread}";
    /// Ends that were found by a walk and not by an event.
    Counter gone_by_walk, "{thread}";
    /// Lifecycle events that did not fit into the ring buffer.
    Counter events_lost, "{event}";
    /// Switches of a thread whose pid still named an earlier thread's slot.
    Counter stale_slots, "{switch}";
    /// Switches of vCPU threads that the kernel made without calling the scheduler program.
    Counter missed_switches, "{switch}";
    /// Moves of waiting vCPU threads to another CPU for which the kernel called no program.
    Counter missed_moves, "{move}";
    /// Switches of vCPU threads that were not recorded, on CPUs of which the kernel did not say that they may
    /// come online.
    Counter switches_on_unknown_cpus, "{switch}";
    /// Processes that lost their entry in the totals of a CPU's time to another.
    Counter occupants_displaced, "{process}";
    /// vCPU threads that had no slot at a snapshot, while no memory for more was being made.
    Counter slots_exhausted, "{thread}";
    /// Times that memory for slots, 1,024 at a time, could not be had.
    Counter segments_failed, "{segment}";
    /// vCPU threads that have no slot because 4,096 of their process have one.
    Counter slots_capped, "{thread}";
    /// Slots in use.
    UpDown slots_used, "{slot}";
    /// Readings whose parts came to more than their whole: states to more than the wall time, or parts of CPU
    /// time to more than the run time, by more than 50 microseconds; or halt polls by more than a
    /// millisecond. An excess that lasts is counted once.
    Counter negative_remainders, "{reading}";
    /// Counters that were found lower than before and were held.
    Counter counter_regressions, "{reading}";
    /// Runs of the scheduler program, and of those at entries and exits, that the kernel skipped because they
    /// were running already.
    Counter recursion_misses, "{run}";
    /// Begins and ends of KVM_RUN that were not observed, because another thread had been preempted in that
    /// program on the same CPU, as can happen from Linux 7.0 on: until the next hook the time was taken for
    /// what came before.
    Counter preemption_misses, "{run}";
    /// Ends of disk requests, of guests and of others, that the kernel did not report, because they came in
    /// an interrupt while another was being reported on the same CPU.
    Counter requests_missed, "{request}";
    /// VMs whose disk requests are not counted: no control group of the io controller is theirs alone.
    UpDown disks_uncounted, "{vm}";
    /// Disk requests of guests that were not counted: there was no room for one more disk of a guest.
    Counter requests_untracked, "{request}";
    /// Entries into a guest and exits from it without the other: their time was counted as the kernel's, or
    /// estimated.
    Counter unpaired, "{event}";
    /// VMs of which not every exit was timed from then on, because they left their guests too often.
    Counter levels_lowered, "{vm}";
    /// VMs that are at level sampled because they left their guests too often.
    UpDown vms_lowered, "{vm}";
    /// VMs that are followed and not shown, because the settings leave them out.
    UpDown vms_left_out, "{vm}";
    /// vCPU threads that another thread replaced in running the same vCPU.
    Counter threads_replaced, "{thread}";
    /// Times that a thread which runs a vCPU was seen to run another one.
    Counter threads_turned, "{thread}";
    /// Descriptors visited in search of vCPUs that do not run.
    Counter looked_files, "{descriptor}";
    /// Descriptors of vCPUs that a look found and had no room for: that a vCPU has ended while its thread
    /// lives on is not known then.
    Counter vcpu_files_dropped, "{descriptor}";
    /// Threads that a walk could not read because they switched at each attempt.
    Counter walk_torn, "{reading}";
    /// Helper threads that a walk found and had no room for.
    Counter helpers_dropped, "{reading}";
    /// Questions to a guest's platform that found the queue full.
    Counter questions_refused, "{question}";
    /// Questions to a guest's platform that wait for their answer: one that stays is a VMM that hangs.
    UpDown questions_waiting, "{question}";
    /// Files in which platforms keep what they know of guests, and which did not answer in time.
    Counter files_unanswered, "{file}";
    /// Snapshots of which all was read more than 100 ms after they were due.
    Counter snapshots_late, "{snapshot}";
    /// Snapshots that were left out because the one before was not over when they were due.
    Counter snapshots_skipped, "{snapshot}";
    /// Snapshots that could not be taken because the source could not be read.
    Counter snapshots_failed, "{snapshot}";
    /// Time from the moment at which snapshots were due until all was read of them, added up.
    Counter lateness_ns, "ns";
    /// The same of the last snapshot alone.
    UpDown last_lateness_ns, "ns";
    /// Snapshots that table, JSON lines, export or another sink dropped because it was behind, added up over
    /// them.
    Counter snapshots_dropped, "{snapshot}";
    /// Sinks that panicked and get no more snapshots.
    Counter sinks_failed, "{sink}";
    /// Lines of the sampler's log that were dropped: nobody read those before, or they could not be written.
    Counter log_lines_dropped, "{line}";
    /// vCPUs of which a snapshot's numbers were compared with what the kernel says by another way.
    Counter audit_checks as "audit.checks", "{vcpu}";
    /// Those of them of which a number was not what the kernel says. The log has both.
    Counter audit_mismatches as "audit.mismatches", "{vcpu}";
    /// vCPUs that were chosen for that and could not be compared: they ended, or the time was missed.
    Counter audit_skips as "audit.skips", "{vcpu}";
}
