//! Two threads on one CPU that hand a token to and fro: nothing but context switches between them.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
    os::fd::AsRawFd as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, Builder, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

/// A pair of threads pinned to one CPU. Each owns a vCPU, so that it can be known to the sampler as one.
pub(super) struct Pair {
    orders: Vec<Sender<u32>>,
    results: Receiver<Duration>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    tids: [u32; 2],
    ready: Arc<Barrier>,
}

impl Pair {
    /// Starts the pair. Until [`Pair::leave_guests`] both threads enter their guest again and again.
    pub(super) fn start(cpu: usize) -> Result<Self> {
        let (first_in, first_out) = pipe()?;
        let (second_in, second_out) = pipe()?;
        let (results_in, results) = channel();
        let (tids_in, tids_out) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let ready = Arc::new(Barrier::new(3));
        let mut pair =
            Self { orders: vec![], results, stop: Arc::clone(&stop), threads: vec![], tids: [0; 2], ready };
        for (n, (receive, send)) in [(first_in, second_out), (second_in, first_out)].into_iter().enumerate() {
            let (orders, order) = channel();
            pair.orders.push(orders);
            let player = Player {
                leads: n == 0,
                receive,
                send,
                order,
                results: results_in.clone(),
                stop: Arc::clone(&stop),
                ready: Arc::clone(&pair.ready),
            };
            let tids = tids_in.clone();
            let body = move || {
                pin(0, cpu)?;
                tids.send((n, gettid()))?;
                player.play()
            };
            pair.threads.push(Builder::new().name(format!("pingpong-{n}")).spawn(body)?);
        }
        for _ in 0..2 {
            let (n, tid) =
                tids_out.recv().context("a thread of the pair did not start; is /dev/kvm usable?")?;
            pair.tids[n] = tid;
        }
        Ok(pair)
    }

    /// Thread ids.
    pub(super) const fn tids(&self) -> [u32; 2] {
        self.tids
    }

    /// Lets both threads leave their guests for good.
    pub(super) fn leave_guests(&self) {
        self.stop.store(true, Ordering::Release);
        self.ready.wait();
    }

    /// Plays so many rounds and returns the time per context switch in nanoseconds: two switches a round.
    pub(super) fn play(&self, rounds: u32) -> Result<f64> {
        for order in &self.orders {
            order.send(rounds).map_err(|_| anyhow!("a thread of the pair ended"))?;
        }
        let time = self.results.recv().context("the pair ended")?;
        Ok(time.as_secs_f64() * 1e9 / (f64::from(rounds) * 2.0))
    }

    /// Ends both threads.
    pub(super) fn end(mut self) -> Result<()> {
        self.orders.clear();
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a thread of the pair panicked"))??;
        }
        Ok(())
    }
}

/// A thread and another process on one CPU that do the same: strangers to each other, and to all guests.
pub(super) struct Strangers {
    cpu: usize,
    echo: Child,
    send: ChildStdin,
    receive: ChildStdout,
}

impl Strangers {
    pub(super) fn start(cpu: usize) -> Result<Self> {
        let mut echo = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        pin(echo.id(), cpu)?;
        let (send, receive) = (echo.stdin.take(), echo.stdout.take());
        let (send, receive) = send.zip(receive).context("cat has no pipes")?;
        Ok(Self { cpu, echo, send, receive })
    }

    /// As [`Pair::play`].
    pub(super) fn play(&mut self, rounds: u32) -> Result<f64> {
        let Self { cpu, send, receive, .. } = self;
        let body = || {
            pin(0, *cpu)?;
            let start = Instant::now();
            let mut token = [0];
            for _ in 0..rounds {
                send.write_all(&token)?;
                receive.read_exact(&mut token)?;
            }
            anyhow::Ok(start.elapsed())
        };
        let time = thread::scope(|scope| scope.spawn(body).join());
        let time = time.map_err(|_| anyhow!("a thread of the strangers panicked"))??;
        Ok(time.as_secs_f64() * 1e9 / (f64::from(rounds) * 2.0))
    }

    /// Ends the other process.
    pub(super) fn end(self) -> Result<()> {
        let Self { mut echo, send, receive, .. } = self;
        drop((send, receive));
        echo.wait()?;
        Ok(())
    }
}

struct Player {
    leads: bool,
    receive: PipeReader,
    send: PipeWriter,
    order: Receiver<u32>,
    results: Sender<Duration>,
    stop: Arc<AtomicBool>,
    ready: Arc<Barrier>,
}

impl Player {
    fn play(mut self) -> Result<()> {
        let (_vm, mut vcpu) = guest().context("making a guest of one HLT")?;
        while !self.stop.load(Ordering::Acquire) {
            match vcpu.run()? {
                VcpuExit::Hlt => {}
                other => return Err(anyhow!("the guest did not halt: {other:?}")),
            }
        }
        self.ready.wait();
        while let Ok(rounds) = self.order.recv() {
            let start = Instant::now();
            let mut token = [0];
            for _ in 0..rounds {
                if self.leads {
                    self.send.write_all(&token)?;
                    self.receive.read_exact(&mut token)?;
                } else {
                    self.receive.read_exact(&mut token)?;
                    self.send.write_all(&token)?;
                }
            }
            if self.leads {
                self.results.send(start.elapsed())?;
            }
        }
        Ok(())
    }
}

/// A guest that halts at once, each time it is entered.
pub(super) fn guest() -> Result<(VmFd, VcpuFd)> {
    const PAGE: usize = 4096;
    let vm = Kvm::new()?.create_vm()?;
    // The memory is one page of a file that was deleted at once; the VM keeps the mapping, the process frees
    // it at its end.
    let file = File::from(memory(PAGE)?);
    // SAFETY: a new shared mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    anyhow::ensure!(page != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    // SAFETY: the page was mapped just now and is writable. `hlt; jmp` back to it.
    unsafe { page.cast::<[u8; 3]>().write([0xf4, 0xeb, 0xfd]) };
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0x1000,
        memory_size: PAGE as u64,
        userspace_addr: page as u64,
    };
    // SAFETY: the region stays mapped until the process ends.
    unsafe { vm.set_user_memory_region(region) }?;
    let vcpu = vm.create_vcpu(0)?;
    let mut segments = vcpu.get_sregs()?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    vcpu.set_sregs(&segments)?;
    let mut registers = vcpu.get_regs()?;
    registers.rip = 0x1000;
    registers.rflags = 2;
    vcpu.set_regs(&registers)?;
    Ok((vm, vcpu))
}

fn memory(bytes: usize) -> Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    anyhow::ensure!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
    File::from(fd.try_clone()?).set_len(bytes as u64)?;
    Ok(fd)
}

/// Pins a thread; 0 is the one that calls.
fn pin(tid: u32, cpu: usize) -> Result<()> {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is checked by the macro's own bounds.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is valid for the call.
    let result =
        unsafe { libc::sched_setaffinity(tid.cast_signed(), size_of::<libc::cpu_set_t>(), &raw const set) };
    anyhow::ensure!(result == 0, "pinning to CPU {cpu}: {}", std::io::Error::last_os_error());
    Ok(())
}

pub(super) fn gettid() -> u32 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::gettid() }.cast_unsigned()
}
