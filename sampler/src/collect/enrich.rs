//! Asking what guests and processes are called, away from the sampling thread.
//!
//! Reading another process's command line takes that process's memory lock, and a VMM that hangs may hold it
//! for ever. So the questions are asked by workers of their own behind a bounded queue: a hung VMM costs one
//! worker, and a guest whose answer does not come is shown under its process's identity.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
};

/// Questions that may wait. More guests than that cannot be born in the time that one answer takes, unless a
/// worker hangs.
const QUEUE: usize = 4096;
/// Two, so that one hung VMM does not keep the names of all others away.
const WORKERS: usize = 2;

/// Asks questions of type `Q`, such as which VM, for answers of type `A`.
#[derive(Debug)]
pub struct Enricher<Q, A> {
    questions: SyncSender<Q>,
    answers: Receiver<(Q, A)>,
    /// Asked and not answered yet.
    waiting: HashSet<Q>,
    refused: u64,
}

impl<Q: Copy + Eq + Hash + Send + 'static, A: Send + 'static> Enricher<Q, A> {
    /// Starts the workers. They end when this value is dropped and their question at hand is answered.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(ask: impl Fn(Q) -> A + Send + Sync + 'static) -> std::io::Result<Self> {
        let (questions, queue) = sync_channel(QUEUE);
        let (results, answers) = channel();
        let (queue, ask) = (Arc::new(Mutex::new(queue)), Arc::new(ask));
        for n in 0..WORKERS {
            let (queue, ask, results) = (Arc::clone(&queue), Arc::clone(&ask), results.clone());
            thread::Builder::new()
                .name(format!("enrich-{n}"))
                .spawn(move || work(&queue, &*ask, &results))?;
        }
        Ok(Self { questions, answers, waiting: HashSet::new(), refused: 0 })
    }

    /// Asks; never waits. A question that is not answered yet is not asked again, so that a guest that hangs
    /// costs one worker however often it is asked about. When the queue is full the question is dropped and
    /// counted, and this returns false.
    pub fn ask(&mut self, question: Q) -> bool {
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

fn work<Q: Copy, A>(queue: &Mutex<Receiver<Q>>, ask: &(impl Fn(Q) -> A + ?Sized), results: &Sender<(Q, A)>) {
    loop {
        // The lock is held while waiting, which only makes the other idle worker wait for its turn.
        let question = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(question) = question else { return };
        if results.send((question, ask(question))).is_err() {
            return;
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
