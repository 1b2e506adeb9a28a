//! Sources that fill the model, one folder each, and what the agent asks of any of them.
//!
//! A source never waits for anybody: what has to be asked elsewhere, such as the name of a guest, is a
//! [`Question`], which the agent has answered on threads of their own.

#[cfg(test)]
pub(crate) mod fake;
mod groups;
mod host;
mod io;
mod kvm;

use std::{os::fd::BorrowedFd, time::Duration};

use crate::{
    collect::{
        CollectError,
        attached::FoundDevices,
        devices::DiskName,
        network::{FoundInterfaces, Links},
        procfs::GuestGroup,
    },
    model::{Device, Facts, HostParts, HostState, Memory, Snapshot, VmKey},
};

pub use crate::model::Levels;
pub use kvm::{Action, Kvm, KvmGuest, Slots, ThreadId, unit_of};

/// What the sampling thread works with. Every call returns soon.
///
/// A snapshot is read first and composed then: in between the answers to what the reading brought up may
/// come.
pub trait Source: Send {
    /// Sets how often snapshots will be taken, and how much they are to have.
    ///
    /// # Errors
    /// When it could not be set; then it stays as it was.
    fn configure(&mut self, settings: Settings) -> Result<(), SourceError>;

    /// A descriptor that is readable when births or deaths wait.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Takes in the births and deaths that wait.
    fn drain(&mut self);

    /// Looks for vCPUs that are not followed yet, and reads none.
    ///
    /// # Errors
    /// When it was not possible.
    fn look(&mut self) -> Result<(), SourceError>;

    /// Guests that are followed.
    fn guests(&self) -> usize;

    /// vCPUs that are followed.
    fn vcpus(&self) -> usize;

    /// Reads every vCPU.
    ///
    /// # Errors
    /// When it was not possible; the next reading takes in what this one misses.
    fn read(&mut self) -> Result<(), SourceError>;

    /// The snapshot of the last reading, with the answers that have come since.
    fn compose(&mut self) -> Snapshot;

    /// What has come up since the last call and is to be asked.
    fn questions(&mut self) -> Vec<Question>;

    /// What is to be asked from time to time: whether what is known of guests still is so. The answers cost
    /// little where it is.
    fn checks(&self) -> Vec<Question>;

    /// What is to be asked from time to time for it changes slowly, as a guest's memory does.
    fn slow_questions(&mut self) -> Vec<Question>;

    /// What would be asked if every guest were new: for a full re-discovery.
    fn all_questions(&self) -> Vec<Question>;

    /// Whether a guest's first answer is still to come.
    fn awaits_answers(&self) -> bool;

    /// There was no room for a question.
    fn not_asked(&mut self, question: Question);

    /// Takes in an answer.
    fn answer(&mut self, answer: Answer);

    /// Answers this source's questions.
    fn answerer(&self) -> Answerer;
}

/// How a source is to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between snapshots.
    pub interval: Duration,
    /// How much is sampled of guests.
    pub levels: Levels,
    /// Which parts of the host are read.
    pub host: HostParts,
}

/// What is asked away from the sampling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// What its platform calls a guest.
    Guest(VmKey),
    /// Whether what its platform keeps of a guest has changed since that was asked.
    Changes(VmKey),
    /// What a guest has of the host's memory.
    Memory(VmKey),
    /// What the kernel counts of the control groups that are made for a guest.
    Group(VmKey),
    /// Whether the control group that a guest's disk requests are charged to, with this inode, was made for
    /// it.
    IoGroup(VmKey, u64),
    /// What the kernel calls a disk.
    Disk(Device),
    /// The devices of a guest, and its network interfaces.
    Devices(VmKey),
    /// What the kernel counts of the interfaces of all guests.
    Links,
    /// What the host does beside its guests, as far as these parts go.
    Host(HostParts),
    /// What a process of the host is called.
    Process(u32),
}

/// What came back; nothing where it could not be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a guest.
    Guest(VmKey, Option<GuestFacts>),
    /// Whether there are changes.
    Changes(VmKey, bool),
    /// What it has.
    Memory(VmKey, Option<Memory>),
    /// What it counts, and when that was read, Unix time in ns.
    Group(VmKey, Option<(GuestGroup, u64)>),
    /// Whether it was.
    IoGroup(VmKey, u64, Option<bool>),
    /// What it calls it.
    Disk(Device, Option<DiskName>),
    /// Those that it has; the interfaces may not be known now.
    Devices(VmKey, Option<(FoundDevices, Option<FoundInterfaces>)>),
    /// What it counts.
    Links(Option<Links>),
    /// What it does.
    Host(HostParts, Box<HostState>),
    /// Of a process.
    Process(u32, Option<TaskFacts>),
}

/// Answers questions, and may block for as long as it takes.
pub type Answerer = Box<dyn Fn(Question) -> Answer + Send + Sync>;

/// What the platform says of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// The facts.
    pub facts: Facts,
    /// Not all that the platform has of it could be read: what was known before is worth more.
    pub is_partial: bool,
}

impl GuestFacts {
    /// What is known with this answer, where this was known before: what an answer lacks stays.
    #[must_use]
    pub fn over(self, known: &Facts) -> Facts {
        if self.is_partial { known.clone().or(&self.facts) } else { self.facts.or(known) }
    }
}

/// What a process is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its command, as the kernel has it.
    pub comm: String,
    /// The unit that it belongs to, where its cgroup is one.
    pub unit: Option<String>,
}

/// Why a source could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What is shared with the eBPF programs does not work.
    #[error(transparent)]
    Collect(#[from] CollectError),
}
