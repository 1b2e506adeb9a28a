//! Guests whose fates differ: one fights with itself for a CPU, one is content, one rests now and then.

use std::time::Duration;

use anyhow::Context as _;

use super::counted::{Object, Snapshot};
use crate::guest::{Ending, Guest, GuestConfig};
use crate::host::{CpuList, Disk, Tap, dd};
use crate::oracle::{Controller, Group, Hierarchy};
use crate::runner::Context;
use crate::vmm::Load;

/// The guest that starves: two busy vCPUs on one CPU. Its name is of the kind that breaks exporters.
pub(super) const STARVED: &str =
    "fight \"; drop' \\ {a=\"b\"}\n# näch\u{301}ste Zeile 東京 \u{1f980}\u{202e}";
/// The starved guest's interface.
const INTERFACE: &str = "hvs-delivery";
/// The guest with a busy vCPU, which goes first.
pub(super) const BUSY: &str = "busy";
/// The guest that rests now and then; tests kill it.
pub(super) const HALF: &str = "half";

/// The starved guest's disk, and the control group that it has to itself. Its interface is in a network
/// namespace of its own.
struct Devices {
    disk: Disk,
    group: Group,
}

/// The running guests.
pub(super) struct Guests {
    devices: Devices,
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
        let disk = Disk::fast(context.directory())?;
        let group = Group::create(Hierarchy::find(Controller::Io)?)?;
        let starved = {
            // It inherits the interface, which nobody else is to hold.
            let _tap = Tap::create(INTERFACE)?;
            start(STARVED, 2, Load::Busy, *first, 0)?
        };
        group.add_process(starved.pid())?;
        Ok(Self {
            devices: Devices { disk, group },
            starved,
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

    /// Reads from the disk for the starved guest; whether a snapshot has that, and the guest's interface.
    pub(super) fn have_devices(&self, snapshot: &Snapshot) -> bool {
        let Devices { disk, group } = &self.devices;
        let starved = snapshot.vms.iter().find(|vm| vm.pid() == Some(self.starved.pid().into()));
        let has = |list: &str| starved.is_some_and(|vm| vm.list(list).is_ok_and(|list| !list.is_empty()));
        let are_seen = has("disks") && has("interfaces") && has("devices");
        let read = format!("if={} of=/dev/null bs=4k count=8 iflag=direct", disk.path().display());
        if let Err(error) = dd(Some(group), &read) {
            eprintln!("the starved guest's disk cannot be read: {error:#}");
        }
        are_seen
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
