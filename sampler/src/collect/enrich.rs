//! Asking what guests and processes are called, away from the sampling thread.
//!
//! Reading another process's command line takes that process's memory lock, and a VMM that hangs may hold it
//! for ever. So the questions are asked by workers of their own behind a bounded queue: a hung VMM costs one
//! worker, and a guest whose answer does not come is shown under its process's identity. Where all workers
//! seem to hang and others wait, there is one more, up to a bound.

use std::{
    collections::HashSet,
    hash::Hash,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::kernel::priority;

/// Questions that may wait: what changes slowly is asked of all guests at once, some questions of each, and
/// there may be 2,000 guests.
const QUEUE: usize = 8192;
/// Two, so that one hung VMM does not keep the names of all others away for a moment.
const WORKERS: usize = 2;
/// So many VMMs may hang.
const MAX_WORKERS: usize = 16;
/// Time in which nobody has taken a question that waits, after which all workers are taken to hang. An answer
/// takes some microseconds, on a starved host milliseconds.
const HUNG: Duration = Duration::from_secs(1);

/// Asks questions of type `Q`, such as which VM, for answers of type `A`.
pub struct Enricher<Q, A> {
    questions: SyncSender<Q>,
    answers: Receiver<(Q, A)>,
    /// Asked and not answered yet.
    waiting: HashSet<Q>,
    refused: u64,
    crew: Arc<Crew<Q, A>>,
    workers: usize,
    /// The nice value of the thread that started the workers, which those that come later have too.
    nice: Option<i32>,
    /// Questions that had been taken at a look, and when that was another number.
    taken: (u64, Instant),
    hung: Duration,
    /// All workers that there can be hang, and that was said.
    is_exhausted: bool,
}

/// What the workers share.
struct Crew<Q, A> {
    queue: Mutex<Receiver<Q>>,
    results: Sender<(Q, A)>,
    taken: AtomicU64,
    ask: Box<dyn Fn(Q) -> A + Send + Sync>,
}

impl<Q: Copy + Eq + Hash + Send + 'static, A: Send + 'static> Enricher<Q, A> {
    /// Starts the workers. They end when this value is dropped and their question at hand is answered.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(ask: impl Fn(Q) -> A + Send + Sync + 'static) -> io::Result<Self> {
        let (questions, queue) = sync_channel(QUEUE);
        let (results, answers) = channel();
        let crew = Crew { queue: Mutex::new(queue), results, taken: AtomicU64::new(0), ask: Box::new(ask) };
        let mut enricher = Self {
            questions,
            answers,
            waiting: HashSet::new(),
            refused: 0,
            crew: Arc::new(crew),
            workers: 0,
            nice: priority::get().ok(),
            taken: (0, Instant::now()),
            hung: HUNG,
            is_exhausted: false,
        };
        (0..WORKERS).try_for_each(|_| enricher.add_worker())?;
        Ok(enricher)
    }

    fn add_worker(&mut self) -> io::Result<()> {
        let (crew, nice) = (Arc::clone(&self.crew), self.nice);
        thread::Builder::new().name(format!("enrich-{}", self.workers)).spawn(move || {
            // The thread that asks may have another priority by now.
            if let Some(nice) = nice
                && let Err(error) = priority::set(nice)
            {
                tracing::debug!(%error, "a thread that asks for names keeps its priority");
            }
            crew.work();
        })?;
        self.workers += 1;
        Ok(())
    }

    /// One worker more, where all seem to hang while questions wait.
    fn replace_hung(&mut self) {
        let taken = self.crew.taken.load(Ordering::Relaxed);
        let is_stuck = taken == self.taken.0 && self.waiting.len() > self.workers;
        if !is_stuck {
            self.taken = (taken, Instant::now());
            self.is_exhausted = false;
        } else if self.taken.1.elapsed() >= self.hung {
            self.taken.1 = Instant::now();
            if self.workers == MAX_WORKERS {
                self.report_exhausted();
                return;
            }
            tracing::warn!(
                hung = self.workers,
                waiting = self.waiting.len(),
                "VMMs do not answer what their guests are called; others are asked all the same"
            );
            if let Err(error) = self.add_worker() {
                tracing::warn!(%error, "no thread can be started that asks what guests are called");
            }
        }
    }

    /// Says once that nobody is left who could answer.
    fn report_exhausted(&mut self) {
        if !std::mem::replace(&mut self.is_exhausted, true) {
            tracing::error!(
                hung = self.workers,
                waiting = self.waiting.len(),
                "so many VMMs do not answer that new guests are shown without names; end those that hang"
            );
        }
    }

    /// Asks; never waits. A question that is not answered yet is not asked again, so that a guest that hangs
    /// costs one worker however often it is asked about. When the queue is full the question is dropped and
    /// counted, and this returns false.
    pub fn ask(&mut self, question: Q) -> bool {
        self.replace_hung();
        if self.waiting.contains(&question) {
            return true;
        }
        match self.questions.try_send(question) {
            Ok(()) => {
                self.waiting.insert(question);
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.refused += 1;
                false
            }
        }
    }

    /// The answers that came since the last call; never waits.
    pub fn answers(&mut self) -> impl Iterator<Item = (Q, A)> + '_ {
        self.replace_hung();
        let Self { answers, waiting, .. } = self;
        answers.try_iter().inspect(|(question, _)| {
            waiting.remove(question);
        })
    }

    /// Questions that found the queue full.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Questions without an answer yet. One that stays is a VMM that hangs.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }
}

impl<Q: Copy, A> Crew<Q, A> {
    /// Answers questions until nobody asks any more.
    fn work(&self) {
        loop {
            // The lock is held while waiting, which only makes the other idle workers wait for their turn.
            let question = match self.queue.lock() {
                Ok(queue) => queue.recv(),
                Err(_) => return,
            };
            let Ok(question) = question else { return };
            self.taken.fetch_add(1, Ordering::Relaxed);
            if self.results.send((question, (self.ask)(question))).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::channel,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::model::VmKey;

    fn key(pid: u32) -> VmKey {
        VmKey::new([pid.into(), 1])
    }

    fn collect(enricher: &mut Enricher<VmKey, u32>, want: usize) -> Vec<u32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut got = Vec::new();
        while got.len() < want && Instant::now() < deadline {
            got.extend(enricher.answers().map(|(_, pid)| pid));
            thread::sleep(Duration::from_millis(1));
        }
        got.sort_unstable();
        got
    }

    #[test]
    fn a_hung_guest_does_not_keep_the_others_waiting() {
        let (release, hung) = channel::<()>();
        let hung = Mutex::new(hung);
        let mut enricher = Enricher::start(move |vm: VmKey| {
            if vm.content()[0] == 1 {
                let _ = hung.lock().unwrap().recv();
            }
            vm.content()[0] as u32
        })
        .unwrap();
        // However often the one that hangs is asked about: it holds one worker.
        for pid in [1, 1, 1].into_iter().chain(2..=50) {
            enricher.ask(key(pid));
        }
        assert_eq!(collect(&mut enricher, 49), (2..=50).collect::<Vec<_>>());
        assert_eq!(enricher.waiting(), 1);
        release.send(()).unwrap();
        assert_eq!(collect(&mut enricher, 1), [1]);
        assert_eq!(enricher.waiting(), 0);
    }

    #[test]
    fn guests_that_hang_do_not_keep_the_others_waiting_however_many() {
        let (release, hung) = channel::<()>();
        let hung = Mutex::new(hung);
        let mut enricher = Enricher::start(move |vm: VmKey| {
            if vm.content()[0] <= 5 {
                let _ = hung.lock().unwrap().recv();
            }
            vm.content()[0] as u32
        })
        .unwrap();
        enricher.hung = Duration::from_millis(5);
        for pid in 1..=50 {
            enricher.ask(key(pid));
        }
        assert_eq!(collect(&mut enricher, 45), (6..=50).collect::<Vec<_>>());
        assert_eq!((enricher.waiting(), enricher.workers), (5, 6), "one for each that hangs, and one");
        (0..5).for_each(|_| release.send(()).unwrap());
        assert_eq!(collect(&mut enricher, 5), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_full_queue_refuses_and_counts() {
        let (release, hung) = channel::<()>();
        let hung = Mutex::new(hung);
        let mut enricher = Enricher::start(move |vm: VmKey| {
            let _ = hung.lock().unwrap().recv();
            vm.content()[0] as u32
        })
        .unwrap();
        for pid in 0..QUEUE as u32 + 10 {
            enricher.ask(key(pid));
        }
        assert!((8..=10).contains(&enricher.refused()), "{}", enricher.refused());
        drop(release);
    }
}
