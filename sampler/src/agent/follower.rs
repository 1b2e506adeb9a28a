//! A source and those who name its guests, kept in step.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use crate::{
    collect::{enrich::Enricher, wait_readable},
    model::{Snapshot, VmKey},
    source::{GuestFacts, Kvm, Levels, SourceError, TaskFacts},
};

/// Time between two looks while vCPUs or names are awaited.
const STEP: Duration = Duration::from_millis(10);

/// What is asked away from the sampling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// What a guest's platform calls it.
    Guest(VmKey),
    /// What a process of the host is called.
    Task(u32),
}

/// What came back; nothing where it could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a guest.
    Guest(Option<GuestFacts>),
    /// Of a process.
    Task(Option<TaskFacts>),
}

/// Follows births and deaths, and takes snapshots.
pub struct Follower {
    source: Kvm,
    enricher: Enricher<Question, Answer>,
}

impl Follower {
    /// Follows a source; `ask` answers, in kind, and may block.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(
        source: Kvm,
        ask: impl Fn(Question) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self { source, enricher: Enricher::start(ask)? })
    }

    /// Takes in births, deaths and names for so long, or until the first of them came.
    pub fn follow(&mut self, at_most: Duration) {
        if let Err(error) = wait_readable(self.source.as_fd(), at_most) {
            tracing::error!(%error, "waiting for lifecycle events");
            std::thread::sleep(at_most);
        }
        self.source.drain();
        self.exchange();
    }

    /// Follows until this moment.
    pub fn follow_until(&mut self, end: Instant) {
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.follow(left);
        }
    }

    /// Follows until so many vCPUs are known and every guest has been named, for so long at most.
    ///
    /// A vCPU thread shows itself when it is inside its ioctl at a switch or at a walk. One that was busy in the
    /// VMM's user space at the first walk will be found by one of the next.
    ///
    /// # Errors
    /// When the kernel's threads cannot be walked over.
    pub fn settle(&mut self, vcpus: usize, at_most: Duration) -> Result<(), SourceError> {
        let end = Instant::now() + at_most;
        self.exchange();
        while (self.source.vcpus() < vcpus || self.source.awaits_facts()) && Instant::now() < end {
            self.source.look()?;
            self.follow(STEP);
        }
        Ok(())
    }

    /// Sets how much is told of guests.
    pub fn set_levels(&mut self, levels: Levels) {
        self.source.set_levels(levels);
    }

    /// Says how long the time between snapshots will be.
    ///
    /// # Errors
    /// When the programs cannot be told.
    pub fn set_interval(&mut self, interval: Duration) -> Result<(), SourceError> {
        self.source.set_interval(interval)
    }

    /// Asks anew what every guest is called.
    pub fn rediscover(&mut self) {
        self.source.vms().into_iter().for_each(|vm| {
            self.enricher.ask(Question::Guest(vm));
        });
    }

    /// Reads every vCPU.
    ///
    /// # Errors
    /// When the kernel's threads cannot be walked over.
    pub fn snapshot(&mut self) -> Result<Snapshot, SourceError> {
        self.snapshot_after(Duration::ZERO)
    }

    /// The same, with the names of all processes in it, as far as they come within this time.
    ///
    /// # Errors
    /// When the kernel's threads cannot be walked over.
    pub fn snapshot_after(&mut self, patience: Duration) -> Result<Snapshot, SourceError> {
        self.exchange();
        self.source.read()?;
        self.exchange();
        let end = Instant::now() + patience;
        while self.enricher.waiting() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            self.exchange();
        }
        let mut snapshot = self.source.compose();
        snapshot.sampler.questions_refused = self.enricher.refused();
        snapshot.sampler.questions_waiting = self.enricher.waiting();
        Ok(snapshot)
    }

    fn exchange(&mut self) {
        for vm in self.source.take_unidentified() {
            // The next full discovery asks again where this does not.
            self.enricher.ask(Question::Guest(vm));
        }
        for pid in self.source.take_unnamed() {
            if !self.enricher.ask(Question::Task(pid)) {
                self.source.unnamed_still(pid);
            }
        }
        for answered in self.enricher.answers() {
            match answered {
                (Question::Guest(vm), Answer::Guest(Some(facts))) => self.source.identify(vm, facts),
                // What was known before stays true.
                (Question::Guest(vm), _) if self.source.is_identified(vm) => {}
                (Question::Guest(vm), _) => self.source.identify(vm, GuestFacts::default()),
                (Question::Task(pid), Answer::Task(facts)) => self.source.name_task(pid, facts),
                (Question::Task(pid), Answer::Guest(_)) => self.source.name_task(pid, None),
            }
        }
    }
}
