//! The sampling thread. It waits for nothing but the clock and the source's descriptor: answers come from the
//! enricher, and what becomes of a snapshot is decided by sinks that must not wait either.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Driver, Sinks, rhythm::Rhythm};
use crate::{
    kernel::priority,
    model::{GuestSelection, Labelling, Levels},
    source::Settings,
};

/// Longest sleep: how late a stop or a new schedule may be noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// When to do what, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Time between snapshots.
    pub interval: Duration,
    /// How much is sampled of guests.
    pub levels: Levels,
    /// Time between full re-discoveries.
    pub discovery_interval: Duration,
    /// Time between readings of what changes slowly.
    pub slow_interval: Duration,
    /// Nice value of the thread.
    pub nice: i32,
    /// Which guests are shown, and what is said of them.
    pub guests: Arc<GuestSelection>,
}

/// The running thread.
#[derive(Debug)]
pub struct Sampling {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    schedule: Arc<Mutex<Schedule>>,
    /// Closed when the thread ends.
    ended: watch::Receiver<()>,
}

impl Sampling {
    /// Starts sampling after `start_delay`; births and deaths are taken in from the first moment on. The
    /// sinks get every snapshot, and when the sampling is stopped one last one.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn spawn(
        driver: Driver,
        schedule: Schedule,
        start_delay: Duration,
        sinks: Sinks,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = watch::channel(());
        let rhythm = Rhythm::new(Instant::now() + start_delay);
        let shared = Arc::new(Mutex::new(schedule));
        let mut work = Work {
            driver,
            sinks,
            rhythm,
            stop: Arc::clone(&stop),
            schedule: Arc::clone(&shared),
            applied: None,
            labelling: Labelling::default(),
            _end: end,
        };
        let thread = Builder::new().name("sampling".into()).spawn(move || work.run())?;
        Ok(Self { thread: Some(thread), stop, schedule: shared, ended })
    }

    /// Changes the schedule; the next snapshot is taken one new interval after the last one, or earlier.
    pub fn reschedule(&self, schedule: Schedule) {
        *self.schedule.lock().unwrap_or_else(PoisonError::into_inner) = schedule;
    }

    /// Over when the thread has ended: it panicked, where nobody stopped it.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Takes the last snapshot, delivers it and ends the thread. Takes as long as one snapshot at most.
    ///
    /// # Errors
    /// When the thread has panicked.
    pub fn stop(mut self) -> Result<(), Panicked> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Panicked> {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| Panicked)
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "sampling");
        }
    }
}

/// The thread did not end by itself.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the sampling thread panicked")]
pub struct Panicked;

/// What the thread works with.
struct Work {
    driver: Driver,
    sinks: Sinks,
    rhythm: Rhythm,
    stop: Arc<AtomicBool>,
    schedule: Arc<Mutex<Schedule>>,
    /// The schedule that the source and the thread follow.
    applied: Option<Schedule>,
    labelling: Labelling,
    /// Dropped when the thread ends, however it does.
    _end: watch::Sender<()>,
}

impl Work {
    fn run(&mut self) {
        let mut discovered = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            let schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.apply(&schedule);
            let interval = schedule.interval;
            let due = self.rhythm.due(interval);
            let now = Instant::now();
            // First: where readings take longer than the interval, a snapshot is always due.
            if now.duration_since(discovered) >= schedule.discovery_interval {
                discovered = now;
                self.driver.rediscover();
            }
            if now >= due {
                let due = self.rhythm.begin(now, interval);
                self.snapshot(Some(due));
                continue;
            }
            self.driver.attend(LONGEST_WAIT.min(due - now));
        }
        self.snapshot(None);
    }

    fn apply(&mut self, schedule: &Schedule) {
        if self.applied.as_ref() == Some(schedule) {
            return;
        }
        self.applied = Some(schedule.clone());
        self.labelling = Labelling::new(schedule.guests.labels.clone());
        priority::try_set(schedule.nice);
        self.driver.read_slowly_each(schedule.slow_interval);
        let settings = Settings { interval: schedule.interval, levels: schedule.levels };
        if let Err(error) = self.driver.configure(settings) {
            tracing::error!(%error, "the new interval and level hold only in part");
        }
    }

    /// Takes a snapshot and hands it to the sinks. `due` is absent of the last one, which was not planned.
    fn snapshot(&mut self, due: Option<Instant>) {
        if let Err(error) = self.driver.read() {
            self.rhythm.failed();
            tracing::error!(%error, "no snapshot");
            return;
        }
        if let Some(due) = due {
            self.rhythm.taken(due, Instant::now());
        }
        let mut snapshot = self.driver.compose();
        self.rhythm.report(&mut snapshot.sampler);
        if let Some(schedule) = &self.applied {
            schedule.guests.apply(&mut snapshot);
        }
        self.labelling.apply(&mut snapshot);
        self.sinks.deliver(snapshot);
    }
}
