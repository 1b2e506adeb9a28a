//! Where snapshots go: a list of sinks, each of which gets every snapshot.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::model::{SamplerStats, Snapshot};

/// Takes snapshots. It is called on the sampling thread: what takes time, or may wait, it does on a thread of
/// its own behind a bounded queue.
pub trait Sink: Send {
    /// What it is called in the log and in the sampler's own telemetry.
    fn name(&self) -> &'static str;

    /// Takes a snapshot, or drops it and counts. Never waits.
    fn offer(&mut self, snapshot: Arc<Snapshot>);

    /// Snapshots dropped so far.
    fn dropped(&self) -> u64;
}

/// All sinks.
pub struct Sinks {
    entries: Vec<Entry>,
    counts: SinkCounts,
    report: Report,
}

/// Adds what others have counted.
type Report = Box<dyn Fn(&mut SamplerStats) + Send>;

struct Entry {
    name: &'static str,
    /// Absent once it has panicked.
    sink: Option<Box<dyn Sink>>,
    dropped: u64,
}

/// What each sink has dropped, to be read by any thread.
#[derive(Clone, Debug, Default)]
pub struct SinkCounts(Arc<OnceLock<Vec<(&'static str, AtomicU64)>>>);

impl SinkCounts {
    /// Each sink with the snapshots that it has dropped.
    #[must_use]
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.get().into_iter().flatten();
        counts.map(|(name, dropped)| (*name, dropped.load(Ordering::Relaxed))).collect()
    }

    fn write(&self, entries: &[Entry]) {
        let counts =
            self.0.get_or_init(|| entries.iter().map(|entry| (entry.name, AtomicU64::new(0))).collect());
        for ((_, count), entry) in counts.iter().zip(entries) {
            count.store(entry.dropped, Ordering::Relaxed);
        }
    }
}

impl Sinks {
    /// Sinks in the order in which they get a snapshot. `counts` are written after each one.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn Sink>>, counts: SinkCounts) -> Self {
        let entries = sinks.into_iter().map(|sink| Entry { name: sink.name(), sink: Some(sink), dropped: 0 });
        let sinks = Self { entries: entries.collect(), counts, report: Box::new(|_| {}) };
        sinks.counts.write(&sinks.entries);
        sinks
    }

    /// The same beside others that count: the log the lines that it drops, the audit what came of it.
    #[must_use]
    pub fn beside(self, report: impl Fn(&mut SamplerStats) + Send + 'static) -> Self {
        Self { report: Box::new(report), ..self }
    }

    /// Hands a snapshot to each sink. In it is what they had dropped, and others had counted, before.
    pub fn deliver(&mut self, mut snapshot: Snapshot) {
        snapshot.sampler.snapshots_dropped = self.entries.iter().map(|entry| entry.dropped).sum();
        snapshot.sampler.sinks_failed =
            self.entries.iter().filter(|entry| entry.sink.is_none()).count() as u64;
        (self.report)(&mut snapshot.sampler);
        let snapshot = Arc::new(snapshot);
        for entry in &mut self.entries {
            entry.offer(&snapshot);
        }
        self.counts.write(&self.entries);
    }
}

impl Entry {
    /// A sink that panics is in no state to go on: it gets nothing more, which counts as dropped.
    fn offer(&mut self, snapshot: &Arc<Snapshot>) {
        let before = self.dropped;
        if let Some(sink) = &mut self.sink {
            let offered = catch_unwind(AssertUnwindSafe(|| {
                sink.offer(Arc::clone(snapshot));
                sink.dropped()
            }));
            match offered {
                Ok(dropped) => self.dropped = dropped,
                Err(panic) => self.give_up(panic.as_ref()),
            }
        }
        if self.sink.is_none() {
            self.dropped += 1;
        } else if before == 0 && self.dropped > 0 {
            tracing::warn!(
                sink = self.name,
                "a sink does not keep up; the snapshots that it drops are counted in snapshots_dropped"
            );
        }
    }

    fn give_up(&mut self, panic: &(dyn Any + Send)) {
        let reason = panic.downcast_ref::<&str>().copied();
        let reason = reason.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(
            sink = self.name,
            reason = reason.unwrap_or("unknown"),
            "a sink panicked and gets no more snapshots; the others do"
        );
        let sink = self.sink.take();
        // What it holds may be in no state to be dropped either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(sink)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Passes on, drops or panics, as each snapshot's time says.
    struct Moody {
        taken: Sender<Arc<Snapshot>>,
        dropped: u64,
    }

    const DROP: u64 = 1000;
    const PANIC: u64 = 2000;

    impl Sink for Moody {
        fn name(&self) -> &'static str {
            "moody"
        }

        fn offer(&mut self, snapshot: Arc<Snapshot>) {
            match snapshot.at_unix_ns {
                DROP => self.dropped += 1,
                PANIC => panic!("as asked"),
                _ => self.taken.send(snapshot).unwrap(),
            }
        }

        fn dropped(&self) -> u64 {
            self.dropped
        }
    }

    struct Steady(Sender<Arc<Snapshot>>);

    impl Sink for Steady {
        fn name(&self) -> &'static str {
            "steady"
        }

        fn offer(&mut self, snapshot: Arc<Snapshot>) {
            self.0.send(snapshot).unwrap();
        }

        fn dropped(&self) -> u64 {
            0
        }
    }

    fn two() -> (Sinks, SinkCounts, [Receiver<Arc<Snapshot>>; 2]) {
        let ((to_moody, moody), (to_steady, steady)) = (channel(), channel());
        let counts = SinkCounts::default();
        let list: Vec<Box<dyn Sink>> =
            vec![Box::new(Moody { taken: to_moody, dropped: 0 }), Box::new(Steady(to_steady))];
        (Sinks::new(list, counts.clone()), counts, [moody, steady])
    }

    fn at(at_unix_ns: u64) -> Snapshot {
        Snapshot { at_unix_ns, ..Snapshot::default() }
    }

    #[test]
    fn each_gets_each_snapshot_and_drops_are_counted_by_sink() {
        let (mut sinks, counts, [moody, steady]) = two();
        assert_eq!(counts.read(), [("moody", 0), ("steady", 0)]);
        [1, DROP, 2].into_iter().for_each(|time| sinks.deliver(at(time)));
        assert_eq!(counts.read(), [("moody", 1), ("steady", 0)]);
        assert_eq!(moody.try_iter().map(|snapshot| snapshot.at_unix_ns).collect::<Vec<_>>(), [1, 2]);
        let steady: Vec<_> = steady
            .try_iter()
            .map(|snapshot| (snapshot.at_unix_ns, snapshot.sampler.snapshots_dropped))
            .collect();
        assert_eq!(steady, [(1, 0), (DROP, 0), (2, 1)]);
    }

    #[test]
    fn a_sink_that_panics_keeps_nothing_from_the_others() {
        let (mut sinks, counts, [moody, steady]) = two();
        [1, PANIC, 2, 3].into_iter().for_each(|time| sinks.deliver(at(time)));
        assert_eq!(moody.try_iter().count(), 1);
        let failed: Vec<_> = steady.try_iter().map(|snapshot| snapshot.sampler.sinks_failed).collect();
        assert_eq!(failed, [0, 0, 1, 1]);
        assert_eq!(counts.read(), [("moody", 3), ("steady", 0)]);
    }
}
