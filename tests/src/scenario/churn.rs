//! Guests that are born and die, one after the other.

use std::path::PathBuf;

use super::ScenarioError;
use crate::guest::{Ending, Guest, GuestConfig, ReadyVcpu, Starting};
use crate::vmm::Load;

/// Guests that start at the same time.
const LITTER: usize = 4;

/// How many guests live, and how many at a time.
#[derive(Debug, Clone)]
pub struct Churn {
    /// The tiny VMM.
    pub binary: PathBuf,
    /// Guests in all.
    pub guests: usize,
    /// Guests that live at the same time, about.
    pub alive: usize,
    /// Seed of all that is random: sizes, loads, who dies next and how.
    pub seed: u64,
}

/// A guest that lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The VMM's process id.
    pub pid: u32,
    /// Start of its process since boot, in clock ticks (100 a second).
    pub start_ticks: u64,
    /// Its vCPUs.
    pub vcpus: Vec<ReadyVcpu>,
    /// What its vCPUs did.
    pub load: Load,
    /// How it ended; half are killed.
    pub ending: Ending,
}

impl Churn {
    /// Lets the guests live and die; `born` hears of each as soon as all its vCPUs have run. Returns them in
    /// the order of their deaths. All are reaped when it returns.
    ///
    /// # Errors
    /// When a guest does not start, or does not end as it should.
    pub fn run(&self, mut born: impl FnMut(&Guest)) -> Result<Vec<Life>, ScenarioError> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut alive: Vec<(Guest, Load)> = Vec::new();
        let mut lives = Vec::new();
        let mut started = 0;
        while lives.len() < self.guests {
            let litter = LITTER.min(self.guests - started);
            for (guest, load) in self.bear(started, litter, &mut random)? {
                born(&guest);
                alive.push((guest, load));
            }
            started += litter;
            let keep = if started < self.guests { self.alive } else { 0 };
            while alive.len() > keep {
                // One of the older half: a guest that has just said that it is ready is only about to enter
                // its vCPUs for the second time.
                let (guest, load) = alive.remove(random.usize(..alive.len().div_ceil(2)));
                // By turns, so that exactly half are killed.
                let ending = if lives.len().is_multiple_of(2) { Ending::Killed } else { Ending::Orderly };
                lives.push(end(guest, load, ending)?);
            }
        }
        Ok(lives)
    }

    fn bear(
        &self,
        first: usize,
        count: usize,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<(Guest, Load)>, ScenarioError> {
        let mut starting = Vec::with_capacity(count);
        for number in first..first + count {
            let config = guest(number, random);
            starting.push((Guest::begin(&self.binary, &config)?, config.load));
        }
        let ready = |(starting, load): (Starting, Load)| Ok((starting.wait()?, load));
        starting.into_iter().map(ready).collect()
    }
}

/// Guests that halt in the kernel, and a few that run there for ever. A vCPU that sleeps in the VMM after
/// bursts too short to be preempted is hardly ever seen inside a vCPU ioctl, and a short life may pass
/// without.
fn guest(number: usize, random: &mut fastrand::Rng) -> GuestConfig {
    let load = match random.u8(0..16) {
        0 => Load::Busy,
        1 => Load::Io,
        _ => Load::Halt,
    };
    GuestConfig::new(format!("churn-{number}"), random.u32(1..=4), load)
}

fn end(guest: Guest, load: Load, ending: Ending) -> Result<Life, ScenarioError> {
    let life = Life {
        pid: guest.pid(),
        start_ticks: guest.start_ticks(),
        vcpus: guest.vcpus().to_vec(),
        load,
        ending,
    };
    guest.end(ending)?;
    Ok(life)
}
