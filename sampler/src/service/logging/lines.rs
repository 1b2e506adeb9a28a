//! Lines of the log on their way out: whoever logs never waits for who reads.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Builder},
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// The end that takes lines. Clones share it.
///
/// A thread of its own writes them, for as long as the process lives: so the last line of a stop finds it as
/// well. What finds no room is dropped and counted.
#[derive(Clone, Debug)]
pub struct LogLines {
    queue: SyncSender<Vec<u8>>,
    shared: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Taken, and neither written nor dropped yet.
    waiting: AtomicU64,
    dropped: AtomicU64,
}

/// Lines of the log that were dropped: there was no room for them, or they could not be written.
#[derive(Clone, Debug, Default)]
pub struct DroppedLines(Arc<Counts>);

impl LogLines {
    /// Starts the thread. So many lines may wait for `out`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(out: impl Write + Send + 'static, room: usize) -> io::Result<Self> {
        let (lines, queue) = sync_channel(room);
        let shared = Arc::new(Counts::default());
        let counts = Arc::clone(&shared);
        Builder::new().name("log-lines".into()).spawn(move || counts.write(&queue, out))?;
        Ok(Self { queue: lines, shared })
    }

    /// Takes a line with its end, or drops it and counts. Never waits.
    pub fn put(&self, line: Vec<u8>) {
        // Before the thread can have it: what waits is never less than what there is.
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(line).is_err() {
            self.shared.drop_one();
        }
    }

    /// Counts what is dropped.
    #[must_use]
    pub fn dropped(&self) -> DroppedLines {
        DroppedLines(Arc::clone(&self.shared))
    }

    /// Waits until all is written that was taken, for `at_most` at most. Whether it is.
    pub fn flush(&self, at_most: Duration) -> bool {
        const LOOK: Duration = Duration::from_millis(1);
        let end = Instant::now() + at_most;
        while self.shared.waiting.load(Ordering::Acquire) > 0 {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }
}

impl DroppedLines {
    /// How many, since the log was started.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Counts {
    fn write(&self, queue: &Receiver<Vec<u8>>, mut out: impl Write) {
        for line in queue {
            if out.write_all(&line).and_then(|()| out.flush()).is_ok() {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
            } else {
                self.drop_one();
            }
        }
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// `tracing` writes each of its lines at once.
impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Takes one write for each permit, and fails when there will be no more.
    struct Slow {
        permits: Receiver<()>,
        seen: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_gone| io::ErrorKind::BrokenPipe)?;
            self.seen.send(bytes.to_vec()).map_err(|_gone| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow(room: usize) -> (LogLines, Sender<()>, Receiver<Vec<u8>>) {
        let (permit, permits) = channel();
        let (seen, lines) = channel();
        (LogLines::start(Slow { permits, seen }, room).unwrap(), permit, lines)
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_all_else_is_written_in_order() {
        let (lines, permit, seen) = slow(2);
        (0..6).for_each(|line| lines.put(vec![line]));
        // One may be in the hands of the thread.
        let dropped = lines.dropped().count();
        assert!((3..=4).contains(&dropped), "{dropped}");
        (dropped..6).for_each(|_| permit.send(()).unwrap());
        assert!(lines.flush(LONG));
        let written: Vec<Vec<u8>> = seen.try_iter().collect();
        assert_eq!(written.len() as u64, 6 - dropped);
        assert!(written[0] == [0] && written.is_sorted(), "{written:?}");
        assert_eq!(lines.dropped().count(), dropped);
    }

    #[test]
    fn a_flush_is_over_in_time_whether_or_not_somebody_reads() {
        let (lines, permit, seen) = slow(2);
        lines.put(vec![1]);
        let begin = Instant::now();
        assert!(!lines.flush(Duration::from_millis(50)));
        assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
        permit.send(()).unwrap();
        assert!(lines.flush(LONG) && seen.recv().unwrap() == [1]);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_is_tried() {
        let (lines, permit, _seen) = slow(4);
        drop(permit);
        (0..3).for_each(|line| lines.put(vec![line]));
        assert!(lines.flush(LONG), "nothing waits any more");
        assert_eq!(lines.dropped().count(), 3);
    }
}
