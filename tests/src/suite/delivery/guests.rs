//! Guests whose fates differ: one fights with itself for a CPU, one is content, one rests now and then.

use std::time::Duration;

use anyhow::Context as _;

use super::counted::{Object, Snapshot};
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::CpuList;
use crate::runner::Context;
use crate::vmm::Load;

/// The guest that starves: two busy vCPUs on one CPU. Its name is of the kind that breaks exporters.
pub(super) const STARVED: &str =
    "fight \"; drop' \\ {a=\"b\"}\n# näch\u{301}ste Zeile 東京 \u{1f980}\u{202e}";
/// The guest with a busy vCPU, which goes first.
pub(super) const BUSY: &str = "busy";
/// The guest that rests now and then; tests kill it.
pub(super) const HALF: &str = "half";

/// The running guests.
pub(super) struct Guests {
    starved: Guest,
    busy: Guest,
    half: Option<Guest>,
}

impl Guests {
    /// Starts them.
    ///
    /// # Errors
    /// When one does not get ready.
    pub(super) fn start(context: &Context) -> anyhow::Result<Self> {
        let binary = context.binary("tiny-vmm")?;
        let cpus = CpuList::allowed().context("the allowed CPUs cannot be read")?;
        let (first, last) = cpus.numbers().first().zip(cpus.numbers().last()).context("no CPU is allowed")?;
        let start = |name, vcpus, load, cpu, nice| -> anyhow::Result<Guest> {
            let cpus = Some(CpuList::one(cpu)?);
            Ok(Guest::start(&binary, &GuestConfig { cpus, nice, ..GuestConfig::new(name, vcpus, load) })?)
        };
        // Ahead of whatever else this machine does, so that the starved one stands out.
        const AHEAD: i32 = -10;
        let half = Load::Half { burn: Duration::from_millis(1), sleep: Duration::from_millis(9) };
        Ok(Self {
            starved: start(STARVED, 2, Load::Busy, *first, 0)?,
            busy: start(BUSY, 1, Load::Busy, *last, AHEAD)?,
            half: Some(start(HALF, 1, half, *last, AHEAD)?),
        })
    }

    /// Whether a snapshot has them all by their names.
    pub(super) fn are_in(&self, snapshot: &Snapshot) -> bool {
        let half = self.half.as_ref().map(|half| (half, HALF));
        [(&self.starved, STARVED), (&self.busy, BUSY)].into_iter().chain(half).all(|(guest, name)| {
            let is_it = |vm: &Object| {
                vm.pid() == Some(guest.pid().into()) && vm.text("hypervisor.vm.name") == Some(name)
            };
            snapshot.vms.iter().any(is_it)
        })
    }

    /// Process id of the starved guest.
    pub(super) fn starved_pid(&self) -> u32 {
        self.starved.pid()
    }

    /// Kills [`HALF`] without warning; returns its process id.
    ///
    /// # Errors
    /// When it has gone already.
    pub(super) fn kill_half(&mut self) -> anyhow::Result<u32> {
        let half = self.half.take().context("it was killed before")?;
        let pid = half.pid();
        half.end(Ending::Killed)?;
        Ok(pid)
    }
}
