//! vCPU threads whose priority changes.

use std::time::Duration;

use super::{Disturbance, Scale, Scenario, ScenarioError, threads};
use crate::exactness::{Moves, Thread};
use crate::guest::Guests;
use crate::host::renice;

const PAUSE: Duration = Duration::from_millis(1);

/// Guests of which every millisecond a thread gets another nice value.
#[derive(Debug)]
pub struct NiceChanges {
    // Before the guests: it acts on their threads.
    disturbance: Disturbance,
    guests: Guests,
}

impl NiceChanges {
    /// Starts the guests and the changes.
    ///
    /// # Errors
    /// When a guest does not start.
    pub fn start(scale: &Scale<'_>) -> Result<Self, ScenarioError> {
        let guests = scale.start("nice", true)?;
        let threads = threads(&guests);
        let disturbance = Disturbance::start("changing priorities", PAUSE, move |random| {
            let thread = random.choice(&threads).ok_or("there is nothing to change")?;
            // Not to the ends of the scale: a thread at 19 beside one at -20 would hardly ever be seen to
            // run.
            renice(thread.tid, random.i32(-3..=3)).map_err(|error| error.to_string())
        })?;
        Ok(Self { guests, disturbance })
    }
}

impl Scenario for NiceChanges {
    fn threads(&self) -> Vec<Thread> {
        threads(&self.guests)
    }

    fn moves(&self) -> Moves {
        Moves::Impossible
    }

    fn finish(self) -> Result<String, ScenarioError> {
        Ok(format!("{} changes", self.disturbance.finish()?))
    }
}
