//! vCPU threads that are moved about while they run, wait and sleep.

use std::time::Duration;

use super::{Disturbance, Scale, Scenario, ScenarioError, threads};
use crate::exactness::{Moves, Thread};
use crate::guest::Guests;
use crate::host::{CpuList, pin};

const PAUSE: Duration = Duration::from_millis(1);

/// Guests whose threads are pinned to another CPU every millisecond, and let loose now and then.
#[derive(Debug)]
pub struct Affinity {
    // Before the guests: it acts on their threads.
    disturbance: Disturbance,
    guests: Guests,
}

impl Affinity {
    /// Starts the guests and the moves.
    ///
    /// # Errors
    /// When a guest does not start.
    pub fn start(scale: &Scale<'_>) -> Result<Self, ScenarioError> {
        let guests = scale.start("affinity", false)?;
        let (threads, cpus) = (threads(&guests), scale.cpus.clone());
        let disturbance = Disturbance::start("moving vCPU threads", PAUSE, move |random| {
            let (Some(thread), Some(&cpu)) = (random.choice(&threads), random.choice(cpus.numbers())) else {
                return Err("there is nothing to move".to_owned());
            };
            let one = CpuList::one(cpu).map_err(|error| error.to_string())?;
            let place = if random.u8(0..4) == 0 { &cpus } else { &one };
            pin(thread.tid, place).map_err(|error| error.to_string())
        })?;
        Ok(Self { guests, disturbance })
    }
}

impl Scenario for Affinity {
    fn threads(&self) -> Vec<Thread> {
        threads(&self.guests)
    }

    fn moves(&self) -> Moves {
        Moves::Possible
    }

    fn finish(self) -> Result<String, ScenarioError> {
        Ok(format!("{} moves", self.disturbance.finish()?))
    }
}
