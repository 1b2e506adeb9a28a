//! Lines of the log on their way out: whoever logs never waits for who reads.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, Builder},
    time::{Duration, Instant},
};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::{
    entry::entry,
    limits::{LeftOut, Limits},
};

/// Time between two moments at which it is said what was left out.
const NEWS: Duration = Duration::from_secs(10);

/// The form in which lines wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text with its end.
    Text,
    /// An entry of the journal.
    Journal,
}

/// The end that takes lines. Clones share it.
///
/// A thread of its own writes them, for as long as the process lives: so the last line of a stop finds it as
/// well. What finds no room is dropped and counted.
#[derive(Clone, Debug)]
pub struct LogLines {
    queue: SyncSender<Vec<u8>>,
    shared: Arc<Counts>,
    form: Form,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Counts {
    /// Taken, and neither written nor dropped yet.
    waiting: AtomicU64,
    dropped: AtomicU64,
}

/// Lines of the log that are missing.
#[derive(Clone, Debug)]
pub struct MissingLines {
    shared: Arc<Counts>,
    limits: Limits,
}

impl LogLines {
    /// Starts the thread. So many lines of this form may wait for `out`. What `limits` leave out it says from
    /// time to time.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        room: usize,
        form: Form,
        limits: Limits,
    ) -> io::Result<Self> {
        let (lines, queue) = sync_channel(room);
        let shared = Arc::new(Counts::default());
        let (counts, unsaid) = (Arc::clone(&shared), limits.clone());
        let news = move || unsaid.take_unsaid().iter().map(|left_out| form.left_out(left_out)).collect();
        Builder::new().name("log-lines".into()).spawn(move || counts.write(&queue, out, news))?;
        Ok(Self { queue: lines, shared, form, limits })
    }

    /// Takes a line that is no event, without its end; as [`Self::put`].
    pub fn say(&self, level: Level, line: &str) {
        self.put(self.form.line(level, line));
    }

    /// Takes a line in its form, or drops it and counts. Never waits.
    pub(super) fn put(&self, line: Vec<u8>) {
        // Before the thread can have it: what waits is never less than what there is.
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(line).is_err() {
            self.shared.drop_one();
        }
    }

    /// Counts what is missing.
    #[must_use]
    pub fn missing(&self) -> MissingLines {
        MissingLines { shared: Arc::clone(&self.shared), limits: self.limits.clone() }
    }

    /// Says what was left out, and waits until all is written that was taken, for `at_most` at most. Whether
    /// it is.
    pub fn flush(&self, at_most: Duration) -> bool {
        const LOOK: Duration = Duration::from_millis(1);
        self.limits.take_unsaid().iter().for_each(|left_out| self.put(self.form.left_out(left_out)));
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

impl MissingLines {
    /// Those that were dropped since the log was started: there was no room for them, or they could not be
    /// written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Those that were left out because their place in the code logged too often.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.limits.left_out()
    }
}

impl Form {
    fn line(self, level: Level, line: &str) -> Vec<u8> {
        match self {
            Self::Text => format!("{line}\n").into(),
            Self::Journal => entry(level, line),
        }
    }

    fn left_out(self, LeftOut { lines, like }: &LeftOut) -> Vec<u8> {
        let line = format!("{lines} lines were left out, for there were too many of them, like {like:?}");
        self.line(Level::WARN, &line)
    }
}

impl Counts {
    /// Writes what comes, and the news when it is time for them, until nothing can come any more.
    fn write(&self, queue: &Receiver<Vec<u8>>, mut out: impl Write, news: impl Fn() -> Vec<Vec<u8>>) {
        let mut due = Instant::now() + NEWS;
        loop {
            match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(line) if write(&mut out, &line) => {
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                }
                Ok(_) => self.drop_one(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= due {
                due = Instant::now() + NEWS;
                for line in news() {
                    self.dropped.fetch_add(u64::from(!write(&mut out, &line)), Ordering::Relaxed);
                }
            }
        }
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether it was written.
fn write(out: &mut impl Write, line: &[u8]) -> bool {
    out.write_all(line).and_then(|()| out.flush()).is_ok()
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

    use tracing_subscriber::layer::SubscriberExt as _;

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
        let out = Slow { permits, seen };
        (LogLines::start(out, room, Form::Text, Limits::default()).unwrap(), permit, lines)
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_all_else_is_written_in_order() {
        let (lines, permit, seen) = slow(2);
        (0..6).for_each(|line| lines.put(vec![line]));
        // One may be in the hands of the thread.
        let dropped = lines.missing().dropped();
        assert!((3..=4).contains(&dropped), "{dropped}");
        (dropped..6).for_each(|_| permit.send(()).unwrap());
        assert!(lines.flush(LONG));
        let written: Vec<Vec<u8>> = seen.try_iter().collect();
        assert_eq!(written.len() as u64, 6 - dropped);
        assert!(written[0] == [0] && written.is_sorted(), "{written:?}");
        assert_eq!(lines.missing().dropped(), dropped);
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
        assert_eq!(lines.missing().dropped(), 3);
    }

    #[test]
    fn what_was_left_out_is_said_at_the_end_at_the_latest() {
        let (permit, permits) = channel();
        let (seen, written) = channel();
        let limits = Limits::default();
        let out = Slow { permits, seen };
        let lines = LogLines::start(out, 4, Form::Text, limits.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(limits);
        let left_out = tracing::subscriber::with_default(subscriber, || {
            let mut logged = 0_u64;
            while lines.missing().left_out() < 3 {
                tracing::info!("again");
                logged += 1;
                assert!(logged < 100_000, "nothing is left out");
            }
            lines.missing().left_out()
        });
        permit.send(()).unwrap();
        assert!(lines.flush(LONG));
        let line = String::from_utf8(written.recv().unwrap()).unwrap();
        let expected = "lines were left out, for there were too many of them, like \"again\"\n";
        assert_eq!(line, format!("{left_out} {expected}"));
        assert!(lines.flush(LONG) && written.try_recv().is_err(), "it is said once");
    }
}
