//! The sampling thread. It waits for nothing but the clock and the ring: names come from the enricher, and
//! what becomes of a snapshot is decided by a function that must not wait either.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use super::Follower;
use crate::{model::Snapshot, source::Levels};

/// Longest sleep: how late a stop or a new schedule may be noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// When to do what, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Time between snapshots.
    pub interval: Duration,
    /// Time between full re-discoveries.
    pub discovery_interval: Duration,
    /// How much is told of guests.
    pub levels: Levels,
}

/// The running thread.
#[derive(Debug)]
pub struct Sampling {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    schedule: Arc<Mutex<Schedule>>,
}

impl Sampling {
    /// Starts sampling after `start_delay`; births and deaths are followed from the first moment on.
    /// `deliver` gets every snapshot, and when the sampling is stopped one last one.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn spawn(
        follower: Follower,
        schedule: Schedule,
        start_delay: Duration,
        deliver: impl FnMut(Snapshot) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let schedule = Arc::new(Mutex::new(schedule));
        let mut sampler = Loop {
            follower,
            deliver,
            stop: Arc::clone(&stop),
            schedule: Arc::clone(&schedule),
            interval: None,
        };
        let thread = Builder::new().name("sampling".into()).spawn(move || sampler.run(start_delay))?;
        Ok(Self { thread: Some(thread), stop, schedule })
    }

    /// Changes the schedule; the next snapshot is taken one new interval after the last one, or earlier.
    pub fn reschedule(&self, schedule: Schedule) {
        if let Ok(mut current) = self.schedule.lock() {
            *current = schedule;
        }
    }

    /// Takes the last snapshot, delivers it and ends the thread. Takes as long as one snapshot at most.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sampling thread panicked");
        }
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.end();
    }
}

struct Loop<D> {
    follower: Follower,
    deliver: D,
    stop: Arc<AtomicBool>,
    schedule: Arc<Mutex<Schedule>>,
    /// Time between snapshots as the source was told last.
    interval: Option<Duration>,
}

impl<D: FnMut(Snapshot)> Loop<D> {
    fn run(&mut self, start_delay: Duration) {
        let start = Instant::now();
        let mut last = start;
        let mut next = start + start_delay;
        let mut discovered = start;
        while !self.stop.load(Ordering::Acquire) {
            let schedule = self.schedule.lock().map_or(FALLBACK, |schedule| *schedule);
            self.follower.set_levels(schedule.levels);
            self.set_interval(schedule.interval);
            if last != start {
                next = next.min(last + schedule.interval).max(last);
            }
            let now = Instant::now();
            if now >= next {
                self.snapshot();
                last = now;
                // Whole intervals after the planned moment: the rhythm survives a late wake-up.
                let behind =
                    now.saturating_duration_since(next).as_nanos() / schedule.interval.as_nanos().max(1);
                next += schedule.interval * (u32::try_from(behind).unwrap_or(u32::MAX - 1) + 1);
                continue;
            }
            if now.duration_since(discovered) >= schedule.discovery_interval {
                discovered = now;
                self.follower.rediscover();
            }
            self.follower.follow(LONGEST_WAIT.min(next - now));
        }
        self.snapshot();
    }

    fn set_interval(&mut self, interval: Duration) {
        if self.interval.replace(interval) == Some(interval) {
            return;
        }
        if let Err(error) = self.follower.set_interval(interval) {
            tracing::error!(%error, "co-stop is looked at as often as before: the programs cannot be told of the interval");
        }
    }

    fn snapshot(&mut self) {
        match self.follower.snapshot() {
            Ok(snapshot) => (self.deliver)(snapshot),
            Err(error) => tracing::error!(%error, "no snapshot"),
        }
    }
}

/// Only after a panic of the thread that changed the schedule.
const FALLBACK: Schedule = Schedule {
    interval: Duration::from_secs(10),
    discovery_interval: Duration::from_secs(600),
    levels: Levels::DEFAULT,
};
