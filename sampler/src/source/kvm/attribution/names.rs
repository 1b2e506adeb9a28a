//! Who those are that take time: VMs by the registry, other processes and kernel threads by what `/proc`
//! calls them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sampler_ebpf::abi::{WHO_KERNEL, WHO_PID, WHO_VCPU, Who};

use super::super::identity::KvmGuest;
use super::{
    account::{Named, unattributed},
    table::RawOccupant,
};
use crate::{
    collect::procfs::is_login,
    model::{Occupant, OccupantKind},
    source::TaskFacts,
};

/// Processes whose names are remembered at a time.
const MAX_NAMES: usize = 4096;
/// Snapshots for which a name is remembered that nobody asks for: its process may have ended, and its id be
/// another's.
const KEPT: u64 = 6;
/// The same for kernel threads, which stay.
const KEPT_KERNEL: u64 = 360;
/// Snapshots after which a name is asked for anew: a process may have become another program.
const FRESH: u64 = 60;

#[derive(Clone, Debug)]
struct KnownTask {
    /// Absent until the answer comes, and where there is none.
    facts: Option<TaskFacts>,
    kernel: bool,
    /// Snapshot in which somebody wanted it last.
    wanted: u64,
    /// Snapshot in which it was asked for.
    asked: u64,
}

/// The names of processes, asked for as they are needed.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct TaskNames {
    named: BTreeMap<u32, KnownTask>,
    unasked: Vec<u32>,
    round: u64,
}

impl TaskNames {
    /// Forgets whom nobody asked for lately.
    pub(in super::super) fn next_round(&mut self) {
        self.round += 1;
        let round = self.round;
        self.named.retain(|_, named| named.wanted + if named.kernel { KEPT_KERNEL } else { KEPT } >= round);
    }

    /// What a process is called. Where it is not known yet it is asked for.
    fn get(&mut self, who: Who) -> Option<&TaskFacts> {
        let (pid, kernel, round) = (who & WHO_PID, who & WHO_KERNEL != 0, self.round);
        if !self.named.contains_key(&pid) && self.named.len() >= MAX_NAMES {
            return None;
        }
        let unknown = KnownTask { facts: None, kernel, wanted: round, asked: u64::MAX };
        let named = self.named.entry(pid).or_insert(unknown);
        if named.asked == u64::MAX || (!kernel && named.asked + FRESH <= round) {
            named.asked = round;
            self.unasked.push(pid);
        }
        named.wanted = round;
        named.facts.as_ref()
    }

    /// Asks for the name of whoever will be named soon.
    pub(in super::super) fn want(&mut self, raw: RawOccupant, vms: &VmsByPid) {
        if let RawOccupant::Process(who) = raw
            && who & WHO_VCPU == 0
            && !vms.contains_key(&(who & WHO_PID))
        {
            self.get(who);
        }
    }

    /// The question could not be asked: the next snapshot asks it again.
    pub(in super::super) fn refused(&mut self, pid: u32) {
        self.named.remove(&pid);
    }

    /// Processes whose names are to be asked for since the last call.
    pub(in super::super) fn take_unasked(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unasked)
    }

    /// What a process is called, or that it is gone.
    pub(in super::super) fn answer(&mut self, pid: u32, facts: Option<TaskFacts>) {
        if let Some(named) = self.named.get_mut(&pid) {
            named.facts = facts;
        }
    }
}

/// A VM that may be an occupant.
#[derive(Clone, Debug)]
pub(in super::super) struct KnownVm {
    /// Its key.
    pub(in super::super) key: KvmGuest,
    /// Identity in exported series, if it was shown.
    pub(in super::super) id: Option<Arc<str>>,
    /// What the platform calls it.
    pub(in super::super) name: Option<Arc<str>>,
    /// It has ended since the snapshot before.
    pub(in super::super) ended: bool,
}

/// All VMs by process. Of a process that runs several the first stands for all: who had a CPU is known by
/// process.
pub(in super::super) type VmsByPid = BTreeMap<u32, KnownVm>;

/// Who a raw is to the VM that it took time from.
pub(in super::super) fn name(
    raw: RawOccupant,
    victim: KvmGuest,
    vms: &VmsByPid,
    names: &mut TaskNames,
) -> Named {
    let who = match raw {
        RawOccupant::Process(who) => who,
        RawOccupant::Idle => return other(OccupantKind::Kernel, Some("wake-up")),
        RawOccupant::ForcedIdle => return other(OccupantKind::ForcedIdle, None),
        RawOccupant::Others(mark) => return others(mark),
        RawOccupant::Nobody => return unattributed(None),
    };
    let pid = who & WHO_PID;
    if who & WHO_KERNEL == 0 {
        return match vms.get(&pid) {
            Some(vm) => of_vmm(vm, victim, who & WHO_VCPU != 0),
            // A vCPU of a VM that is not known any more.
            None if who & WHO_VCPU != 0 => other(OccupantKind::Vm, None),
            None => other(
                OccupantKind::Host,
                names.get(who).map(|facts| facts.unit.as_ref().unwrap_or(&facts.comm).as_str()),
            ),
        };
    }
    let Some(facts) = names.get(who) else { return other(OccupantKind::Kernel, None) };
    if let Some(vm) = served(&facts.comm).and_then(|pid| vms.get(&pid)) {
        return of_vmm(vm, victim, false);
    }
    let kind = if is_interrupt(&facts.comm) { OccupantKind::Irq } else { OccupantKind::Kernel };
    other(kind, Some(stem(&facts.comm)))
}

/// Those that are known by their kind alone.
fn others(mark: Who) -> Named {
    match mark {
        WHO_VCPU => other(OccupantKind::Vm, Some("others")),
        WHO_KERNEL => other(OccupantKind::Kernel, Some("others")),
        _ => other(OccupantKind::Host, Some("others")),
    }
}

fn of_vmm(vm: &KnownVm, victim: KvmGuest, vcpu: bool) -> Named {
    if vm.key.pid == victim.pid && !vcpu {
        return other(OccupantKind::Helper, None);
    }
    let occupant = Occupant { kind: OccupantKind::Vm, id: vm.id.clone(), name: vm.name.clone() };
    Named { occupant, vm: (!vm.ended).then_some(vm.key) }
}

fn other(kind: OccupantKind, name: Option<&str>) -> Named {
    Named { occupant: Occupant { kind, id: None, name: name.map(Arc::from) }, vm: None }
}

/// The VMM that a kernel thread works for: `vhost-PID` before 6.4, `kvm-pit/PID`.
fn served(comm: &str) -> Option<u32> {
    ["vhost-", "kvm-pit/"].iter().find_map(|prefix| comm.strip_prefix(prefix)?.parse().ok())
}

/// Softirqs that were put off, and threaded interrupt handlers.
fn is_interrupt(comm: &str) -> bool {
    comm.starts_with("ksoftirqd/") || comm.starts_with("irq/")
}

/// Kernel threads that differ in nothing but their CPU are one: `kworker/0:1-events` is `kworker`.
fn stem(comm: &str) -> &str {
    comm.split_once('/').map_or(comm, |(stem, _)| stem)
}

/// The unit of a control group, with all that it is in but slices: containers and managers of their own, in
/// which there may be units of the same name. Within one manager a unit's name says all, whatever its slice.
///
/// Units that are a login or the system itself say less than the command.
pub fn unit_of(cgroup: &str) -> Option<String> {
    const UNITS: [&str; 4] = [".service", ".scope", ".socket", ".mount"];
    let is_unit = |part: &&str| UNITS.iter().any(|unit| part.ends_with(unit));
    let parts: Vec<&str> = cgroup.split('/').filter(|part| !part.is_empty()).collect();
    let at = parts.iter().rposition(is_unit)?;
    let unit = parts[at];
    if is_login(unit) {
        return None;
    }
    let is_in = |part: &&&str| !part.ends_with(".slice");
    let path: Vec<&str> = parts[..at].iter().filter(is_in).copied().chain([unit]).collect();
    Some(path.join("/"))
}

/// The processes of these VMs.
pub(in super::super) fn by_pid(vms: impl Iterator<Item = KnownVm>) -> VmsByPid {
    let mut by_pid = VmsByPid::new();
    let mut seen = BTreeSet::new();
    for vm in vms {
        if seen.insert(vm.key.pid) {
            by_pid.insert(vm.key.pid, vm);
        }
    }
    by_pid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: u32) -> KvmGuest {
        KvmGuest { pid, start_boottime_ns: 1, nth: 0 }
    }

    fn vms() -> VmsByPid {
        let vm = |pid, ended| KnownVm {
            key: key(pid),
            id: Some(format!("id-{pid}").into()),
            name: Some(format!("vm-{pid}").into()),
            ended,
        };
        by_pid([vm(10, false), vm(11, false), vm(12, true)].into_iter())
    }

    fn ask(who: Who, comm: &str, unit: Option<&str>) -> (OccupantKind, Option<Arc<str>>, Option<Arc<str>>) {
        let mut names = TaskNames::default();
        name(RawOccupant::Process(who), key(10), &vms(), &mut names);
        for pid in names.take_unasked() {
            names.answer(pid, Some(TaskFacts { comm: comm.into(), unit: unit.map(Into::into) }));
        }
        let Occupant { kind, id, name } =
            name(RawOccupant::Process(who), key(10), &vms(), &mut names).occupant;
        (kind, id, name)
    }

    #[test]
    fn each_is_called_what_it_is() {
        let (id, name) = (Some("id-11".into()), Some("vm-11".into()));
        assert_eq!(ask(11 | WHO_VCPU, "", None), (OccupantKind::Vm, id.clone(), name.clone()));
        assert_eq!(ask(11, "", None), (OccupantKind::Vm, id.clone(), name.clone()), "another VM's helper");
        assert_eq!(ask(10, "", None), (OccupantKind::Helper, None, None));
        assert_eq!(ask(10 | WHO_VCPU, "", None).0, OccupantKind::Vm, "a sibling");
        assert_eq!(ask(99 | WHO_VCPU, "", None), (OccupantKind::Vm, None, None), "gone");
        assert_eq!(ask(5, "cc1", None), (OccupantKind::Host, None, Some("cc1".into())));
        assert_eq!(ask(5, "cc1", Some("build.service")).2, Some("build.service".into()));
        let forced =
            super::name(RawOccupant::ForcedIdle, key(10), &vms(), &mut TaskNames::default()).occupant;
        assert_eq!((forced.kind, forced.name), (OccupantKind::ForcedIdle, None));
        let kernel = |comm| ask(5 | WHO_KERNEL, comm, None);
        assert_eq!(kernel("kworker/0:1-events"), (OccupantKind::Kernel, None, Some("kworker".into())));
        assert_eq!(kernel("ksoftirqd/1").0, OccupantKind::Irq);
        assert_eq!(kernel("vhost-11"), (OccupantKind::Vm, id, name));
        assert_eq!(kernel("vhost-10").0, OccupantKind::Helper);
        assert_eq!(kernel("vhost-77"), (OccupantKind::Kernel, None, Some("vhost-77".into())));
    }

    #[test]
    fn a_vm_that_ended_is_named_but_gets_no_series() {
        let ended = name(RawOccupant::Process(12), key(10), &vms(), &mut TaskNames::default());
        assert_eq!((ended.occupant.name.as_deref(), ended.vm), (Some("vm-12"), None));
    }

    #[test]
    fn units_that_say_something() {
        assert_eq!(unit_of("/system.slice/cron.service"), Some("cron.service".into()));
        assert_eq!(unit_of("/system.slice/system-a.slice/a@1.service"), Some("a@1.service".into()));
        assert_eq!(unit_of("/system.slice/docker-0a.scope/init"), Some("docker-0a.scope".into()));
        assert_eq!(unit_of("/user.slice/user-0.slice/session-3.scope"), None);
        assert_eq!(unit_of("/"), None);
    }

    #[test]
    fn units_of_the_same_name_in_several_control_groups_are_several() {
        let named = [
            ("/system.slice/cron.service", "cron.service"),
            ("/lxc/101/ns/system.slice/cron.service", "lxc/101/ns/cron.service"),
            ("/lxc/102/ns/system.slice/cron.service", "lxc/102/ns/cron.service"),
            (
                "/machine.slice/machine-a.scope/payload/system.slice/cron.service",
                "machine-a.scope/payload/cron.service",
            ),
            ("/user.slice/user-7.slice/user@7.service/app.slice/cron.service", "user@7.service/cron.service"),
        ];
        for (cgroup, name) in named {
            assert_eq!(unit_of(cgroup).as_deref(), Some(name));
        }
    }

    #[test]
    fn names_are_asked_for_once_and_forgotten_when_nobody_asks() {
        let mut names = TaskNames::default();
        assert_eq!(names.get(5), None);
        assert_eq!(names.get(5), None);
        assert_eq!(names.take_unasked(), [5]);
        names.refused(5);
        assert_eq!(names.get(5), None);
        assert_eq!(names.take_unasked(), [5], "it is asked for again");
        names.answer(5, Some(TaskFacts { comm: "x".into(), unit: None }));
        for _ in 0..KEPT {
            names.next_round();
        }
        assert!(names.get(5).is_some());
        for _ in 0..=KEPT {
            names.next_round();
        }
        assert_eq!(names.get(5), None);
        assert_eq!(names.take_unasked(), [5]);
        (0..10_000).for_each(|pid| assert_eq!(names.get(pid), None));
        assert_eq!(names.take_unasked().len(), MAX_NAMES - 1);
    }
}
