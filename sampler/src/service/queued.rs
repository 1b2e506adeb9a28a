//! A sink with a thread of its own behind a bounded queue: what it does may wait for as long as it likes.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::Builder,
};

use crate::{agent::Sink, model::Snapshot};

/// The end that takes snapshots. What it has taken is worked on even after it is dropped.
pub(super) struct Queued {
    name: &'static str,
    snapshots: SyncSender<Arc<Snapshot>>,
    dropped: u64,
}

impl Queued {
    /// Starts the thread. So many snapshots may wait; once `work` has returned all others are dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        name: &'static str,
        room: usize,
        work: impl FnOnce(Receiver<Arc<Snapshot>>) + Send + 'static,
    ) -> io::Result<Self> {
        let (snapshots, queue) = sync_channel(room);
        Builder::new().name(name.into()).spawn(move || work(queue))?;
        Ok(Self { name, snapshots, dropped: 0 })
    }
}

impl Sink for Queued {
    fn name(&self) -> &'static str {
        self.name
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        self.dropped += u64::from(self.snapshots.try_send(snapshot).is_err());
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{RecvTimeoutError, channel},
        time::Duration,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn snapshot(at_unix_ns: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot { at_unix_ns, ..Snapshot::default() })
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (permit, permits) = channel::<()>();
        let (seen, times) = channel();
        let mut queued = Queued::start("slow", 2, move |queue| {
            for snapshot in queue {
                permits.recv().unwrap();
                seen.send(snapshot.at_unix_ns).unwrap();
            }
        })
        .unwrap();
        (0..6).for_each(|time| queued.offer(snapshot(time)));
        // One may have been taken out of the queue by then.
        let dropped = queued.dropped();
        assert!((3..=4).contains(&dropped), "{dropped}");
        drop(queued);
        (dropped..6).for_each(|_| permit.send(()).unwrap());
        let worked_on: Vec<u64> = (dropped..6).map(|_| times.recv_timeout(LONG).unwrap()).collect();
        assert!(worked_on[0] == 0 && worked_on.is_sorted(), "{worked_on:?}");
        assert!(times.recv_timeout(LONG).is_err(), "nothing else was worked on");
    }

    #[test]
    fn a_thread_that_has_ended_drops_all() {
        let (ended, end) = channel::<()>();
        let mut queued = Queued::start("gone", 2, move |queue| drop((queue, ended))).unwrap();
        assert_eq!(end.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        queued.offer(snapshot(1));
        assert_eq!(queued.dropped(), 1);
    }
}
