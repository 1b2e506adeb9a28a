//! Who started a guest, and what they call it. One file for each platform, and one row in [`PLATFORMS`].
//!
//! Everything read here is under somebody else's control: a command line is the VMM's own, a status file is
//! libvirt's. So each value is bounded, each file is opened as [`Files`] does, and what the platforms keep of
//! a guest is believed only where they name its very process, or where the control group says that they
//! started it.

mod cgroup;
mod cloud_hypervisor;
mod crosvm;
mod files;
mod firecracker;
mod gvisor;
mod kata;
mod kubernetes;
mod kubevirt;
mod kvmtool;
mod libvirt;
mod openstack;
mod options;
mod proxmox;
mod qemu;
mod text;
mod unknown;
mod xml;

use std::sync::Arc;

use super::procfs::ProcessFacts;
use crate::model::{FACTS, Fact, FactRow, Facts};

use files::{Area, FileError, Look};
pub use files::{Files, Seen};
pub use text::MAX_TEXT;
use text::{text, uuid};

/// A fact with the place it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced {
    /// The fact: never empty, at most [`MAX_TEXT`] bytes, any characters.
    pub value: Arc<str>,
    /// Where it is from, for people.
    pub from: &'static str,
}

/// What is known of a guest beyond its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestIdentity {
    found: [Option<Sourced>; FACTS.len()],
    trouble: Option<String>,
    is_partial: bool,
    seen: Vec<Seen>,
}

impl GuestIdentity {
    /// A guest of a platform, of which no more is known yet.
    #[must_use]
    pub fn of(platform: &'static str, from: &'static str) -> Self {
        let found = [const { None }; FACTS.len()];
        let identity = Self { found, trouble: None, is_partial: false, seen: Vec::new() };
        identity.with(Fact::Platform, Some(platform), from)
    }

    /// The same with one more fact, or with another value of it. What is not there changes nothing.
    #[must_use]
    pub fn with(mut self, fact: Fact, value: Option<impl AsRef<[u8]>>, from: &'static str) -> Self {
        if let Some(value) = value.and_then(|value| text(value.as_ref())) {
            self.found[fact as usize] = Some(Sourced { value: value.into(), from });
        }
        self
    }

    /// The same with one more fact, where that is not known yet.
    #[must_use]
    fn or(self, fact: Fact, value: Option<impl AsRef<[u8]>>, from: &'static str) -> Self {
        if self.get(fact).is_some() { self } else { self.with(fact, value, from) }
    }

    /// The same, and why not all of what its platform has could be read: more was known before, perhaps.
    #[must_use]
    fn with_trouble(mut self, trouble: String) -> Self {
        self.is_partial = true;
        self.with_hint(trouble)
    }

    /// The same, and why more is not known of it.
    #[must_use]
    fn with_hint(mut self, hint: String) -> Self {
        self.trouble.get_or_insert(hint);
        self
    }

    /// A fact, where it is known.
    #[must_use]
    pub const fn get(&self, fact: Fact) -> Option<&Sourced> {
        self.found[fact as usize].as_ref()
    }

    /// What is known, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static FactRow, &Sourced)> {
        FACTS.iter().zip(&self.found).filter_map(|(row, found)| Some((row, found.as_ref()?)))
    }

    /// What is known and where it is from, on one line, for the log.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.iter().map(|(row, found)| format!("{} {:?} ({})", row.key, found.value, found.from));
        said.collect::<Vec<_>>().join(", ")
    }

    /// The facts without the places they are from.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.iter().fold(Facts::default(), |facts, (row, found)| facts.with(row.fact, found.value.clone()))
    }

    /// The files that it depends on: when they change, the guest may be another.
    #[must_use]
    pub fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Whether not all of what the platform has of the guest could be read.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Why not more is known of the guest, where that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

/// Says who a process's guest is, or `None` where the process is of another platform.
type Platform = fn(&ProcessFacts, &Look<'_>) -> Option<GuestIdentity>;

/// In order of preference: the first that knows the process is believed. First those that files or control
/// groups vouch for, for anybody may write what they like on a command line. Those that start QEMU stand
/// before it.
const PLATFORMS: &[Platform] = &[
    libvirt::identify,
    proxmox::identify,
    kubevirt::identify,
    kata::identify,
    qemu::identify,
    firecracker::identify,
    cloud_hypervisor::identify,
    crosvm::identify,
    kvmtool::identify,
    gvisor::identify,
];

/// Says who a guest is, as far as its process and its platform's files do. Takes as long as [`Files`] lets
/// it.
#[must_use]
pub fn identify(facts: &ProcessFacts, files: &Files) -> GuestIdentity {
    let look = Look::at(files);
    let known = PLATFORMS.iter().find_map(|platform| platform(facts, &look));
    let identity = known.unwrap_or_else(|| unknown::identify(facts));
    let identity = kubernetes::add_pod(identity, facts, &look);
    let identity = identity.with(Fact::Program, facts.exe.as_ref(), "/proc/PID/exe");
    GuestIdentity { seen: look.seen(), ..identity }
}

/// How a process is known to be a VMM's: by the program that it runs, or by what it was called as.
fn program_is(facts: &ProcessFacts, is: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    let base_name = |path: &[u8]| path.rsplit(|&byte| byte == b'/').next().is_some_and(&is);
    match (&facts.exe, facts.args.first()) {
        (Some(exe), _) if is(exe) => Some("program name"),
        (_, Some(argv0)) if base_name(argv0) => Some("command line, argument 0"),
        _ => None,
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
