//! One vCPU that several threads run in turn, as pools of threads do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;

use super::error::VmmError;
use super::turns::{enter, vm};

/// Whichever vCPU it is.
const VCPU: u32 = 0;

/// The threads, and their vCPU, which leaves the guest again and again.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), VmmError>>>,
    tids: Vec<u32>,
}

#[derive(Debug)]
struct Shared {
    /// The vCPU, and which thread's turn it is.
    vcpu: Mutex<(VcpuFd, usize)>,
    is_next: Condvar,
    is_over: AtomicBool,
    turns: AtomicU64,
}

impl Relay {
    /// Makes a VM and lets so many threads run its vCPU one after the other, each for so long.
    ///
    /// # Errors
    /// When KVM refuses, or no thread can be started.
    pub fn start(threads: usize, turn: Duration) -> Result<Self, VmmError> {
        let (vm, vcpu) = vm()?;
        let shared = Arc::new(Shared {
            vcpu: Mutex::new((vcpu, 0)),
            is_next: Condvar::new(),
            is_over: AtomicBool::new(false),
            turns: AtomicU64::new(0),
        });
        let mut relay = Self { shared, threads: Vec::new(), tids: Vec::new() };
        let vm = Arc::new(vm);
        for own in 0..threads {
            let (shared, vm) = (Arc::clone(&relay.shared), Arc::clone(&vm));
            let (placed, is_placed) = std::sync::mpsc::channel();
            let thread = thread::Builder::new().name(format!("relay-{own}")).spawn(move || {
                // The receiver waits for nothing else.
                let _ = placed.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
                let run = run(&shared, own, threads, turn);
                drop(vm);
                run
            });
            let failed = |source| VmmError::Thread { vcpu: VCPU, what: "cannot be started", source };
            relay.threads.push(thread.map_err(failed)?);
            relay.tids.extend(is_placed.recv());
        }
        Ok(relay)
    }

    /// The threads' ids.
    #[must_use]
    pub fn tids(&self) -> &[u32] {
        &self.tids
    }

    /// Turns that have begun.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.shared.turns.load(Ordering::Relaxed)
    }

    /// Ends the threads and their VM.
    ///
    /// # Errors
    /// What stopped a thread before.
    pub fn stop(mut self) -> Result<(), VmmError> {
        self.end();
        let joined = self.threads.drain(..).map(JoinHandle::join);
        joined.into_iter().try_for_each(|joined| joined.unwrap_or(Err(VmmError::Panicked { vcpu: VCPU })))
    }

    fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.is_next.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Shared, own: usize, threads: usize, turn: Duration) -> Result<(), VmmError> {
    let is_over = || shared.is_over.load(Ordering::Relaxed);
    loop {
        let vcpu = shared.vcpu.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = shared.is_next.wait_while(vcpu, |(_, next)| *next != own && !is_over());
        let mut vcpu = wait.unwrap_or_else(PoisonError::into_inner);
        if is_over() {
            return Ok(());
        }
        shared.turns.fetch_add(1, Ordering::Relaxed);
        let end = Instant::now() + turn;
        while Instant::now() < end && !is_over() {
            if let Err(error) = enter(&mut vcpu.0) {
                shared.is_over.store(true, Ordering::Relaxed);
                shared.is_next.notify_all();
                return Err(error);
            }
        }
        vcpu.1 = (own + 1) % threads;
        drop(vcpu);
        shared.is_next.notify_all();
    }
}
