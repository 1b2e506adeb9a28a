//! One thread that runs the vCPUs of several VMs in turn, as a process does that starts small VMs for single
//! calls.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvError, Sender};
use std::thread::{self, JoinHandle};

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use super::config::{HaltIn, VcpuConfig};
use super::error::VmmError;
use super::load::Load;
use super::page::Page;
use super::program;
use super::vcpu::{ioctl_error, reset};
use super::vm::{create, create_from};

/// Whichever vCPU it is.
const VCPU: u32 = 0;

#[derive(Debug, Clone, Copy)]
enum Order {
    Run(usize),
    Close(usize),
    Rest,
}

/// The thread and its VMs, each with one vCPU that leaves the guest again and again.
#[derive(Debug)]
pub struct Turns {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<Result<(), VmmError>>>,
    tid: u32,
}

impl Turns {
    /// Makes the VMs. None runs before [`Self::run`].
    ///
    /// # Errors
    /// When KVM refuses, or no thread can be started.
    pub fn start(vms: usize) -> Result<Self, VmmError> {
        let vms = (0..vms).map(|_| vm().map(Some)).collect::<Result<Vec<_>, _>>()?;
        Self::of(vms, None)
    }

    /// The same with one VM, which runs from a page of its own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_from(page: &Arc<Page>) -> Result<Self, VmmError> {
        // SAFETY: the thread that has the VM keeps the page.
        let vm = unsafe { create_from(HaltIn::Kernel, page.address()) }?;
        Self::of(vec![Some(with_vcpu(vm)?)], Some(Arc::clone(page)))
    }

    fn of(vms: Vec<Option<(VmFd, VcpuFd)>>, page: Option<Arc<Page>>) -> Result<Self, VmmError> {
        let (orders, inbox) = mpsc::channel();
        let (placed, is_placed) = mpsc::channel();
        let failed = |source| VmmError::Thread { vcpu: VCPU, what: "cannot be started", source };
        let thread = thread::Builder::new()
            .name("turns".to_owned())
            .spawn(move || {
                // The receiver waits for nothing else.
                let _ = placed.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
                let outcome = obey(vms, &inbox);
                drop(page);
                outcome
            })
            .map_err(failed)?;
        let tid = is_placed.recv().map_err(|RecvError| failed(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), tid })
    }

    /// The thread's id.
    #[must_use]
    pub const fn tid(&self) -> u32 {
        self.tid
    }

    /// Lets the thread run the vCPU of one of the VMs, and no other.
    pub fn run(&self, vm: usize) {
        self.order(Order::Run(vm));
    }

    /// Ends a VM; the thread lives on, and runs none.
    pub fn close(&self, vm: usize) {
        self.order(Order::Close(vm));
    }

    /// Lets the thread sleep.
    pub fn rest(&self) {
        self.order(Order::Rest);
    }

    /// Ends the thread and all VMs.
    ///
    /// # Errors
    /// What stopped the thread before.
    pub fn stop(mut self) -> Result<(), VmmError> {
        self.orders = None;
        let joined = self.thread.take().map(JoinHandle::join);
        joined.map_or(Ok(()), |joined| joined.unwrap_or(Err(VmmError::Panicked { vcpu: VCPU })))
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A thread that has ended says why when it is joined.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.orders = None;
    }
}

pub(super) fn vm() -> Result<(VmFd, VcpuFd), VmmError> {
    with_vcpu(create(HaltIn::Kernel)?)
}

fn with_vcpu(vm: VmFd) -> Result<(VmFd, VcpuFd), VmmError> {
    let vcpu =
        vm.create_vcpu(u64::from(VCPU)).map_err(|error| ioctl_error(VCPU, "KVM_CREATE_VCPU", error))?;
    reset(&vcpu, &VcpuConfig::new(VCPU, Load::Io), HaltIn::Kernel)?;
    Ok((vm, vcpu))
}

fn obey(mut vms: Vec<Option<(VmFd, VcpuFd)>>, inbox: &Receiver<Order>) -> Result<(), VmmError> {
    let mut running = None;
    loop {
        let order = match running {
            Some(_) => inbox.try_recv().map_or_else(
                |error| if error == mpsc::TryRecvError::Empty { Ok(None) } else { Err(RecvError) },
                |order| Ok(Some(order)),
            ),
            None => inbox.recv().map(Some),
        };
        match order {
            Err(RecvError) => return Ok(()),
            Ok(Some(Order::Run(vm))) => running = Some(vm),
            Ok(Some(Order::Rest)) => running = None,
            Ok(Some(Order::Close(vm))) => {
                running = None;
                vms[vm] = None;
            }
            Ok(None) => {}
        }
        if let Some((_, vcpu)) = running.and_then(|vm| vms[vm].as_mut()) {
            enter(vcpu)?;
        }
    }
}

pub(super) fn enter(vcpu: &mut VcpuFd) -> Result<(), VmmError> {
    match vcpu.run() {
        Ok(VcpuExit::IoOut(program::PORT, _)) => Ok(()),
        Ok(VcpuExit::IoIn(program::PORT, data)) => {
            data.fill(0);
            Ok(())
        }
        Ok(exit) => Err(VmmError::UnexpectedExit { vcpu: VCPU, exit: format!("{exit:?}") }),
        Err(error) if error.errno() == libc::EINTR => Ok(()),
        Err(error) => Err(ioctl_error(VCPU, "KVM_RUN", error)),
    }
}
