//! One guest of the tiny VMM as a process of its own, with a command line in QEMU's style.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use rustix::thread::gettid;
use sampler_tests::guest::{Ready, ReadyVcpu};
use sampler_tests::host::{CpuList, StopSignals, end_with_parent, pin};
use sampler_tests::vmm::{HaltIn, Load, Page, VcpuConfig, Vm, VmConfig};
use signal_hook::consts::{SIGUSR1, SIGUSR2};

/// Runs one guest until it is asked to stop.
///
/// Prints one line `ready {"pid":…,"vcpus":[{"index":…,"tid":…},…]}` when every vCPU has run. Ends with
/// status 0 on SIGTERM, SIGINT and SIGHUP and after --seconds; is killed when the thread that started it
/// ends.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Number of vCPUs. Without any it is a process that the sampler takes for no VMM.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(0..=1024)
    )]
    vcpus: u32,
    /// Ids of the vCPUs, instead of 0 to N-1.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', conflicts_with = "vcpus")]
    vcpu_ids: Vec<u32>,
    /// What the vCPUs do: busy, half, halt, io or mix.
    #[arg(long, value_name = "LOAD", default_value = "busy")]
    load: String,
    /// CPU time of each burn of half and mean of mix, microseconds.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1000)]
    burn_us: u64,
    /// Length of each sleep of half and mean of mix, microseconds.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1000)]
    sleep_us: u64,
    /// CPUs that the vCPU threads may run on, such as 0,2 or 0-3; all when absent.
    #[arg(long, value_name = "CPUS")]
    cpus: Option<CpuList>,
    /// Nice value of the vCPU threads.
    #[arg(long, value_name = "NICE", default_value_t = 0, allow_hyphen_values = true)]
    nice: i32,
    /// Number of threads that run no vCPU, named as QEMU's I/O threads, on the same CPUs: they burn and sleep
    /// as half does. SIGUSR1 starts one more, SIGUSR2 ends it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    io_threads: u32,
    /// A file whose first page is mapped; the vCPU threads of half and mix read it at each turn.
    #[arg(long, value_name = "FILE")]
    reads: Option<PathBuf>,
    /// Let the process's first thread end alone once all vCPUs have run. Signals do not stop the guest then.
    #[arg(long)]
    first_thread_ends: bool,
    /// Who puts halted vCPUs to sleep: the kernel, or the VMM in user space.
    #[arg(long, value_name = "WHO", default_value = "kernel", value_parser = ["kernel", "user"])]
    halt_in: String,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// End at once when the parent is not this process.
    #[arg(long, value_name = "PID")]
    parent_pid: Option<u32>,
    /// The guest's name in QEMU's syntax: guest=NAME,debug-threads=on. Any bytes; also spelt -name.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    name: Option<OsString>,
    /// The guest's UUID, for whoever reads the command line. Any bytes; also spelt -uuid.
    #[arg(long, value_name = "UUID", allow_hyphen_values = true)]
    uuid: Option<OsString>,
}

impl Arguments {
    fn vm(&self) -> anyhow::Result<VmConfig> {
        let burn = Duration::from_micros(self.burn_us);
        let load = Load::named(&self.load, burn, Duration::from_micros(self.sleep_us))?;
        let ids = if self.vcpu_ids.is_empty() { (0..self.vcpus).collect() } else { self.vcpu_ids.clone() };
        let reads = self.reads.as_deref().map(Page::of_file).transpose();
        let reads = reads.context("cannot map the file that is to be read")?.map(Arc::new);
        let vcpu =
            |id| VcpuConfig { id, load, cpus: self.cpus.clone(), nice: self.nice, reads: reads.clone() };
        let halt_in = if self.halt_in == "user" { HaltIn::UserSpace } else { HaltIn::Kernel };
        Ok(VmConfig {
            vcpus: ids.into_iter().map(vcpu).collect(),
            halt_in,
            name_threads: self.names_threads(),
        })
    }

    fn names_threads(&self) -> bool {
        let wanted: &[u8] = b"debug-threads=on";
        let name = self.name.as_ref().map(|name| name.as_encoded_bytes()).unwrap_or_default();
        name.split(|&byte| byte == b',').any(|option| option == wanted)
    }
}

/// QEMU spells its long options with one dash; their values stay as they are, whatever they look like.
fn with_two_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut result = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let option = match argument.to_str() {
            Some("-name" | "--name") => "--name",
            Some("-uuid" | "--uuid") => "--uuid",
            _ => {
                result.push(argument);
                continue;
            }
        };
        // Joined with `=`, because a value of its own that begins with dashes could be taken for an option.
        match arguments.next() {
            Some(value) => {
                let mut joined = OsString::from(option);
                joined.push("=");
                joined.push(value);
                result.push(joined);
            }
            None => result.push(option.into()),
        }
    }
    result
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(with_two_dashes(std::env::args_os()));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiny-vmm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    end_with_parent(arguments.parent_pid).context("cannot tie this process to its parent")?;
    let stop = StopSignals::catch().context("cannot catch signals")?;
    let vm = Vm::start(&arguments.vm()?)?;
    IoThreads::start(arguments).context("cannot start the threads that run no vCPU")?;
    let vcpus = vm.vcpus().iter().map(|vcpu| ReadyVcpu { index: vcpu.id, tid: vcpu.tid }).collect();
    let ready = Ready { pid: std::process::id(), vcpus };
    let mut out = std::io::stdout();
    writeln!(out, "{}", ready.line()?).and_then(|()| out.flush()).context("cannot write the ready line")?;
    if arguments.first_thread_ends {
        // SAFETY: it ends this thread where it stands; what it holds stays as it is for the others.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    stop.wait(arguments.seconds.map(Duration::from_secs)).context("cannot wait for signals")?;
    vm.stop().context("the guest did not stop cleanly")
}

/// Threads that run no vCPU. SIGUSR1 asks for one more, SIGUSR2 for the end of such a one; the others end
/// with the process.
struct IoThreads {
    initially: u32,
    burn: Duration,
    sleep: Duration,
    cpus: Option<CpuList>,
    one_more: Arc<AtomicBool>,
    one_less: Arc<AtomicBool>,
}

impl IoThreads {
    fn start(arguments: &Arguments) -> anyhow::Result<()> {
        let threads = Arc::new(Self {
            initially: arguments.io_threads,
            burn: Duration::from_micros(arguments.burn_us),
            sleep: Duration::from_micros(arguments.sleep_us),
            cpus: arguments.cpus.clone(),
            one_more: Arc::default(),
            one_less: Arc::default(),
        });
        signal_hook::flag::register(SIGUSR1, Arc::clone(&threads.one_more))?;
        signal_hook::flag::register(SIGUSR2, Arc::clone(&threads.one_less))?;
        (0..arguments.io_threads).try_for_each(|number| threads.spawn(number))
    }

    fn spawn(self: &Arc<Self>, number: u32) -> anyhow::Result<()> {
        let threads = Arc::clone(self);
        let (placed, is_placed) = mpsc::channel();
        thread::Builder::new().name(format!("IO thread{number}")).spawn(move || {
            // The receiver waits for nothing else.
            let _ = placed.send(threads.place());
            while threads.goes_on(number) {
                let end = Instant::now() + threads.burn;
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                thread::sleep(threads.sleep);
            }
        })?;
        Ok(is_placed.recv()??)
    }

    fn place(&self) -> std::io::Result<()> {
        let tid = gettid().as_raw_nonzero().get().cast_unsigned();
        self.cpus.as_ref().map_or(Ok(()), |cpus| pin(tid, cpus))
    }

    fn goes_on(self: &Arc<Self>, number: u32) -> bool {
        if number == 0 && self.one_more.swap(false, Ordering::Relaxed) {
            // Whoever asked sees whether there is one.
            let _ = self.spawn(self.initially);
        }
        number < self.initially || !self.one_less.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn parse(arguments: &[&[u8]]) -> Arguments {
        let all = std::iter::once(&b"tiny-vmm"[..]).chain(arguments.iter().copied());
        Arguments::parse_from(with_two_dashes(all.map(|bytes| OsString::from_vec(bytes.to_vec()))))
    }

    #[test]
    fn names_may_be_any_bytes_even_those_of_options() {
        for name in [&b"guest=\xff\n\"quoted\"\x1b[2J"[..], b"-uuid", b"--vcpus", b"", b"guest=a,,b"] {
            let arguments = parse(&[b"-name", name, b"-uuid", b"-name", b"--vcpus", b"2"]);
            assert_eq!(arguments.name.unwrap().into_vec(), name);
            assert_eq!(arguments.uuid.unwrap().into_vec(), b"-name");
            assert_eq!(arguments.vcpus, 2);
        }
    }

    #[test]
    fn debug_threads_names_threads() {
        assert!(parse(&[b"-name", b"guest=a,debug-threads=on"]).names_threads());
        assert!(!parse(&[b"-name", b"guest=a,debug-threads=off"]).names_threads());
        assert!(!parse(&[]).names_threads());
    }

    #[test]
    fn the_vcpus_are_those_asked_for() {
        let arguments =
            parse(&[b"--vcpu-ids", b"3,7", b"--load", b"halt", b"--nice", b"-5", b"--halt-in", b"user"]);
        let vm = arguments.vm().unwrap();
        assert_eq!(vm.vcpus.iter().map(|vcpu| vcpu.id).collect::<Vec<_>>(), [3, 7]);
        assert!(vm.vcpus.iter().all(|vcpu| vcpu.nice == -5 && vcpu.load == Load::Halt));
        assert_eq!(vm.halt_in, HaltIn::UserSpace);
        assert!(parse(&[b"--load", b"idle"]).vm().is_err());
    }
}
