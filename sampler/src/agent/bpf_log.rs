//! Messages of the eBPF programs, carried to this process's log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;

/// Time between two looks at the ring of messages.
const PERIOD: Duration = Duration::from_millis(100);

/// The thread that carries the messages; nothing runs when the level is off.
#[derive(Debug, Default)]
pub struct BpfLog {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl BpfLog {
    /// Starts carrying messages, unless `level` is 0, at which the programs write none.
    ///
    /// # Errors
    /// When the programs have no ring of messages, or no thread can be started.
    pub fn start(ebpf: &mut Ebpf, level: u8) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        if level == 0 {
            return Ok(Self { thread: None, stop });
        }
        let mut logger = EbpfLogger::init(ebpf).context("reading the eBPF programs' messages")?;
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
