//! The walks of a reading, in as many passes as it takes to read all.

use std::{collections::BTreeSet, thread, time::Duration};

use super::{
    Kvm,
    helpers::Walked,
    reach::{cheaper, with_unread},
};
use crate::collect::{CollectError, Collector, Reach};

/// Passes of a walk at most.
const PASSES: u32 = 3;

/// Time that a thread has before another pass to get on with what it was read in the middle of: far more than
/// a switch takes.
const PAUSE: Duration = Duration::from_millis(4);

/// When a walk began, by `CLOCK_BOOTTIME` in ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    any: u64,
    /// Its first pass over the whole host, if it had one.
    host: Option<u64>,
}

impl Kvm {
    /// Walks over all threads without reading the vCPUs: only to find those that are not followed yet.
    ///
    /// # Errors
    /// When the walk fails.
    pub fn look(&mut self) -> Result<(), CollectError> {
        self.collector.walk(&Reach::Host)?;
        self.drain();
        self.look_at_files();
        Ok(())
    }

    /// Lets each walk visit the whole host, as where the kernel knows no other way; or no longer.
    pub const fn walk_host_always(&mut self, always: bool) {
        self.host_walks.set_always(always);
    }

    /// Walks, in as many passes as it takes to read all, up to [`PASSES`].
    pub(super) fn walk(&mut self) -> Result<Began, CollectError> {
        // Before anything is read: what is read of one thread is to be of one moment, and descriptors are
        // many.
        self.look_at_files();
        let reach = self.reach();
        let any = self.pass(Collector::walk, &reach)?;
        let mut began = Began { any, host: (reach == Reach::Host).then_some(any) };
        for _ in 1..PASSES {
            let unread = self.slots.threads().filter(|thread| !self.collector.is_read(thread.slot));
            match unread.map(|thread| thread.account.time.is_some()).max() {
                None => break,
                // New threads, which have their slots by now.
                Some(false) => {}
                // Some switched at each attempt to read them, or are in the middle of a switch on a CPU that
                // the host of this host has taken away.
                Some(true) => thread::sleep(PAUSE),
            }
            let reach = self.reach_of_unread();
            let at = self.pass(Collector::pass, &reach)?;
            began.host = began.host.or((reach == Reach::Host).then_some(at));
        }
        Ok(began)
    }

    /// One pass, with the VMs that are known by now marked. Returns when it began, by `CLOCK_BOOTTIME`.
    fn pass(
        &mut self,
        walk: fn(&mut Collector, &Reach) -> Result<(), CollectError>,
        reach: &Reach,
    ) -> Result<u64, CollectError> {
        let changes = self.helpers.mark(self.slots.vms().map(|(key, _)| *key));
        changes.into_iter().for_each(|(pid, is_vmm)| self.collector.mark_vmm(pid, is_vmm));
        let began = self.clock.boottime_ns();
        walk(&mut self.collector, reach)?;
        if *reach == Reach::Host {
            self.host_walks.done(began, self.clock.boottime_ns());
        }
        self.drain();
        Ok(began)
    }

    /// Looks at the descriptors of the whole host with the next reading that is ten seconds after the last
    /// look at it, and not only when it is time.
    pub const fn look_soon(&mut self) {
        self.looks.want_host();
    }

    /// Looks at the descriptors of vCPUs, if it is time. Where that fails there are snapshots all the same.
    fn look_at_files(&mut self) {
        self.looks.want(self.slots.take_turned());
        let vmms = || self.slots.vms().map(|(key, _)| key.pid).collect();
        let vmms = self.collector.visits_processes().then(vmms);
        let began = self.clock.boottime_ns();
        let Some(reach) = self.looks.due(began, vmms) else { return };
        self.looks.done(&reach, began);
        match self.collector.look_at_files(reach) {
            Ok(Some(listed)) => {
                // The threads that it has announced come first: what they run is not idle.
                self.drain();
                if !self.slots.listed(&listed, began).is_empty() {
                    self.looks.want_host();
                }
                self.apply_actions();
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "vCPUs that do not run were not looked for"),
        }
    }

    /// Adds up what the helper threads that the walk listed did.
    pub(super) fn read_helpers(&mut self, began: Began) {
        let walked = Walked {
            records: self.collector.helpers(),
            began_boottime_ns: began.any,
            host_began_boottime_ns: began.host,
        };
        self.stats.counter_regressions += self.helpers.take(walked, &self.slots);
    }

    /// What the first pass of a walk is to visit.
    fn reach(&self) -> Reach {
        let newest = self.slots.vms().map(|(_, vm)| vm.seen_boottime_ns).max();
        if self.host_walks.is_due(self.clock.boottime_ns(), newest) {
            return Reach::Host;
        }
        let vmms = self.slots.vms().map(|(key, _)| key.pid);
        self.reach_of(vmms.chain(self.helpers.workers()).collect())
    }

    /// What a further pass is to visit.
    fn reach_of_unread(&self) -> Reach {
        let unread = self.slots.threads().filter(|thread| !self.collector.is_read(thread.slot));
        self.reach_of(with_unread(unread.map(|thread| thread.vm.pid), self.collector.helpers()))
    }

    fn reach_of(&self, processes: BTreeSet<u32>) -> Reach {
        if self.host_walks.are_all() || !self.collector.visits_processes() {
            return Reach::Host;
        }
        let is_in = |pid: u32| processes.contains(&pid);
        let vcpus = self.slots.threads().filter(|thread| is_in(thread.vm.pid)).count();
        let helpers = self.collector.helpers().iter().filter(|helper| is_in(helper.tgid)).count();
        cheaper(processes, (vcpus + helpers) as u64, self.collector.host_threads())
    }
}
