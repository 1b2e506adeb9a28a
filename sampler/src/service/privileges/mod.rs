//! What the service gives up of what it was started with: docs/security.md has what remains, and why.
//!
//! Capabilities, the bounding set, the user and `no_new_privs` are a thread's own. So all is given up by the
//! first thread while it is the only one, and each later thread begins with what is left. Two are different:
//!
//! - [`Loading`] is started before the last step. It alone has what loading the programs takes, and ends with
//!   that.
//! - Threads of the runtime, which read what collectors answer, give up the rest but for reading files.
//!
//! When the programs are loaded, a filter that all threads get refuses to load more, and to write files.

mod calls;
mod capabilities;
mod loading;
mod user;

use std::{fmt::Display, io, path::Path};

use anyhow::{Context as _, Result};
use rustix::{
    process::getuid,
    thread::{CapabilitySet, capabilities as own, set_no_new_privs},
};

use self::{capabilities::Needs, loading::Loading};
use crate::{
    config::{Sandbox, ServiceSettings},
    kernel::limits,
};

/// A process that has given up what it does not need to serve.
#[derive(Debug)]
pub struct Confined {
    /// None where nothing was given up.
    loading: Option<Loading>,
    left: CapabilitySet,
    /// What could not be given up, and why.
    kept: Vec<String>,
}

/// Gives up what `settings` let. For the first thread of a process while it is the only one.
///
/// # Errors
/// The process cannot become the user that it is to be, or no thread can be started. What the kernel does not
/// let it give up is no error: [`Confined::report`] says it.
pub fn confine(settings: &ServiceSettings) -> Result<Confined> {
    // What later threads would need privileges for.
    limits::lift_memlock();
    let mut beside = CapabilitySet::empty();
    beside.set(capabilities::PRIORITY, !limits::lift_nice());
    beside.set(capabilities::NAMESPACES, settings.network_namespaces);
    if let Some(name) = &settings.user {
        user::change_to(name).with_context(|| format!("service.user: becoming {name:?}"))?;
    }
    match settings.sandbox {
        Sandbox::Off => Ok(Confined::not()),
        Sandbox::Auto => Confined::begin(beside).context("giving up privileges"),
    }
}

/// Makes the directories of what the service writes to, for the user that it is to be. For whoever has root's
/// privileges still; others have what somebody made for them.
///
/// # Errors
/// There is no such user, or the directories cannot be made.
pub fn make_directories(settings: &ServiceSettings, files: &[&Path]) -> Result<()> {
    if !getuid().is_root() {
        return Ok(());
    }
    user::make_directories(settings.user.as_deref(), files).context("making directories of the service's own")
}

/// Removes a status socket that a service left behind which was another user. For whoever has the lock, and
/// root's privileges still.
///
/// # Errors
/// There is no such user, or the socket cannot be removed.
pub fn remove_socket_of_others(settings: &ServiceSettings, socket: &Path) -> Result<()> {
    if !getuid().is_root() {
        return Ok(());
    }
    user::remove_socket_of_others(settings.user.as_deref(), socket).context("removing an old status socket")
}

/// Gives up what threads need that serve guests. For threads that have to do with collectors alone, at their
/// begin.
pub fn leave_guests_alone() {
    let give_up = || capabilities::keep(own(None)?.permitted & capabilities::FILES);
    if let Err(error) = give_up() {
        tracing::warn!(%error, "a thread that talks to collectors keeps its capabilities");
    }
}

impl Confined {
    const fn not() -> Self {
        Self { loading: None, left: CapabilitySet::empty(), kept: Vec::new() }
    }

    fn begin(beside: CapabilitySet) -> Result<Self> {
        let mut confined = Self::not();
        confined.give_up("the way to more privileges (no_new_privs)", set_no_new_privs(true));
        let permitted = own(None).context("reading this process's capabilities")?.permitted;
        let needs = Needs::of(permitted, beside);
        // Only programs that are executed would get what the bounding set has, and none can be. So it is no
        // loss where a unit gave no privilege to change it.
        if permitted.contains(CapabilitySet::SETPCAP) {
            confined.give_up("the bounding set", capabilities::bound(needs.serve));
        }
        confined
            .give_up("capabilities that neither loading nor serving needs", capabilities::keep(needs.load));
        confined.give_up("system calls (seccomp)", calls::refuse());
        confined.loading = Some(Loading::spawn().context("starting the thread that loads")?);
        confined.give_up("the capabilities of loading", capabilities::keep(needs.serve));
        confined.left = own(None)?.effective;
        Ok(confined)
    }

    fn give_up<E: Display>(&mut self, what: &str, given_up: Result<(), E>) {
        if let Err(error) = given_up {
            self.kept.push(format!("{what}: {error}"));
        }
    }

    /// Whether anything was given up.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.loading.is_some()
    }

    /// What could not be given up, and why.
    #[must_use]
    pub fn kept(&self) -> &[String] {
        &self.kept
    }

    /// Says what remains, and what could not be given up.
    pub fn report(&self) {
        if !self.is_active() {
            tracing::info!("privileges are kept (service.sandbox)");
            return;
        }
        tracing::info!(
            capabilities = capabilities::names(self.left),
            "privileges are given up, but for these"
        );
        for kept in &self.kept {
            tracing::warn!("not given up: {kept}");
        }
    }

    /// Does what takes the privileges of loading, on the one thread that has them. When this is over it has
    /// ended, and no thread may load programs or write files any more; what the service writes to is open.
    ///
    /// # Errors
    /// When that thread is gone: it panicked.
    pub fn load<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let Some(loading) = self.loading else { return Ok(work()) };
        let done = loading.run(work)?;
        if let Err(error) = calls::refuse_what_is_over() {
            tracing::warn!("not given up: loading programs and writing files (seccomp): {error}");
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
