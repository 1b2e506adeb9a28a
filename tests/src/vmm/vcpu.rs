//! One vCPU: its registers at reset, and its thread's loop.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MP_STATE_RUNNABLE, kvm_mp_state, kvm_regs};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::config::{HaltIn, VcpuConfig};
use super::error::VmmError;
use super::load::{Load, Pacer};
use super::program;
use crate::host;

/// Bit 1 of RFLAGS, which is always set.
const RFLAGS_RESERVED: u64 = 2;

/// What is known of a vCPU's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuInfo {
    /// The vCPU's id as KVM knows it.
    pub id: u32,
    /// Its thread's id.
    pub tid: u32,
    /// Times that it left the guest for the VMM.
    pub exits: u64,
}

/// What a vCPU's thread shares with the rest of the VMM.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    pub(super) exits: AtomicU64,
}

/// News from a vCPU's thread while it starts.
#[derive(Debug)]
pub(super) enum News {
    /// It exists and is where it is to be.
    Placed { position: usize, tid: u32 },
    /// Its vCPU has executed an instruction.
    Ran,
    /// It has ended.
    Ended,
}

/// Puts a new vCPU in front of its program's first instruction.
pub(super) fn reset(fd: &VcpuFd, config: &VcpuConfig, halt_in: HaltIn) -> Result<(), VmmError> {
    let failed = |call| move |source: kvm_ioctls::Error| ioctl_error(config.id, call, source);
    let mut segments = fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    fd.set_sregs(&segments).map_err(failed("KVM_SET_SREGS"))?;
    let registers = kvm_regs {
        rip: program::entry(&config.load),
        rdx: u64::from(program::PORT),
        rflags: RFLAGS_RESERVED,
        ..kvm_regs::default()
    };
    fd.set_regs(&registers).map_err(failed("KVM_SET_REGS"))?;
    if halt_in == HaltIn::Kernel {
        // With an interrupt controller in the kernel all vCPUs but the first wait for the first to start
        // them.
        let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
        fd.set_mp_state(runnable).map_err(failed("KVM_SET_MP_STATE"))?;
    }
    Ok(())
}

/// A vCPU's thread, from its placement to the request to stop.
pub(super) struct Runner {
    pub(super) fd: VcpuFd,
    pub(super) config: VcpuConfig,
    pub(super) position: usize,
    pub(super) shared: std::sync::Arc<Shared>,
    pub(super) news: Sender<News>,
}

impl Runner {
    pub(super) fn run(mut self) -> Result<(), VmmError> {
        let outcome = self.run_until_stopped();
        if let Err(error) = &outcome {
            // At once: whoever compares this thread finds it gone long before the VMM is asked how it fared.
            eprintln!("tiny VMM: {error}");
        }
        let _ = self.news.send(News::Ended);
        outcome
    }

    fn run_until_stopped(&mut self) -> Result<(), VmmError> {
        self.place()?;
        let tid = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        // A send fails when the VMM has given the start up: then stop is set, or soon will be.
        let _ = self.news.send(News::Placed { position: self.position, tid });
        let mut pacer = Pacer::new(self.config.load, self.config.id);
        while !self.shared.stop.load(Ordering::Acquire) {
            self.enter(&mut pacer)?;
        }
        Ok(())
    }

    fn place(&self) -> Result<(), VmmError> {
        let failed = |what| move |source| VmmError::Thread { vcpu: self.config.id, what, source };
        if let Some(cpus) = &self.config.cpus {
            host::pin(0, cpus).map_err(failed("cannot be pinned"))?;
        }
        if self.config.nice != 0 {
            host::renice(0, self.config.nice).map_err(failed("cannot be reniced"))?;
        }
        Ok(())
    }

    /// Runs the guest until it leaves, and does what it left for.
    fn enter(&mut self, pacer: &mut Pacer) -> Result<(), VmmError> {
        let id = self.config.id;
        match self.fd.run() {
            Ok(VcpuExit::IoOut(program::PORT, _)) => {
                if self.shared.exits.fetch_add(1, Ordering::Relaxed) == 0 {
                    let _ = self.news.send(News::Ran);
                }
            }
            Ok(VcpuExit::IoIn(program::PORT, data)) => {
                self.shared.exits.fetch_add(1, Ordering::Relaxed);
                if let Some(page) = &self.config.reads {
                    page.look();
                }
                let turn = pacer.next();
                sleep_unless_stopped(turn.sleep, &self.shared.stop);
                let turns = pacer.turns(turn.burn).to_le_bytes();
                let length = data.len().min(turns.len());
                data[..length].copy_from_slice(&turns[..length]);
            }
            Ok(VcpuExit::Hlt) => {
                self.shared.exits.fetch_add(1, Ordering::Relaxed);
                sleep_until_stopped(&self.shared.stop);
            }
            Ok(VcpuExit::InternalError) => {
                return Err(VmmError::UnexpectedExit { vcpu: id, exit: self.internal_error() });
            }
            Ok(exit) => return Err(VmmError::UnexpectedExit { vcpu: id, exit: format!("{exit:?}") }),
            // A signal called the thread out of KVM_RUN: look whether to stop.
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(ioctl_error(id, "KVM_RUN", error)),
        }
        Ok(())
    }
}

impl Runner {
    /// What KVM says of an error of its own.
    fn internal_error(&mut self) -> String {
        let run = self.fd.get_kvm_run();
        // SAFETY: after this exit KVM has filled this member of the union in, and any bytes are a value of
        // it.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let data = internal.data.get(..internal.ndata as usize).unwrap_or_default();
        let error = format!("internal error of KVM, suberror {}, data {data:x?}", internal.suberror);
        match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(regs), Ok(sregs)) => format!(
                "{error}, at {:x}:{:x}, cr0 {:x}, efer {:x}, {regs:x?}",
                sregs.cs.base, regs.rip, sregs.cr0, sregs.efer
            ),
            _ => error,
        }
    }
}

pub(super) fn ioctl_error(vcpu: u32, call: &'static str, source: kvm_ioctls::Error) -> VmmError {
    VmmError::Vcpu { vcpu, call, source: io::Error::from_raw_os_error(source.errno()) }
}

/// The VMM unparks the thread when it sets `stop`.
fn sleep_unless_stopped(length: Duration, stop: &AtomicBool) {
    let end = Instant::now() + length;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.load(Ordering::Acquire) {
            return;
        }
        thread::park_timeout(left);
    }
}

fn sleep_until_stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        thread::park();
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Runner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Load {
    /// Whether a thread with this load sleeps at all.
    #[must_use]
    pub const fn sleeps(&self) -> bool {
        !matches!(self, Self::Busy | Self::Io)
    }
}
