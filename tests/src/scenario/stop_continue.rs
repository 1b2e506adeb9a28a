//! Guests that are stopped and continued.

use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::{Disturbance, Scale, Scenario, ScenarioError, threads};
use crate::exactness::{Moves, Thread};
use crate::guest::{Guest, Guests};
use crate::host;

const PAUSE: Duration = Duration::from_millis(5);

/// Guests of which always one is stopped by SIGSTOP, another one every few milliseconds.
#[derive(Debug)]
pub struct StopContinue {
    // Before the guests: it signals them, and their ids are theirs while they are not reaped.
    disturbance: Disturbance,
    guests: Guests,
}

impl StopContinue {
    /// Starts the guests and the signals.
    ///
    /// # Errors
    /// When a guest does not start.
    pub fn start(scale: &Scale<'_>) -> Result<Self, ScenarioError> {
        let guests = scale.start("stop", true)?;
        let pids: Vec<u32> = guests.iter().map(Guest::pid).collect();
        let mut stopped = None;
        let disturbance = Disturbance::start("stopping and continuing guests", PAUSE, move |random| {
            if let Some(pid) = stopped.take() {
                return signal(pid, Signal::CONT);
            }
            let pid = *random.choice(&pids).ok_or("there is nothing to stop")?;
            stopped = Some(pid);
            signal(pid, Signal::STOP)
        })?;
        Ok(Self { disturbance, guests })
    }
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = host::pid(pid).ok_or("no process id")?;
    kill_process(pid, signal).map_err(|errno| errno.to_string())
}

impl Scenario for StopContinue {
    fn threads(&self) -> Vec<Thread> {
        threads(&self.guests)
    }

    fn moves(&self) -> Moves {
        Moves::Impossible
    }

    fn finish(self) -> Result<String, ScenarioError> {
        let signals = self.disturbance.finish()?;
        Ok(format!("{signals} stops and continuations"))
    }
}
