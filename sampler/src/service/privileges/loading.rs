//! The thread that loads.

use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};

type Work = Box<dyn FnOnce() + Send>;

/// A thread that has what its starter had when it was started. It does one thing, and ends.
#[derive(Debug)]
pub(super) struct Loading {
    work: SyncSender<Work>,
    thread: JoinHandle<()>,
}

impl Loading {
    pub(super) fn spawn() -> io::Result<Self> {
        let (work, waiting) = sync_channel::<Work>(1);
        let thread = Builder::new().name("loading".into()).spawn(move || {
            // Nothing comes where the service does not get that far.
            if let Ok(work) = waiting.recv() {
                work();
            }
        })?;
        Ok(Self { work, thread })
    }

    /// Does it there. The thread has ended when this returns.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (done, result) = sync_channel(1);
        // Where the thread is gone nothing is done, and the result says so.
        let _ = self.work.send(Box::new(move || drop(done.send(work()))));
        let ended = self.thread.join();
        match (ended, result.try_recv()) {
            (Ok(()), Ok(result)) => Ok(result),
            _ => Err(io::Error::other("the thread that loads panicked")),
        }
    }
}
