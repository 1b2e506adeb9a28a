//! Starting a guest's process and ending it.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::mem;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::ready::{Ready, ReadyError, ReadyVcpu};
use super::strays;
use crate::host::{self, CpuList};
use crate::oracle::{OracleError, TaskStat};
use crate::vmm::Load;

/// Why a guest's process did not start or end as it should.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The VMM's binary cannot be started.
    #[error(
        "{} cannot be started: {source}; build it with `cargo build -p sampler-tests`",
        .binary.display()
    )]
    Spawn {
        /// The binary.
        binary: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It ended or wrote something else instead of saying that it is ready.
    #[error("guest {pid} did not get ready: {source}")]
    NotReady {
        /// Its process id.
        pid: u32,
        /// What it wrote.
        source: ReadyError,
    },
    /// A system call about the guest failed.
    #[error("guest {pid} {what}: {source}")]
    Control {
        /// Its process id.
        pid: u32,
        /// What failed.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Its start time cannot be read.
    #[error(transparent)]
    Oracle(#[from] OracleError),
}

/// The tiny VMM's binary beside the running one: all of this crate's binaries are built together.
///
/// # Errors
/// When the running binary's own path cannot be read.
pub fn tiny_vmm() -> Result<PathBuf, GuestError> {
    host::sibling("tiny-vmm").map_err(|source| GuestError::Spawn { binary: "tiny-vmm".into(), source })
}

/// A guest's process to be.
#[derive(Debug, Clone)]
pub struct GuestConfig {
    /// The name that it carries on its command line, QEMU style. Any bytes but NUL.
    pub name: OsString,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// What they do.
    pub load: Load,
    /// CPUs that their threads may run on.
    pub cpus: Option<CpuList>,
    /// Nice value of their threads.
    pub nice: i32,
    /// Number of threads that run no vCPU and burn and sleep in turn, on the same CPUs.
    pub io_threads: u32,
    /// A file whose first page its vCPU threads read at each turn, where their load has turns.
    pub reads: Option<PathBuf>,
    /// Whether its first thread ends alone once all vCPUs have run.
    pub first_thread_ends: bool,
}

impl GuestConfig {
    /// A guest with one load for all vCPUs, unplaced.
    #[must_use]
    pub fn new(name: impl Into<OsString>, vcpus: u32, load: Load) -> Self {
        Self {
            name: name.into(),
            vcpus,
            load,
            cpus: None,
            nice: 0,
            io_threads: 0,
            reads: None,
            first_thread_ends: false,
        }
    }

    /// The same guest, with all its vCPUs on these CPUs.
    #[must_use]
    pub fn on(self, cpus: &CpuList) -> Self {
        Self { cpus: Some(cpus.clone()), ..self }
    }

    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        let mut name = OsString::from("guest=");
        name.push(&self.name);
        name.push(",debug-threads=on");
        command.arg("-name").arg(name);
        command.arg("--vcpus").arg(self.vcpus.to_string());
        command.arg("--load").arg(self.load.name());
        if let Some((burn, sleep)) = self.load.lengths() {
            command.arg("--burn-us").arg(burn.as_micros().to_string());
            command.arg("--sleep-us").arg(sleep.as_micros().to_string());
        }
        if let Some(cpus) = &self.cpus {
            command.arg("--cpus").arg(cpus.to_string());
        }
        command.arg("--nice").arg(self.nice.to_string());
        command.arg("--io-threads").arg(self.io_threads.to_string());
        if let Some(file) = &self.reads {
            command.arg("--reads").arg(file);
        }
        if self.first_thread_ends {
            command.arg("--first-thread-ends");
        }
        command.arg("--parent-pid").arg(std::process::id().to_string());
        command
    }
}

/// How a guest is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM: the VMM stops its vCPUs and closes the VM.
    Orderly,
    /// SIGKILL: the kernel tears everything down.
    Killed,
}

/// A guest's process. Dropping it kills it.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    ready: Ready,
    start_ticks: u64,
    /// vCPUs that were not asked to end yet.
    watched: Vec<ReadyVcpu>,
}

/// A guest that was asked to start and may not be ready yet: lets many start at once.
#[derive(Debug)]
pub(crate) struct Starting {
    child: Child,
}

impl Starting {
    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the ready line.
    pub(crate) fn wait(mut self) -> Result<Guest, GuestError> {
        let pid = self.child.id();
        let ready = read_ready(&mut self.child);
        match ready.and_then(|ready| Ok((TaskStat::of_process(pid)?.start_ticks, ready))) {
            Ok((start_ticks, ready)) => {
                Ok(Guest { child: self.child, watched: ready.vcpus.clone(), ready, start_ticks })
            }
            Err(error) => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                Err(error)
            }
        }
    }
}

impl Guest {
    /// Starts a guest with the tiny VMM's `binary` and waits until all its vCPUs have run.
    ///
    /// # Errors
    /// When the binary is missing or the guest does not get ready.
    pub fn start(binary: &Path, config: &GuestConfig) -> Result<Self, GuestError> {
        Self::begin(binary, config)?.wait()
    }

    pub(crate) fn begin(binary: &Path, config: &GuestConfig) -> Result<Starting, GuestError> {
        let mut command = config.command(binary);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child =
            command.spawn().map_err(|source| GuestError::Spawn { binary: binary.to_path_buf(), source })?;
        Ok(Starting { child })
    }

    /// The VMM's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.ready.pid
    }

    /// Start of the VMM's process since boot, in the clock ticks of `/proc/PID/stat`.
    #[must_use]
    pub fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    /// The vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> &[ReadyVcpu] {
        &self.ready.vcpus
    }

    /// Ids of the vCPUs' threads.
    #[must_use]
    pub fn tids(&self) -> Vec<u32> {
        self.ready.vcpus.iter().map(|vcpu| vcpu.tid).collect()
    }

    /// Sends SIGSTOP or SIGCONT to the whole process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn set_stopped(&self, stopped: bool) -> Result<(), GuestError> {
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        self.signal(signal)
    }

    /// Ends the guest and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not in the way asked for.
    pub fn end(mut self, ending: Ending) -> Result<(), GuestError> {
        self.look_for_strays();
        self.signal(if ending == Ending::Orderly { Signal::TERM } else { Signal::KILL })?;
        let status = self.child.wait().map_err(|source| self.control("cannot be waited for", source))?;
        if matches_ending(status, ending) {
            return Ok(());
        }
        Err(self.control("ended badly", io::Error::other(status.to_string())))
    }

    /// Whether the guest ends by itself within `limit`.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ends_within(&self, limit: Duration) -> Result<bool, GuestError> {
        host::ends_within(&self.child, limit).map_err(|source| self.control("cannot be waited for", source))
    }

    /// Notes the vCPUs that ended before they were asked to. Once: after that they have been.
    fn look_for_strays(&mut self) {
        let pid = self.pid();
        for ReadyVcpu { tid, .. } in mem::take(&mut self.watched) {
            if !Path::new("/proc").join(format!("{pid}/task/{tid}")).exists() {
                strays::note(format!("vCPU thread {tid} of guest {pid} ended by itself"));
            }
        }
    }

    fn kill(&mut self) {
        self.look_for_strays();
        // It fails only when the process has ended and was reaped.
        let _ = self.child.kill();
    }

    fn signal(&self, signal: Signal) -> Result<(), GuestError> {
        // The child is not reaped while `self` lives, so its id cannot be another process's.
        let pid = host::pid(self.child.id());
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|errno| self.control("cannot be signalled", errno.into()))
    }

    fn control(&self, what: &'static str, source: io::Error) -> GuestError {
        GuestError::Control { pid: self.pid(), what, source }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process as well.
        self.kill();
        let _ = self.child.wait();
    }
}

/// Guests that end together: all are killed before the end of the first is waited for. A process that ends
/// waits until all readers of the kernel's list of memory watchers are done, KVM being one of those
/// (`synchronize_srcu()` in `exit_mmap()`); on Linux 6.18 in a virtual machine that was seen to take as long
/// as the other guests kept the CPUs busy: for ever.
#[derive(Debug)]
pub struct Guests(Vec<Guest>);

impl Guests {
    /// Starts guests, some of them side by side.
    ///
    /// # Errors
    /// When one of them does not get ready.
    pub fn side_by_side(
        binary: &Path,
        mut configs: impl Iterator<Item = GuestConfig>,
    ) -> Result<Self, GuestError> {
        const AT_ONCE: usize = 10;
        let mut guests = Self(Vec::new());
        loop {
            let starting = configs.by_ref().take(AT_ONCE).map(|config| Guest::begin(binary, &config));
            let starting = starting.collect::<Result<Vec<_>, _>>()?;
            if starting.is_empty() {
                return Ok(guests);
            }
            for guest in starting {
                guests.0.push(guest.wait()?);
            }
        }
    }

    /// Lets each run, one after another, and all begin their loads then.
    ///
    /// A VM that gets its memory waits in the kernel for a grace period (`synchronize_srcu()` in
    /// `kvm_swap_active_memslots()`), and that for a thread of the kernel. On Linux 6.18 in a virtual machine
    /// that thread was seen to get no CPU for minutes among guests that want all: `workqueue lockup`, a
    /// worker in `srcu_invoke_callbacks`.
    pub(crate) fn together<E: From<GuestError>>(
        starting: impl Iterator<Item = Result<Starting, E>>,
    ) -> Result<Self, E> {
        let still = starting.map(|guest| {
            let guest = guest?.wait()?;
            guest.set_stopped(true)?;
            Ok(guest)
        });
        let guests: Self = still.collect::<Result<_, E>>()?;
        for guest in &*guests {
            guest.set_stopped(false)?;
        }
        Ok(guests)
    }
}

impl FromIterator<Guest> for Guests {
    fn from_iter<T: IntoIterator<Item = Guest>>(guests: T) -> Self {
        Self(guests.into_iter().collect())
    }
}

impl Deref for Guests {
    type Target = [Guest];

    fn deref(&self) -> &[Guest] {
        &self.0
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        for guest in &mut self.0 {
            guest.kill();
        }
    }
}

fn matches_ending(status: ExitStatus, ending: Ending) -> bool {
    match ending {
        Ending::Orderly => status.success(),
        Ending::Killed => status.signal() == Some(Signal::KILL.as_raw()),
    }
}

fn read_ready(child: &mut Child) -> Result<Ready, GuestError> {
    let pid = child.id();
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|source| GuestError::Control {
            pid,
            what: "cannot be listened to",
            source,
        })?;
    }
    Ready::parse(&line).map_err(|source| GuestError::NotReady { pid, source })
}
