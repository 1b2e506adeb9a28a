//! The interval is kept and no guest is missing, however many VMMs there are, and whatever one of them or a
//! platform's files do. What is counted is judged; how late snapshots are is printed.

mod directory;
mod many;
mod sleeper;

use std::time::Duration;

use anyhow::ensure;
use hvsampler::model::{Fact, Snapshot, Vm};

use super::agent::Agent;
use super::sampler;
use crate::runner::{Need, Set, Test};

/// Time for one of these tests.
const LIMIT: Duration = Duration::from_secs(240);

/// The tests of it. Who waits for a file system that hangs keeps others of the host waiting, so the lab has
/// none of them.
pub(super) const TESTS: &[Test] = &[
    Test {
        name: "rhythm.of-many-vmms",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf],
        limit: LIMIT,
        run: many::vmms,
    },
    Test {
        name: "rhythm.with-a-vmm-that-sleeps-uninterruptibly",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf, Need::Fuse],
        limit: LIMIT,
        run: sleeper::a_vmm,
    },
    Test {
        name: "rhythm.with-a-directory-that-hangs",
        sets: &[Set::Native],
        needs: &[Need::Kvm, Need::Bpf, Need::Fuse],
        limit: LIMIT,
        run: directory::of_libvirt,
    },
];

/// Looks at so many snapshots in a row, none of which may be left out, and says how late they were.
fn watch(
    agent: &Agent,
    snapshots: u64,
    mut look: impl FnMut(&Snapshot) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let first = agent.next()?.sampler;
    let (mut last, mut late) = (first, Vec::new());
    for _ in 0..snapshots {
        let snapshot = agent.next()?;
        look(&snapshot)?;
        last = snapshot.sampler;
        late.push(Duration::from_nanos(last.last_lateness_ns));
    }
    sampler::nothing_lost(&last)?;
    let added = [
        ("were taken", last.snapshots - first.snapshots, snapshots),
        ("were skipped", last.snapshots_skipped - first.snapshots_skipped, 0),
        ("failed", last.snapshots_failed - first.snapshots_failed, 0),
    ];
    for (what, counted, expected) in added {
        ensure!(counted == expected, "of {snapshots} snapshots {counted} {what}");
    }
    ensure!(last.questions_refused == 0, "there was no room for {} questions", last.questions_refused);
    let mean = late.iter().sum::<Duration>() / u32::try_from(late.len().max(1))?;
    let most = late.into_iter().max().unwrap_or_default();
    Ok(format!(
        "{snapshots} snapshots in a row, late by {:.1} ms, {:.1} ms at most",
        mean.as_secs_f64() * 1e3,
        most.as_secs_f64() * 1e3
    ))
}

/// The VM of a process.
fn of_process(snapshot: &Snapshot, pid: u32) -> Option<&Vm> {
    snapshot.vms.iter().find(|vm| vm.origin.pid() == Some(pid))
}

/// Whether a process's VM is shown under this name.
fn is_named(snapshot: &Snapshot, pid: u32, name: &str) -> bool {
    let vm = of_process(snapshot, pid);
    vm.and_then(|vm| vm.facts.get(Fact::Name)).is_some_and(|known| &**known == name)
}
