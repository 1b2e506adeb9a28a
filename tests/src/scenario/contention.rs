//! Many vCPUs over few CPUs.

use super::{Scale, Scenario, ScenarioError, threads, waited};
use crate::exactness::{Moves, Thread};
use crate::guest::Guests;

/// Guests pinned to a few CPUs that cannot give them all what they want.
#[derive(Debug)]
pub struct Contention {
    guests: Guests,
    waited_before: u64,
}

impl Contention {
    /// Starts the guests.
    ///
    /// # Errors
    /// When a guest does not start.
    pub fn start(scale: &Scale<'_>) -> Result<Self, ScenarioError> {
        let guests = scale.start("contention", true)?;
        let waited_before = waited(&threads(&guests))?;
        Ok(Self { guests, waited_before })
    }
}

impl Scenario for Contention {
    fn threads(&self) -> Vec<Thread> {
        threads(&self.guests)
    }

    fn moves(&self) -> Moves {
        Moves::Impossible
    }

    fn finish(self) -> Result<String, ScenarioError> {
        let waited = waited(&self.threads())?.saturating_sub(self.waited_before);
        if waited == 0 {
            return Err(ScenarioError::Idle("no vCPU ever waited for a CPU".to_owned()));
        }
        Ok(format!("vCPUs waited {:.1} s in all", waited as f64 / 1e9))
    }
}
