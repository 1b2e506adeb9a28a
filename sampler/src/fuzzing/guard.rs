//! Inputs that run for ever.

use std::{
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::seeds::Seeds;

/// An input takes microseconds; on a machine that is busy with other things, seconds. No input that ends
/// takes as long as this.
const FOR_EVER: Duration = Duration::from_secs(120);

/// What is running, and since when.
type Running = Mutex<Option<(Instant, Vec<u8>)>>;

/// Watches inputs from another thread. Nothing can end a thread that runs for ever: the process ends, and
/// the input is kept.
pub(super) struct Guard(Arc<Running>);

impl Guard {
    pub(super) fn of(seeds: &Seeds) -> Self {
        let running: Arc<Running> = Arc::default();
        let (watched, seeds) = (Arc::downgrade(&running), seeds.clone());
        thread::spawn(move || {
            while let Some(running) = watched.upgrade() {
                if let Some((_, input)) = lock(&running).take_if(|(since, _)| since.elapsed() > FOR_EVER) {
                    let at = seeds.keep(&input);
                    eprintln!("an input does not end; it is kept as {}", at.display());
                    process::abort();
                }
                drop(running);
                thread::sleep(Duration::from_secs(1));
            }
        });
        Self(running)
    }

    pub(super) fn begin(&self, input: &[u8]) {
        *lock(&self.0) = Some((Instant::now(), input.to_vec()));
    }

    pub(super) fn end(&self) {
        *lock(&self.0) = None;
    }
}

fn lock(running: &Running) -> MutexGuard<'_, Option<(Instant, Vec<u8>)>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
