//! The sampling thread. It waits for nothing but the clock and the source's descriptor: answers come from the
//! enricher, and what becomes of a snapshot is decided by sinks that must not wait either.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Driver, Sinks, rhythm::Rhythm};
use crate::{
    kernel::priority,
    model::{GuestSelection, Host, HostParts, Labelling, Levels},
    source::Settings,
};

/// Longest sleep: how late a stop or a new schedule may be noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Snapshots that may fail one after the other. From then on the thread counts as standing still: it runs,
/// but nobody learns anything from it.
const FAILURES: u32 = 3;

/// When to do what, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The host, as snapshots name it.
    pub host: Arc<Host>,
    /// Time between snapshots.
    pub interval: Duration,
    /// How much is sampled of guests.
    pub levels: Levels,
    /// Time between full re-discoveries.
    pub discovery_interval: Duration,
    /// Time between readings of what changes slowly.
    pub slow_interval: Duration,
    /// Which parts of the host are read.
    pub host_parts: HostParts,
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
    turns: Arc<AtomicU64>,
    /// Whether a snapshot was delivered; closed when the thread ends.
    has_sampled: watch::Receiver<bool>,
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
        let (sampled, has_sampled) = watch::channel(false);
        let turns = Arc::new(AtomicU64::new(0));
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
            turns: Arc::clone(&turns),
            sampled,
        };
        let thread = Builder::new().name("sampling".into()).spawn(move || work.run())?;
        Ok(Self { thread: Some(thread), stop, schedule: shared, turns, has_sampled })
    }

    /// Changes the schedule; the next snapshot is taken one new interval after the last one, or earlier.
    pub fn reschedule(&self, schedule: Schedule) {
        *self.schedule.lock().unwrap_or_else(PoisonError::into_inner) = schedule;
    }

    /// Time between snapshots, as it was set last.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).interval
    }

    /// How often the thread has attended to its source. This stands still while the thread does, for whatever
    /// reason, and while all that it does fails; else it grows several times a second, however long the
    /// interval is.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Over when the first snapshot was delivered, or when the thread has ended without one: false.
    pub async fn has_sampled(&self) -> bool {
        self.has_sampled.clone().wait_for(|sampled| *sampled).await.is_ok()
    }

    /// Over when the thread has ended: it panicked, where nobody stopped it.
    pub async fn ended(&self) {
        let mut has_sampled = self.has_sampled.clone();
        while has_sampled.changed().await.is_ok() {}
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
    /// Written by this thread alone.
    turns: Arc<AtomicU64>,
    /// Dropped when the thread ends, however it does.
    sampled: watch::Sender<bool>,
}

impl Work {
    fn run(&mut self) {
        let mut discovered = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            if self.rhythm.failed_in_a_row() < FAILURES {
                self.turns.fetch_add(1, Ordering::Relaxed);
            }
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
        let Schedule { interval, levels, host_parts, .. } = *schedule;
        let settings = Settings { interval, levels, host: host_parts };
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
            snapshot.host = Arc::clone(&schedule.host);
            schedule.guests.apply(&mut snapshot);
        }
        self.labelling.apply(&mut snapshot);
        self.sinks.deliver(snapshot);
        self.sampled.send_if_modified(|sampled| !std::mem::replace(sampled, true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::SinkCounts,
        source::fake::{FakeHost, Fault},
    };

    /// Bound of every wait: reached only by a failure.
    const LONG: Duration = Duration::from_secs(30);

    fn start(host_faults: &[Fault], interval: Duration, delay: Duration) -> (FakeHost, Sampling) {
        let (host, source) = FakeHost::new();
        host.faults(host_faults);
        let schedule = Schedule {
            host: Arc::default(),
            host_parts: HostParts::default(),
            interval,
            levels: Levels::default(),
            discovery_interval: LONG,
            slow_interval: LONG,
            nice: priority::get().unwrap(),
            guests: Arc::default(),
        };
        let driver = Driver::new(Box::new(source)).unwrap();
        let sinks = Sinks::new(Vec::new(), SinkCounts::default());
        (host, Sampling::spawn(driver, schedule, delay, sinks).unwrap())
    }

    #[track_caller]
    fn until(what: &str, wanted: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !wanted() {
            assert!(Instant::now() < end, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn turns_are_made_between_snapshots_too() {
        let (_host, sampling) = start(&[], LONG * 10, LONG * 10);
        until("the thread makes turns", || sampling.turns() >= 3);
        assert!(!*sampling.has_sampled.borrow());
    }

    #[test]
    fn a_thread_that_only_fails_makes_no_turns_and_one_that_works_again_does() {
        const FAULTS: usize = 100_000;
        let (host, sampling) = start(&[Fault::Fails; FAULTS], Duration::from_millis(1), Duration::ZERO);
        until("some readings fail", || host.faults_left() <= FAULTS - 10);
        let stood = sampling.turns();
        until("more readings fail", || host.faults_left() <= FAULTS - 30);
        assert_eq!(sampling.turns(), stood);
        host.no_faults();
        until("the thread makes turns again", || sampling.turns() > stood + 3);
        assert!(*sampling.has_sampled.borrow());
    }
}
