//! The agent at work in this process, as the service has it: a thread that samples, and others that answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hvsampler::agent::{Driver, Sampling, Schedule, Sink, SinkCounts, Sinks};
use hvsampler::config::DEFAULT_NICE;
use hvsampler::model::{HostParts, Levels, Snapshot};
use hvsampler::source::Source;

/// Time for what is awaited.
const PATIENCE: Duration = Duration::from_secs(90);
/// Snapshots that may wait for the test.
const ROOM: usize = 64;

/// Samples at such an interval, and asks for nothing again as long as a test takes.
pub(super) fn schedule(interval: Duration) -> Schedule {
    Schedule {
        host: Arc::default(),
        guests: Arc::default(),
        interval,
        levels: Levels::DEFAULT,
        discovery_interval: Duration::from_secs(600),
        slow_interval: Duration::from_secs(600),
        host_parts: HostParts::default(),
        nice: DEFAULT_NICE,
    }
}

/// Begins to sample.
pub(super) fn sample(
    source: Box<dyn Source>,
    schedule: Schedule,
    sinks: Vec<Box<dyn Sink>>,
) -> anyhow::Result<Sampling> {
    let sinks = Sinks::new(sinks, SinkCounts::default());
    Ok(Sampling::spawn(Driver::new(source)?, schedule, Duration::ZERO, sinks)?)
}

/// An agent that hands its snapshots to the test.
pub(super) struct Agent {
    sampling: Sampling,
    snapshots: Receiver<Arc<Snapshot>>,
}

impl Agent {
    pub(super) fn start(source: impl Source + 'static, schedule: Schedule) -> anyhow::Result<Self> {
        let (sender, snapshots) = sync_channel(ROOM);
        let sampling = sample(Box::new(source), schedule, vec![Box::new(ToTest { sender, dropped: 0 })])?;
        Ok(Self { sampling, snapshots })
    }

    /// The next snapshot.
    pub(super) fn next(&self) -> anyhow::Result<Arc<Snapshot>> {
        self.snapshots.recv_timeout(PATIENCE).context("no snapshot comes")
    }

    /// The first snapshot from now on that is such.
    pub(super) fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Snapshot) -> bool,
    ) -> anyhow::Result<Arc<Snapshot>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.next()?;
            if holds(&snapshot) {
                return Ok(snapshot);
            }
            ensure!(Instant::now() < end, "it is not so that {what}: {:?}", snapshot.sampler);
        }
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        Ok(self.sampling.stop()?)
    }
}

struct ToTest {
    sender: SyncSender<Arc<Snapshot>>,
    dropped: u64,
}

impl Sink for ToTest {
    fn name(&self) -> &'static str {
        "test"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        self.dropped += u64::from(self.sender.try_send(snapshot).is_err());
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}
