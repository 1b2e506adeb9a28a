//! Messages of the eBPF programs, carried to this process's log.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crate::load::Messages;

/// Time between two looks at the ring of messages.
const PERIOD: Duration = Duration::from_millis(100);

/// The thread that carries the messages; nothing runs when the level is off.
#[derive(Debug, Default)]
pub struct BpfLog {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl BpfLog {
    /// Starts carrying messages, where the programs write any.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(messages: Option<Messages>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let Some(mut logger) = messages else { return Ok(Self { thread: None, stop }) };
        let stopped = Arc::clone(&stop);
        let carry = move || {
            while !stopped.load(Ordering::Acquire) {
                logger.flush();
                std::thread::sleep(PERIOD);
            }
            logger.flush();
        };
        Ok(Self { thread: Some(Builder::new().name("bpf-log".into()).spawn(carry)?), stop })
    }
}

impl Drop for BpfLog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that carries the eBPF programs' messages panicked");
        }
    }
}
