//! Doing something again and again in the background.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::host;

/// A disturbance that did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DisturbError {
    /// One of its steps failed.
    #[error("{what} failed after {steps} times: {reason}")]
    Step {
        /// What is done.
        what: &'static str,
        /// How often it worked.
        steps: u64,
        /// Why it failed.
        reason: String,
    },
    /// Its thread panicked or could not be started.
    #[error("the thread for {what} is not there: {reason}")]
    Thread {
        /// What is done.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// A step that a background thread repeats until it fails or the disturbance is finished or dropped.
#[derive(Debug)]
pub struct Disturbance {
    what: &'static str,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<u64, DisturbError>>>,
}

impl Disturbance {
    /// Starts repeating `step`, with `pause` between two of them. The step is given random numbers, the same
    /// in every run.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start<S>(what: &'static str, pause: Duration, step: S) -> Result<Self, DisturbError>
    where
        S: FnMut(&mut fastrand::Rng) -> Result<(), String> + Send + 'static,
    {
        Self::after(|| Ok(()), what, pause, step)
    }

    /// The same from a real-time thread: its steps come in time however the CPUs are taken.
    ///
    /// # Errors
    /// As [`Self::start`]; that there may be no such thread is reported at the end.
    pub fn in_real_time<S>(what: &'static str, pause: Duration, step: S) -> Result<Self, DisturbError>
    where
        S: FnMut(&mut fastrand::Rng) -> Result<(), String> + Send + 'static,
    {
        let before = || host::real_time(0).map_err(|error| format!("no real-time thread: {error}"));
        Self::after(before, what, pause, step)
    }

    fn after<B, S>(before: B, what: &'static str, pause: Duration, mut step: S) -> Result<Self, DisturbError>
    where
        B: FnOnce() -> Result<(), String> + Send + 'static,
        S: FnMut(&mut fastrand::Rng) -> Result<(), String> + Send + 'static,
    {
        let (stop, stopped) = mpsc::channel();
        let repeat = move || {
            let mut random = fastrand::Rng::with_seed(1);
            let mut steps = 0;
            before().map_err(|reason| DisturbError::Step { what, steps, reason })?;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                step(&mut random).map_err(|reason| DisturbError::Step { what, steps, reason })?;
                steps += 1;
            }
            Ok(steps)
        };
        let thread = thread::Builder::new()
            .name("disturbance".to_owned())
            .spawn(repeat)
            .map_err(|error| DisturbError::Thread { what, reason: error.to_string() })?;
        Ok(Self { what, stop: Some(stop), thread: Some(thread) })
    }

    /// Stops it and says how often its step was done.
    ///
    /// # Errors
    /// When a step failed.
    pub fn finish(mut self) -> Result<u64, DisturbError> {
        self.join()
    }

    fn join(&mut self) -> Result<u64, DisturbError> {
        self.stop = None;
        let Some(thread) = self.thread.take() else { return Ok(0) };
        let panicked = |_| DisturbError::Thread { what: self.what, reason: "it panicked".to_owned() };
        thread.join().map_err(panicked)?
    }
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_repeated_until_the_end_and_counted() {
        let (sender, steps) = mpsc::channel();
        let disturbance = Disturbance::start("counting", Duration::from_micros(10), move |_| {
            sender.send(()).map_err(|error| error.to_string())
        });
        for _ in 0..5 {
            steps.recv().unwrap();
        }
        assert!(disturbance.unwrap().finish().unwrap() >= 5);
    }

    #[test]
    fn a_step_that_fails_is_reported_at_the_end() {
        let mut left = 3;
        let disturbance = Disturbance::start("counting down", Duration::ZERO, move |_| {
            left -= 1;
            if left == 0 { Err("zero".to_owned()) } else { Ok(()) }
        });
        let disturbance = disturbance.unwrap();
        while !disturbance.thread.as_ref().unwrap().is_finished() {
            thread::yield_now();
        }
        assert_eq!(disturbance.finish().unwrap_err().to_string(), "counting down failed after 2 times: zero");
    }
}
