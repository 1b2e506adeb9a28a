//! What snapshots say of a guest's own control group is what its files say.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use hvsampler::model::{MEMORY_EVENTS, Pressure, RESOURCES, Resource, STALLED, Stalled, Vm};
use hvsampler::source::{Kvm, Question, Source as _};

use super::super::sampler;
use super::super::states::threads_of;
use crate::guest::{Guest, GuestConfig};
use crate::host::CpuList;
use crate::oracle::{Controller, Group, Hierarchy, OracleError, StallTotals};
use crate::runner::{Context, Outcome};
use crate::vmm::Load;

/// So little that the shell and what it runs are over it.
const LITTLE: &str = "131072";
/// Readings until one finds the memory of a guest that stands still to stand still.
const READINGS: u32 = 50;

/// Groups of version 2 and of the memory controller, which may be the same.
struct Groups {
    memory: Group,
    unified: Option<Group>,
}

impl Groups {
    fn create() -> anyhow::Result<Self> {
        let memory = Group::create(Hierarchy::find(Controller::Memory)?)?;
        let unified = if memory.is_unified() { None } else { Some(Group::create(Hierarchy::unified()?)?) };
        Ok(Self { memory, unified })
    }

    fn unified(&self) -> &Group {
        self.unified.as_ref().unwrap_or(&self.memory)
    }

    fn add(&self, guest: &Guest) -> anyhow::Result<()> {
        self.memory.add_process(guest.pid())?;
        Ok(self.unified().add_process(guest.pid())?)
    }

    /// Runs a script in the group of version 2, on one CPU.
    fn run(&self, script: &str) -> anyhow::Result<()> {
        let cpu = CpuList::allowed().context("cannot read the allowed CPUs")?.numbers()[0];
        let script = format!("echo $$ > {}/cgroup.procs && {script}", self.unified().path().display());
        let done = Command::new("taskset").args(["-c", &cpu.to_string(), "sh", "-c", &script]).output()?;
        ensure!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    fn counted(&self) -> anyhow::Result<Counted> {
        Counted::of(self.unified())
    }
}

/// What the files of a group of version 2 say.
struct Counted {
    pressure: BTreeMap<&'static str, StallTotals>,
    events: BTreeMap<String, u64>,
}

impl Counted {
    fn of(group: &Group) -> anyhow::Result<Self> {
        let mut pressure = BTreeMap::new();
        for resource in RESOURCES {
            match StallTotals::of(&group.path().join(format!("{}.pressure", resource.key))) {
                Ok(totals) => {
                    pressure.insert(resource.key, totals);
                }
                // The kernel has none of it.
                Err(OracleError::Read { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let events = fs::read_to_string(group.path().join("memory.events")).unwrap_or_default();
        let events = events.lines().map(|line| -> anyhow::Result<(String, u64)> {
            let (event, count) = line.split_once(' ').context("no count of an event")?;
            Ok((event.to_owned(), count.parse()?))
        });
        Ok(Self { pressure, events: events.collect::<anyhow::Result<_>>()? })
    }

    /// A total of pressure, ns.
    fn stalled_ns(&self, resource: &str, stalled: Stalled) -> Option<u64> {
        let totals = self.pressure.get(resource)?;
        let total = match stalled {
            Stalled::AtLeastOne => totals.some,
            Stalled::All => totals.full,
        };
        Some(total? * 1000)
    }
}

/// Its only vCPU, which sleeps, is where its thread was last.
fn is_placed(vm: &Vm, guest: &Guest) -> anyhow::Result<()> {
    let tid = guest.tids()[0];
    let stat = fs::read_to_string(format!("/proc/{}/task/{tid}/stat", guest.pid()))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    // Field 39 is the processor, and the first one behind the name is field 3.
    let cpu = fields.split_ascii_whitespace().nth(39 - 3).context("no processor in stat")?;
    let links = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}"))?;
    let nodes =
        links.filter_map(|link| link.ok()?.file_name().to_str()?.strip_prefix("node")?.parse::<u32>().ok());
    let expected: Vec<u32> = nodes.collect();
    let at: Vec<_> = vm.placement.iter().filter(|at| at.vcpus > 0).map(|at| (at.node, at.vcpus)).collect();
    // A kernel without NUMA has no nodes.
    let expected: Vec<_> = expected.into_iter().map(|node| (node, 1)).collect();
    ensure!(at == expected, "its vCPU is at {expected:?}, by us at {at:?}");
    Ok(())
}

/// A guest whose group is short of a CPU, and of memory where the group can be given little. What was added
/// is what the files say that was added; memory by node is what they say.
pub(super) fn as_the_kernel_counts(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let groups = Groups::create()?;
    let guest = Guest::start(&binary, &GuestConfig::new("grouped", 1, Load::Halt))?;
    groups.add(&guest)?;
    let outside = Guest::start(&binary, &GuestConfig::new("outside", 1, Load::Halt))?;
    for root in [Hierarchy::find(Controller::Memory)?, Hierarchy::unified()?] {
        fs::write(root.root().join("cgroup.procs"), outside.pid().to_string())?;
    }
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[threads_of(&guest), threads_of(&outside)].concat())?;

    let begin = [groups.counted()?, {
        read(&mut source, &guest)?;
        groups.counted()?
    }];
    groups.run("(dd if=/dev/zero of=/dev/null bs=1M count=2000 & dd if=/dev/zero of=/dev/null bs=1M count=2000; wait)")?;
    let has_events = !begin[0].events.is_empty();
    if has_events {
        fs::write(groups.memory.path().join("memory.high"), LITTLE)?;
        groups.run("exec dd if=/dev/zero of=/dev/null bs=256k count=1")?;
        fs::write(groups.memory.path().join("memory.high"), "max")?;
    }
    let before = groups.counted()?;
    let vm = read(&mut source, &guest)?;
    let end = [before, groups.counted()?];
    is_placed(&vm, &guest)?;

    let times = match &vm.control_group {
        Some(group) => {
            let times = pressure(&group.pressure, &begin, &end)?;
            events(&group.events, &begin, &end)?;
            times
        }
        None => 0,
    };
    ensure!((times > 0) != begin[0].pressure.is_empty(), "{times} times of {:?}", begin[0].pressure);
    let nodes = numa(&mut source, &guest, &groups)?;
    let other = read(&mut source, &outside)?;
    ensure!(other.control_group.is_none() && other.numa.is_empty(), "a guest among others: {other:?}");
    let again = source.snapshot()?;
    let again = of(&again.vms, &guest)?;
    ensure!(again.control_group.is_none_or(|group| !group.is_new), "a reading is new once");
    ensure!(again.numa.iter().all(|node| !node.is_new), "a reading is new once");
    Ok(Outcome::Passed(format!(
        "{times} times of pressure, {nodes} nodes, as the kernel counts; events of memory: {has_events}"
    )))
}

/// A group that two guests are in is nobody's. When one of them leaves, the other's counts begin then.
pub(super) fn of_several_guests(context: &Context) -> anyhow::Result<Outcome> {
    let binary = context.binary("tiny-vmm")?;
    let (shared, own) = (Groups::create()?, Groups::create()?);
    let one = Guest::start(&binary, &GuestConfig::new("one", 1, Load::Halt))?;
    let other = Guest::start(&binary, &GuestConfig::new("other", 1, Load::Halt))?;
    shared.add(&one)?;
    own.add(&other)?;
    let mut source = sampler::start()?;
    sampler::follow(&mut source, &[threads_of(&one), threads_of(&other)].concat())?;
    let begin = read(&mut source, &one)?;
    let is_counted = !shared.counted()?.pressure.is_empty();
    ensure!(begin.control_group.is_some() == is_counted, "{:?}", begin.control_group);
    ensure!(read(&mut source, &other)?.control_group.is_some() == is_counted, "the other has its own");

    shared.add(&other)?;
    for guest in [&one, &other] {
        let vm = read(&mut source, guest)?;
        ensure!(vm.control_group.is_none() && vm.numa.is_empty(), "both are in it: {vm:?}");
    }
    let uncounted = source.snapshot()?.sampler.groups_uncounted;
    ensure!(uncounted >= 2, "{uncounted} guests are without a group of their own");

    own.add(&other)?;
    let since = |vm: &Vm| vm.control_group.map(|group| group.since_unix_ns);
    let (alone, moved) = (read(&mut source, &one)?, read(&mut source, &other)?);
    ensure!((since(&alone).is_some(), since(&moved).is_some()) == (is_counted, is_counted), "{alone:?}");
    ensure!(!is_counted || since(&alone) > since(&begin), "its counts go on: {alone:?}");
    ensure!(source.snapshot()?.sampler.counters_fell == 0, "nothing has fallen");
    Ok(Outcome::Passed(format!("nobody's while two are in it; there is pressure: {is_counted}")))
}

/// Has all groups read; what the next snapshot has of a guest.
fn read(source: &mut Kvm, guest: &Guest) -> anyhow::Result<Vm> {
    let ask = source.answerer();
    for vm in source.vms() {
        source.answer(ask(Question::Group(vm)));
    }
    let snapshot = source.snapshot()?;
    Ok(of(&snapshot.vms, guest)?.clone())
}

fn of<'v>(vms: &'v [Vm], guest: &Guest) -> anyhow::Result<&'v Vm> {
    vms.iter().find(|vm| vm.origin.pid() == Some(guest.pid())).context("the guest is missing")
}

/// What was added lies between the differences of the readings around both ends. Returns how many times there
/// are.
fn pressure(ours: &Pressure, begin: &[Counted; 2], end: &[Counted; 2]) -> anyhow::Result<usize> {
    let all = [Resource::Cpu, Resource::Memory, Resource::Io, Resource::Irq];
    let mut times = 0;
    for resource in all {
        for stalled in [Stalled::AtLeastOne, Stalled::All] {
            let key = RESOURCES[resource as usize].key;
            let of = |counted: &Counted| counted.stalled_ns(key, stalled);
            let what = || format!("{key} {}", STALLED[stalled as usize].key);
            match (ours.get(resource, stalled), of(&begin[0]), of(&begin[1]), of(&end[0]), of(&end[1])) {
                (Some(ours), Some(first), Some(begun), Some(before), Some(last)) => {
                    let range = before - begun..=last - first;
                    ensure!(range.contains(&ours), "{}: {ours} ns, the kernel has {range:?}", what());
                    times += 1;
                }
                (None, None, None, None, None) => {}
                other => anyhow::bail!("{}: {other:?}", what()),
            }
        }
    }
    let short = ours.get(Resource::Cpu, Stalled::AtLeastOne);
    ensure!(short.is_none_or(|ns| ns > 0), "two of the group had one CPU, and none waited");
    Ok(times)
}

/// Nothing happens around the readings: the differences are equal.
fn events(ours: &[Option<u64>], begin: &[Counted; 2], end: &[Counted; 2]) -> anyhow::Result<()> {
    let (begin, end) = (&begin[1].events, &end[0].events);
    for (event, ours) in MEMORY_EVENTS.iter().zip(ours) {
        let theirs = begin.get(event.key).zip(end.get(event.key)).map(|(begin, end)| end - begin);
        ensure!(*ours == theirs, "{}: {ours:?}, the kernel has {theirs:?}", event.key);
        ensure!(event.key != "high" || theirs.is_none_or(|high| high > 0), "it was never over memory.high");
    }
    Ok(())
}

/// Memory by node equals the file, which stands still between two looks sooner or later. Returns how many
/// nodes there are.
fn numa(source: &mut Kvm, guest: &Guest, groups: &Groups) -> anyhow::Result<usize> {
    let path = groups.memory.path().join("memory.numa_stat");
    let file = || fs::read_to_string(&path).unwrap_or_default();
    for _ in 0..READINGS {
        let before = file();
        let vm = read(source, guest)?;
        if file() != before {
            continue;
        }
        let ours: BTreeMap<u32, u64> = vm.numa.iter().map(|node| (node.node, node.bytes)).collect();
        let theirs = by_node(&before, groups.memory.is_unified())?;
        ensure!(ours == theirs, "{ours:?}, the kernel has {theirs:?}: {before}");
        ensure!(before.is_empty() || !ours.is_empty(), "there is a node at least: {before}");
        return Ok(ours.len());
    }
    anyhow::bail!("the memory of a guest that does nothing never stands still")
}

/// Anonymous memory and files in bytes (version 2), or all pages (version 1).
fn by_node(text: &str, is_unified: bool) -> anyhow::Result<BTreeMap<u32, u64>> {
    let mut nodes = BTreeMap::new();
    let (rows, bytes): (&[&str], _) =
        if is_unified { (&["anon ", "file "], 1) } else { (&["hierarchical_total="], 4096) };
    for row in text.lines().filter(|line| rows.iter().any(|row| line.starts_with(row))) {
        for field in row.split(' ').filter(|field| field.starts_with('N')) {
            let (node, number) = field[1..].split_once('=').context("no number of a node")?;
            *nodes.entry(node.parse()?).or_default() += number.parse::<u64>()? * bytes;
        }
    }
    Ok(nodes)
}
