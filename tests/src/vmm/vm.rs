//! A guest: its memory slot, its vCPUs, and the threads that run them.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN, register_signal_handler};

use super::config::{HaltIn, VcpuConfig, VmConfig};
use super::error::VmmError;
use super::program;
use super::vcpu::{News, Runner, Shared, VcpuInfo, ioctl_error, reset};

/// Enough for the loop of a vCPU; hundreds of them live in one process.
const STACK_BYTES: usize = 128 * 1024;
/// Where Intel's VMX may keep its task state segment: below the BIOS, far from the guest's page.
const TSS_ADDRESS: usize = 0xfffb_d000;
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Whether this process can create guests at all.
///
/// # Errors
/// [`VmmError::Unavailable`] when `/dev/kvm` is missing or may not be opened.
pub fn available() -> Result<(), VmmError> {
    open_kvm().map(drop)
}

fn open_kvm() -> Result<Kvm, VmmError> {
    Kvm::new().map_err(|error| VmmError::Unavailable { source: io::Error::from_raw_os_error(error.errno()) })
}

#[derive(Debug)]
struct VcpuThread {
    id: u32,
    tid: u32,
    shared: Arc<Shared>,
    handle: JoinHandle<Result<(), VmmError>>,
}

/// A guest that runs. It stops when it is dropped; [`Vm::stop`] also says how its vCPUs fared.
#[derive(Debug)]
pub struct Vm {
    threads: Vec<VcpuThread>,
    // Keeps the VM's file descriptor for as long as the guest runs: discovery looks for it.
    fd: VmFd,
}

impl Vm {
    /// Starts a guest and waits until each of its vCPUs has executed an instruction.
    ///
    /// # Errors
    /// When KVM refuses, a thread cannot be placed, or a vCPU does not get to run within a minute.
    pub fn start(config: &VmConfig) -> Result<Self, VmmError> {
        wake_up_signal()?;
        let fd = create(config.halt_in)?;
        let (sender, news) = mpsc::channel();
        let mut vm = Self { threads: Vec::with_capacity(config.vcpus.len()), fd };
        for vcpu in &config.vcpus {
            let thread = vm.spawn(vcpu, config, &sender)?;
            vm.threads.push(thread);
        }
        drop(sender);
        vm.wait_until_all_ran(&news)?;
        Ok(vm)
    }

    /// The vCPUs, in the order of the configuration.
    #[must_use]
    pub fn vcpus(&self) -> Vec<VcpuInfo> {
        let info = |thread: &VcpuThread| VcpuInfo {
            id: thread.id,
            tid: thread.tid,
            exits: thread.shared.exits.load(Ordering::Relaxed),
        };
        self.threads.iter().map(info).collect()
    }

    /// Ids of the vCPUs' threads, in the order of the configuration.
    #[must_use]
    pub fn tids(&self) -> Vec<u32> {
        self.threads.iter().map(|thread| thread.tid).collect()
    }

    /// Stops the guest and waits for its threads.
    ///
    /// # Errors
    /// The first error of a vCPU, or [`VmmError::Late`] when a thread does not end within half a minute.
    pub fn stop(mut self) -> Result<(), VmmError> {
        self.halt_threads()
    }

    fn spawn(
        &self,
        vcpu: &VcpuConfig,
        config: &VmConfig,
        news: &mpsc::Sender<News>,
    ) -> Result<VcpuThread, VmmError> {
        let position = self.threads.len();
        let fd = self
            .fd
            .create_vcpu(u64::from(vcpu.id))
            .map_err(|error| ioctl_error(vcpu.id, "KVM_CREATE_VCPU", error))?;
        reset(&fd, vcpu, config.halt_in)?;
        let shared = Arc::new(Shared::default());
        let runner =
            Runner { fd, config: vcpu.clone(), position, shared: Arc::clone(&shared), news: news.clone() };
        let name =
            if config.name_threads { format!("CPU {}/KVM", vcpu.id) } else { format!("vcpu{}", vcpu.id) };
        let handle = thread::Builder::new()
            .name(name)
            .stack_size(STACK_BYTES)
            .spawn(move || runner.run())
            .map_err(|source| VmmError::Thread { vcpu: vcpu.id, what: "cannot be started", source })?;
        Ok(VcpuThread { id: vcpu.id, tid: 0, shared, handle })
    }

    fn wait_until_all_ran(&mut self, news: &Receiver<News>) -> Result<(), VmmError> {
        let end = Instant::now() + START_LIMIT;
        let mut waiting = self.threads.len();
        while waiting > 0 {
            match news.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(News::Placed { position, tid }) => self.threads[position].tid = tid,
                Ok(News::Ran) => waiting -= 1,
                Ok(News::Ended) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {
                    // A thread that ended says why when it is joined; the others are in time or late.
                    self.halt_threads()?;
                    let seconds = START_LIMIT.as_secs();
                    return Err(VmmError::Late { count: waiting, what: "run", seconds });
                }
            }
        }
        Ok(())
    }

    /// Calls all threads out of the guest until they have ended.
    ///
    /// A signal that arrives between a thread's look at the stop flag and its `KVM_RUN` is lost, so signals
    /// are sent until the thread has ended. (`immediate_exit` would close the gap, but lies in memory that
    /// the running vCPU borrows.)
    fn halt_threads(&mut self) -> Result<(), VmmError> {
        for thread in &self.threads {
            thread.shared.stop.store(true, Ordering::Release);
        }
        let end = Instant::now() + STOP_LIMIT;
        let signal = wake_up_signal()?;
        loop {
            let running: Vec<_> = self.threads.iter().filter(|thread| !thread.handle.is_finished()).collect();
            if running.is_empty() {
                return self.join_threads();
            }
            if Instant::now() > end {
                let seconds = STOP_LIMIT.as_secs();
                return Err(VmmError::Late { count: running.len(), what: "stopped", seconds });
            }
            for thread in running {
                thread.handle.thread().unpark();
                // A thread that ended just now cannot be signalled, and need not be.
                let _ = thread.handle.kill(signal);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn join_threads(&mut self) -> Result<(), VmmError> {
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            let result = thread.handle.join().unwrap_or(Err(VmmError::Panicked { vcpu: thread.id }));
            outcome = outcome.and(result);
        }
        outcome
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Err(error) = self.halt_threads() {
            eprintln!("tiny VMM: {error}");
        }
    }
}

/// The signal that calls vCPU threads out of `KVM_RUN`; its handler does nothing and is installed once.
fn wake_up_signal() -> Result<libc::c_int, VmmError> {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let signal = SIGRTMIN();
    INSTALLED
        .get_or_init(|| register_signal_handler(signal, nothing).map_err(|error| error.errno()))
        .map(|()| signal)
        .map_err(|errno| VmmError::Signal { source: io::Error::from_raw_os_error(errno) })
}

pub(super) fn create(halt_in: HaltIn) -> Result<VmFd, VmmError> {
    let image = program::image();
    // SAFETY: the image is static, page-aligned and of this size, so it outlives the VM.
    unsafe { create_from(halt_in, image.as_ptr().addr() as u64) }
}

/// A VM whose page is at this address of the process.
///
/// # Safety
/// A page is there while the VM lives.
pub(super) unsafe fn create_from(halt_in: HaltIn, page: u64) -> Result<VmFd, VmmError> {
    let failed = |call| {
        move |error: kvm_ioctls::Error| VmmError::Ioctl {
            call,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    };
    let vm = open_kvm()?.create_vm().map_err(failed("KVM_CREATE_VM"))?;
    vm.set_tss_address(TSS_ADDRESS).map_err(failed("KVM_SET_TSS_ADDR"))?;
    if halt_in == HaltIn::Kernel {
        vm.create_irq_chip().map_err(failed("KVM_CREATE_IRQCHIP"))?;
    }
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: KVM_MEM_READONLY,
        guest_phys_addr: program::LOAD_ADDRESS,
        memory_size: program::IMAGE_SIZE as u64,
        userspace_addr: page,
    };
    // SAFETY: the page outlives the VM; the slot is read-only, so no guest can write to what Rust holds
    // immutable; it is the VM's only slot.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
    Ok(vm)
}

/// A VM with one vCPU that no thread ever runs: a guest that does not run.
#[derive(Debug)]
pub struct Unused {
    _vm: VmFd,
    _vcpu: VcpuFd,
}

impl Unused {
    /// Makes it. While it exists KVM does not become idle. With its first and last VM KVM switches its hooks
    /// in the scheduler on and off and the processors' virtualisation too, which on an emulated machine takes
    /// long and is none of what is tested.
    ///
    /// # Errors
    /// When KVM refuses.
    pub fn create() -> Result<Self, VmmError> {
        // Without an interrupt controller in the kernel: the first and last such vCPU flips a switch of its
        // own.
        let vm = create(HaltIn::UserSpace)?;
        let vcpu = vm.create_vcpu(0).map_err(|error| ioctl_error(0, "KVM_CREATE_VCPU", error))?;
        Ok(Self { _vm: vm, _vcpu: vcpu })
    }
}

#[cfg(test)]
mod tests;
