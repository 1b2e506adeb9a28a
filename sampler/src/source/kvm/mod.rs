//! KVM: vCPU threads of this host's kernel, from the collector's readings to snapshots.

mod accounts;
mod actions;
mod answers;
mod attribution;
mod carry;
mod co_stop;
mod counted;
mod devices;
mod entries;
mod exits;
mod guests;
mod helpers;
mod hooks;
mod identity;
mod idle;
mod kept;
mod levels;
mod occupants;
mod pass;
mod reach;
mod readings;
mod shown;
mod slots;
mod source;
mod statistics;
mod walk;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use sampler_ebpf::abi::Event;

use self::{
    accounts::{Departed, VmEntry},
    actions::{apply_all, dispatch, lives},
    answers::Answers,
    attribution::names::TaskNames,
    entries::Entries,
    helpers::HelperSums,
    hooks::KvmHooks,
    pass::{GivenUp, Pass},
    reach::{HostWalks, Looks},
    readings::Features,
};
use crate::{
    collect::{CollectError, Collector, host::Nodes},
    kernel::{Root, clock::Clock},
    model::{Ended, Host, Level, Levels, Memory, SamplerStats, Snapshot, Vcpu, Vm, VmKey},
    source::{
        GuestFacts, TaskFacts,
        groups::Groups,
        host::HostReadings,
        io::{Attachments, Disks, Interfaces},
    },
};

pub use self::{
    accounts::Slots,
    attribution::names::unit_of,
    identity::{KvmGuest, ThreadId},
    slots::Action,
};

/// Snapshots that a new VM waits for its platform's facts, so that its series begin under their final
/// identity. Nothing is lost meanwhile: the counts are the kernel's and cumulative.
const PATIENCE: u32 = 2;

/// Time between readings until [`Kvm::set_interval`] is called.
const INTERVAL: Duration = Duration::from_secs(1);

/// The KVM source.
pub struct Kvm {
    collector: Collector,
    slots: Slots,
    clock: Clock,
    host: Arc<Host>,
    last_monotonic_ns: Option<u64>,
    stats: SamplerStats,
    events: Vec<Event>,
    features: Features,
    nodes: Nodes,
    hooks: KvmHooks,
    entries: Entries,
    levels: Levels,
    /// Length of a tick of the timelines as a power of two, ns.
    tick_shift: u32,
    names: TaskNames,
    /// What those who answer questions share.
    answers: Arc<Answers>,
    helpers: HelperSums,
    disks: Disks,
    interfaces: Interfaces,
    attached: Attachments,
    groups: Groups,
    host_state: HostReadings,
    /// A reading was begun, and what the kernel counts of interfaces belongs to it.
    wants_links: bool,
    /// How often what changes slowly was asked.
    slow_rounds: usize,
    host_walks: HostWalks,
    looks: Looks,
    /// When the last reading was taken, Unix time in ns.
    at_unix_ns: u64,
    /// The same by `CLOCK_BOOTTIME`, ns.
    at_boottime_ns: u64,
    /// Time since the reading before it, ns.
    interval_ns: u64,
    /// When the last reading was begun, by `CLOCK_BOOTTIME` in ns.
    read_boottime_ns: u64,
}

impl Kvm {
    /// Whose guests it samples, as the resource of exports calls it.
    pub const HYPERVISOR: &'static str = "kvm";

    /// A source over loaded programs. The first walk announces the vCPUs that run already.
    ///
    /// # Errors
    /// When the walk fails.
    pub fn start(collector: Collector, host: Arc<Host>, clock: Clock) -> Result<Self, CollectError> {
        let slots = Slots::new(collector.slots());
        let mut source = Self {
            features: Features::of(&collector),
            nodes: Nodes::read(&Root::system().path("sys")),
            hooks: KvmHooks::default(),
            entries: Entries::default(),
            levels: Levels { most: Level::Basic, ..Levels::default() },
            tick_shift: 0,
            collector,
            slots,
            clock,
            host,
            last_monotonic_ns: None,
            stats: SamplerStats::default(),
            events: Vec::new(),
            names: TaskNames::default(),
            answers: Arc::default(),
            helpers: HelperSums::default(),
            disks: Disks::default(),
            interfaces: Interfaces::default(),
            attached: Attachments::default(),
            groups: Groups::default(),
            host_state: HostReadings::default(),
            wants_links: false,
            slow_rounds: 0,
            host_walks: HostWalks::default(),
            looks: Looks::default(),
            at_unix_ns: clock.unix_ns(),
            at_boottime_ns: clock.boottime_ns(),
            interval_ns: 0,
            read_boottime_ns: 0,
        };
        source.host_walks.set_alone(!source.collector.switches_report());
        source.set_interval(INTERVAL)?;
        source.look()?;
        Ok(source)
    }

    /// Takes in the births and deaths that wait in the ring.
    pub fn drain(&mut self) {
        if self.collector.take_slots() {
            self.slots.grow(self.collector.slots());
            self.apply_actions();
        }
        let Self { collector, slots, events, hooks, .. } = self;
        collector.drain(|event| events.push(event));
        if !events.is_empty() {
            for event in events.drain(..) {
                dispatch(collector, hooks.kinds(), slots, &event);
                // The next event may be of a thread that has its slot from this one.
                apply_all(collector, slots);
            }
            self.sync_levels();
        }
        self.collector.make_slots(|| self.slots.lacking());
    }

    /// Does to the shared tables what the slots ask for.
    fn apply_actions(&mut self) {
        apply_all(&mut self.collector, &mut self.slots);
    }

    /// Sets how much is observed of VMs. Until it is called for the first time that is [`Level::Basic`].
    pub fn set_levels(&mut self, levels: Levels) {
        if self.levels != levels {
            self.levels = levels;
            self.sync_levels();
        }
    }

    /// Says how long the time between readings will be: the longer, the coarser what is looked at regularly.
    ///
    /// # Errors
    /// When the programs' variable cannot be written.
    pub fn set_interval(&mut self, interval: Duration) -> Result<(), CollectError> {
        self.host_walks.set_interval(interval);
        let shift = co_stop::shift_for(interval);
        if self.tick_shift != shift {
            self.collector.set_tick(shift)?;
            self.tick_shift = shift;
            self.slots.vms_mut().for_each(|(_, vm)| vm.account.co_stop.restart());
        }
        Ok(())
    }

    /// Attaches KVM's hooks while there are guests that are to be observed, and has those observed.
    fn sync_levels(&mut self) {
        let Self { collector, slots, hooks, entries, levels, .. } = self;
        let wanted = levels.most > Level::Basic && slots.slots_used() > 0;
        // Nothing is observed while hooks come and go one by one: an exit without its entry would be taken
        // for a loss.
        if !wanted {
            slots.sync_levels(|_| Level::Basic, |slot, from, to| hooks.observe(collector, slot, from, to));
        }
        let are_attached = hooks.attach_if(wanted, collector);
        if !are_attached {
            entries.reset();
        }
        slots.sync_levels(
            |vm| if are_attached { vm.account.level.level(*levels) } else { Level::Basic },
            |slot, from, to| hooks.observe(collector, slot, from, to),
        );
    }

    /// vCPUs that are known: those whose threads are followed, and those that nobody runs.
    #[must_use]
    pub fn vcpus(&self) -> usize {
        self.slots.threads().count() + self.slots.idle().count()
    }

    /// VMs that are new since the last call: their platform is to be asked.
    pub fn take_unidentified(&mut self) -> Vec<VmKey> {
        self.slots.take_unidentified().into_iter().map(KvmGuest::key).collect()
    }

    /// All VMs: for a full re-discovery.
    #[must_use]
    pub fn vms(&self) -> Vec<VmKey> {
        self.slots.vms().map(|(guest, _)| guest.key()).collect()
    }

    /// Whether a VM still waits for its platform's facts.
    #[must_use]
    pub fn awaits_facts(&self) -> bool {
        self.slots.vms().any(|(_, vm)| vm.facts.is_none())
    }

    /// Whether the platform has said who a VM is.
    #[must_use]
    pub fn is_identified(&self, key: VmKey) -> bool {
        self.slots.vm(KvmGuest::of(key)).is_some_and(|vm| vm.facts.is_some())
    }

    /// What the platform says of a VM.
    pub fn identify(&mut self, key: VmKey, facts: GuestFacts) {
        self.slots.identify(KvmGuest::of(key), facts);
    }

    /// What a VM has of the host's memory.
    pub fn take_memory(&mut self, key: VmKey, memory: Memory) {
        if let Some(vm) = self.slots.vm_mut(KvmGuest::of(key)) {
            vm.account.memory = Some(memory);
        }
    }

    /// The platform of a VM is to be asked once more: what it keeps of it has changed.
    pub fn ask_again(&mut self, key: VmKey) {
        self.slots.ask_again(KvmGuest::of(key));
    }

    /// Processes that took time from a guest and are not known by name: what they are called is to be asked.
    pub fn take_unnamed(&mut self) -> Vec<u32> {
        self.names.take_unasked()
    }

    /// A process could not be asked about: [`Kvm::take_unnamed`] will have it again.
    pub fn unnamed_still(&mut self, pid: u32) {
        self.names.refused(pid);
    }

    /// What a process is called, or that nobody knows.
    pub fn name_task(&mut self, pid: u32, facts: Option<TaskFacts>) {
        self.names.answer(pid, facts);
    }

    /// The collector, for those who compare.
    #[must_use]
    pub const fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The same, for those who read maps.
    pub const fn collector_mut(&mut self) -> &mut Collector {
        &mut self.collector
    }

    /// The slots and whose they are, for those who compare.
    #[must_use]
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The programs, and how they are attached.
    pub const fn loaded(&mut self) -> &mut crate::load::Loaded {
        self.collector.loaded()
    }

    /// Reads every vCPU, and says what came of it.
    ///
    /// # Errors
    /// When the walk fails.
    pub fn snapshot(&mut self) -> Result<Snapshot, CollectError> {
        self.read()?;
        Ok(self.compose())
    }

    /// Reads every vCPU. From then on [`Kvm::take_unnamed`] has the processes that the snapshot will name.
    ///
    /// # Errors
    /// When the walk fails.
    pub fn read(&mut self) -> Result<(), CollectError> {
        self.drain();
        let read_boottime_ns = self.clock.boottime_ns();
        let began = self.walk()?;
        let monotonic_ns = self.clock.monotonic_ns();
        self.read_threads();
        guests::observe_co_stop(&self.collector, &mut self.slots, self.tick_shift);
        let most = if self.hooks.are_attached() { self.levels.most } else { Level::Basic };
        guests::adjust_levels(&mut self.slots, Levels { most, ..self.levels }, &mut self.stats);
        self.sync_levels();
        self.read_helpers(began);
        self.read_disks();
        self.want_links();
        self.stats.snapshots += 1;
        self.interval_ns = self.last_monotonic_ns.map_or(0, |last| monotonic_ns.saturating_sub(last));
        self.last_monotonic_ns = Some(monotonic_ns);
        self.at_unix_ns = self.clock.unix_ns();
        self.at_boottime_ns = self.clock.boottime_ns();
        self.read_boottime_ns = read_boottime_ns;
        self.fix_ids();
        self.want_names();
        Ok(())
    }

    /// The snapshot of the last reading.
    pub fn compose(&mut self) -> Snapshot {
        let departed = self.slots.take_departed();
        self.share_out(&departed);
        let ended = self.ended(departed);
        let vms = self.shown_vms();
        self.interfaces.are_shown();
        for vm in &vms {
            self.groups.is_shown(vm.key);
            let entry = self.slots.vm_mut(KvmGuest::of(vm.key));
            if let Some(memory) = entry.and_then(|entry| entry.account.memory.as_mut()) {
                memory.is_new = false;
            }
        }
        let (sampler, programs) = self.says_of_itself();
        Snapshot {
            at_unix_ns: self.at_unix_ns,
            interval_ns: self.interval_ns,
            read_boottime_ns: self.read_boottime_ns,
            host: Arc::clone(&self.host),
            host_state: self.host_state.shown(),
            vms,
            ended,
            sampler,
            programs,
        }
    }

    /// Reads every thread that the walk found; gives up those that it misses for good.
    fn read_threads(&mut self) {
        self.clock = self.clock.renewed();
        let Self {
            collector, slots, stats, last_monotonic_ns, features, nodes, hooks, entries, clock, ..
        } = self;
        let kinds = hooks.kinds();
        let pass = Pass::new(collector, (features, nodes), kinds, entries, *last_monotonic_ns, *clock);
        let given_up = pass.run(slots, stats);
        let moment = idle::Moment::new(*clock, collector.clock_offset_ns());
        idle::rest_all(slots, moment, features.throttled);
        for (tid, why) in given_up {
            match why {
                GivenUp::Lost => {
                    stats.gone_by_walk += 1;
                    slots.lost(tid, |slot, task| readings::last_counts(collector, slot, task));
                }
                GivenUp::Strange => slots.estranged(tid, clock.boottime_ns(), |thread| {
                    readings::left(collector, hooks.kinds(), thread)
                }),
                GivenUp::MadeAnew => slots.end_vm_of(tid),
            }
        }
        let dead = slots.some_waiting().into_iter().filter(|(tid, pid)| !lives(*pid, *tid));
        dead.for_each(|(tid, _)| slots.dead(tid));
        slots.offer_again(collector.makes_slots());
        self.apply_actions();
    }

    /// Gives the VMs that are to be shown from now on their identities.
    fn fix_ids(&mut self) {
        let nameless = self.slots.vms().filter(|(_, vm)| vm.id.is_none());
        let guests: Vec<_> = nameless.map(|(guest, _)| *guest).collect();
        for key in guests {
            let Some(vm) = self.slots.vm_mut(key) else { continue };
            vm.waited += 1;
            if vm.facts.is_some() || vm.waited > PATIENCE {
                self.slots.fix_id(key);
            }
        }
    }

    fn shown_vms(&mut self) -> Vec<Vm> {
        let mut devices = self.shown_devices();
        let room = |vm: &VmEntry| Vec::with_capacity((vm.threads + vm.idle) as usize);
        let mut vcpus: BTreeMap<KvmGuest, Vec<Vcpu>> =
            self.slots.vms().map(|(guest, vm)| (*guest, room(vm))).collect();
        for thread in self.slots.threads() {
            if let (Some(vcpus), Some(vcpu)) = (vcpus.get_mut(&thread.vm), shown::vcpu(thread, self.clock)) {
                vcpus.push(vcpu);
            }
        }
        for idle in self.slots.idle() {
            if let (Some(vcpus), Some(vcpu)) = (vcpus.get_mut(&idle.vm), idle::vcpu(idle, self.clock)) {
                vcpus.push(vcpu);
            }
        }
        let shown = vcpus.into_iter().filter(|(_, vcpus)| !vcpus.is_empty()).filter_map(|(guest, vcpus)| {
            let entry = self.slots.vm(guest)?;
            let level =
                if self.hooks.are_attached() { entry.account.level.level(self.levels) } else { Level::Basic };
            let devices = devices.remove(&guest.key()).unwrap_or_default();
            let devices = shown::Devices { helpers: self.helpers.of(guest), ..devices };
            shown::vm(guest, entry, level, devices, vcpus, (self.clock, self.at_boottime_ns))
        });
        shown.collect()
    }

    /// vCPUs that ended and whose series were shown.
    fn ended(&mut self, departed: Vec<Departed>) -> Vec<Ended> {
        let clock = self.clock;
        for Departed { thread, .. } in &departed {
            let Some(vm) = self.slots.vm_mut(thread.vm) else { continue };
            if let Some(last) = readings::distributions(&self.collector, thread) {
                vm.account.distributions.add_between(&last, &thread.account.distributions);
            }
            if let Some(exits) = readings::last_exits(&self.collector, self.hooks.kinds(), thread) {
                vm.account.exits.add_all(&exits);
            }
        }
        let idle = self.slots.take_ended_idle().into_iter();
        let threads = departed.into_iter().filter_map(|departed| shown::ended(departed, clock));
        threads.chain(idle.filter_map(|ended| idle::ended(ended, clock))).collect()
    }
}

impl AsFd for Kvm {
    /// Readable when births or deaths wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.collector.as_fd()
    }
}
