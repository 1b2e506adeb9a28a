//! Guests that are born and die, one after the other.

use std::path::PathBuf;
use std::time::Duration;

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
    /// How it ended; half are killed.
    pub ending: Ending,
}

impl Churn {
    /// Lets the guests live and die; `born` hears of each as soon as all its vCPUs have run. Returns them in the order of
    /// their deaths. All are reaped when it returns.
    ///
    /// # Errors
    /// When a guest does not start, or does not end as told.
    pub fn run(&self, mut born: impl FnMut(&Guest)) -> Result<Vec<Life>, ScenarioError> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut alive: Vec<Guest> = Vec::new();
        let mut lives = Vec::new();
        let mut started = 0;
        while lives.len() < self.guests {
            let litter = LITTER.min(self.guests - started);
            for guest in self.bear(started, litter, &mut random)? {
                born(&guest);
                alive.push(guest);
            }
            started += litter;
            let keep = if started < self.guests { self.alive } else { 0 };
            while alive.len() > keep {
                let guest = alive.swap_remove(random.usize(..alive.len()));
                // By turns, so that exactly half are killed.
                let ending = if lives.len().is_multiple_of(2) { Ending::Killed } else { Ending::Orderly };
                lives.push(end(guest, ending)?);
            }
        }
        Ok(lives)
    }

    fn bear(
        &self,
        first: usize,
        count: usize,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<Guest>, ScenarioError> {
        let mut starting = Vec::with_capacity(count);
        for number in first..first + count {
            let config = GuestConfig::new(format!("churn-{number}"), random.u32(1..=4), load(random));
            starting.push(Guest::begin(&self.binary, &config)?);
        }
        Ok(starting.into_iter().map(Starting::wait).collect::<Result<_, _>>()?)
    }
}

fn load(random: &mut fastrand::Rng) -> Load {
    let length = Duration::from_millis(1);
    match random.u8(0..4) {
        0 => Load::Halt,
        1 => Load::Half { burn: length, sleep: length * 4 },
        _ => Load::Mix { burn: length, sleep: length * 10 },
    }
}

fn end(guest: Guest, ending: Ending) -> Result<Life, ScenarioError> {
    let life =
        Life { pid: guest.pid(), start_ticks: guest.start_ticks(), vcpus: guest.vcpus().to_vec(), ending };
    guest.end(ending)?;
    Ok(life)
}
