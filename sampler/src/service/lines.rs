//! Every snapshot as a line of JSON on standard output.

use std::{
    io::{self, Write},
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use tokio::sync::oneshot;

use super::queued::Queued;
use crate::{export::json, model::Snapshot};

/// Snapshots that may wait for the reader of standard output.
const MAX_PENDING_SNAPSHOTS: usize = 64;

/// Waits for what is still to be written.
pub(super) struct Unwritten {
    finished: oneshot::Receiver<()>,
    is_over: bool,
}

/// Starts a thread that writes: a reader that does not read must not hold the sampling.
pub(super) fn start() -> io::Result<(Queued, Unwritten)> {
    to(io::stdout())
}

fn to(out: impl Write + Send + 'static) -> io::Result<(Queued, Unwritten)> {
    let (finish, finished) = oneshot::channel();
    let lines = Queued::start("json", MAX_PENDING_SNAPSHOTS, move |queue| {
        match write(&queue, out) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::info!("nobody reads standard output any more");
            }
            Err(error) => tracing::warn!(%error, "standard output takes no more snapshots"),
        }
        // First, so that whoever has waited for the end finds that nothing is taken any more.
        drop(queue);
        let _ = finish.send(());
    })?;
    Ok((lines, Unwritten { finished, is_over: false }))
}

impl Unwritten {
    /// Waits until nothing is written any more: the reader has left, or the sink was dropped and all is
    /// written.
    pub(super) async fn over(&mut self) {
        if !self.is_over {
            let _ = (&mut self.finished).await;
            self.is_over = true;
        }
    }

    /// Waits until everything is written, for `deadline` at most. The sink must have been dropped.
    pub(super) async fn wait(mut self, deadline: Duration) {
        if tokio::time::timeout(deadline, self.over()).await.is_err() {
            tracing::warn!("standard output is not read; the last snapshots are missing there");
        }
    }
}

fn write(queue: &Receiver<Arc<Snapshot>>, mut out: impl Write) -> io::Result<()> {
    let mut lines = json::Lines::default();
    while let Ok(snapshot) = queue.recv() {
        out.write_all(lines.next(snapshot)?)?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::agent::Sink as _;

    const LONG: Duration = Duration::from_secs(20);

    /// A standard output whose reader takes one write for each permit, and is gone when there are no more.
    struct Slow {
        permits: Receiver<()>,
        seen: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_gone| io::ErrorKind::BrokenPipe)?;
            self.seen.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Slow, mpsc::Sender<()>, Receiver<Vec<u8>>) {
        let (permit, permits) = mpsc::channel();
        let (seen, lines) = mpsc::channel();
        (Slow { permits, seen }, permit, lines)
    }

    fn snapshot(at_unix_ns: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot { at_unix_ns, ..Snapshot::default() })
    }

    #[tokio::test]
    async fn a_reader_that_stalls_costs_snapshots_that_are_counted_and_no_time() {
        let (out, permit, seen) = slow();
        let (mut lines, unwritten) = to(out).unwrap();
        // One is in the hands of the thread, perhaps; the rest fills the queue.
        let offered = MAX_PENDING_SNAPSHOTS as u64 + 10;
        (0..offered).for_each(|at| lines.offer(snapshot(at)));
        let skipped = lines.dropped();
        assert!((9..=10).contains(&skipped), "{skipped}");
        drop(lines);
        (0..offered).for_each(|_| permit.send(()).unwrap());
        unwritten.wait(LONG).await;
        let written: Vec<serde_json::Value> =
            seen.try_iter().map(|line| serde_json::from_slice(&line).unwrap()).collect();
        let times: Vec<u64> = written.iter().map(|line| line["at_unix_ns"].as_u64().unwrap()).collect();
        // Which ones were skipped depends on when the thread takes its first.
        assert_eq!(times.len() as u64, offered - skipped);
        assert!(times[0] == 0 && times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
        assert!(written.iter().all(|line| line["schema"] == json::SNAPSHOT_SCHEMA));
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_counted_too() {
        let (out, permit, _seen) = slow();
        let (mut lines, mut unwritten) = to(out).unwrap();
        drop(permit);
        lines.offer(snapshot(1));
        unwritten.over().await;
        unwritten.wait(LONG).await;
        lines.offer(snapshot(2));
        assert_eq!(lines.dropped(), 1);
    }
}
