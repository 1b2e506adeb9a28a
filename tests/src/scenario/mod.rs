//! Guests, and what is done to them while somebody counts.
//!
//! Every scenario lists its vCPU threads, goes on until it is dropped, and reports at its end what it did: a
//! scenario whose disturbance failed proves nothing.

mod affinity;
mod churn;
mod contention;
mod disturb;
mod nice;
mod quota;
mod stop_continue;

use std::path::Path;
use std::time::Duration;

pub use affinity::Affinity;
pub use churn::{Churn, Life};
pub use contention::Contention;
pub use disturb::{DisturbError, Disturbance};
pub use nice::NiceChanges;
pub use quota::Quota;
pub use stop_continue::StopContinue;

use crate::exactness::{Moves, Thread};
use crate::guest::{Guest, GuestConfig, GuestError, Guests};
use crate::host::CpuList;
use crate::oracle::Schedstat;
use crate::vmm::Load;

/// What can go wrong in a scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// A guest did not start or end.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Its disturbance failed.
    #[error(transparent)]
    Disturb(#[from] DisturbError),
    /// A cgroup could not be used.
    #[error(transparent)]
    Oracle(#[from] crate::oracle::OracleError),
    /// It could not do what it is for.
    #[error("{0}")]
    Idle(String),
}

/// Guests under some strain.
pub trait Scenario {
    /// The vCPU threads.
    fn threads(&self) -> Vec<Thread>;

    /// Whether its threads can be moved from one CPU's queue to another's.
    fn moves(&self) -> Moves;

    /// Ends the disturbance and says what was done, in a few words.
    ///
    /// # Errors
    /// When the disturbance failed or had no effect.
    fn finish(self) -> Result<String, ScenarioError>;
}

/// How big a scenario is and where it runs.
#[derive(Debug, Clone)]
pub struct Scale<'a> {
    /// The tiny VMM.
    pub binary: &'a Path,
    /// CPUs for the vCPU threads: few, so that they have to wait.
    pub cpus: CpuList,
    /// Guests for each of the CPUs.
    pub guests_per_cpu: u32,
    /// vCPUs of each guest.
    pub vcpus: u32,
}

impl Scale<'_> {
    /// Bursts and sleeps of a tenth of a millisecond: thousands of switches a second on each CPU.
    const LOAD: Load = Load::Mix { burn: Duration::from_micros(100), sleep: Duration::from_micros(100) };

    /// Starts the guests; those of one CPU are pinned to it, or may run on all when `pinned` is false. One
    /// guest on each CPU never sleeps.
    fn start(&self, name: &str, pinned: bool) -> Result<Guests, GuestError> {
        self.start_with(name, pinned, |_| Ok(()))
    }

    /// The same; `born` gets the id of each process before its vCPUs run.
    fn start_with<E: From<GuestError>>(
        &self,
        name: &str,
        pinned: bool,
        born: impl Fn(u32) -> Result<(), E>,
    ) -> Result<Guests, E> {
        let each = |cpu: usize, number: u32| {
            let load = if number == 0 { Load::Busy } else { Self::LOAD };
            let vcpus = if number == 0 { 1 } else { self.vcpus };
            let mut config = GuestConfig::new(format!("{name}-{cpu}-{number}"), vcpus, load);
            let pin = CpuList::one(cpu).ok().filter(|_| pinned);
            config.cpus = Some(pin.unwrap_or_else(|| self.cpus.clone()));
            let guest = Guest::begin(self.binary, &config)?;
            born(guest.pid())?;
            Ok(guest)
        };
        let all = self.cpus.numbers().iter().flat_map(|cpu| (0..self.guests_per_cpu).map(|n| (*cpu, n)));
        Guests::together(all.map(|(cpu, number)| each(cpu, number)))
    }
}

fn threads(guests: &[Guest]) -> Vec<Thread> {
    let of_guest = |guest: &Guest| {
        let pid = guest.pid();
        guest.tids().into_iter().map(move |tid| Thread { pid, tid })
    };
    guests.iter().flat_map(of_guest).collect()
}

/// Run delay of all threads together, ns.
pub(crate) fn waited(threads: &[Thread]) -> Result<u64, ScenarioError> {
    let mut sum = 0;
    for thread in threads {
        sum += Schedstat::of(thread.pid, thread.tid)?.run_delay_ns;
    }
    Ok(sum)
}
