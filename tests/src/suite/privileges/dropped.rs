//! Acts that root may do, and the service may not.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::ptr;

use anyhow::ensure;
use hvsampler::config::ServiceSettings;
use hvsampler::service::privileges::confine;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::child::{Stranger, apart, error_of, in_child, refused};
use crate::runner::{Context, Outcome};

/// What acts are done on.
struct Stage<'a> {
    directory: &'a Path,
    /// A process that has nothing to do with the sampler.
    stranger: &'a Stranger,
}

type Act = fn(&Stage<'_>) -> Option<i32>;

/// What was given up, by an act that takes it. Each changes nothing that lasts.
const ACTS: &[(&str, Act)] = &[
    ("CAP_CHOWN: giving a file away", |stage| {
        io_error(chown(stage.directory.join("own"), Some(65534), None))
    }),
    ("CAP_DAC_OVERRIDE: writing to a file of another user", |stage| {
        io_error(OpenOptions::new().append(true).open(stage.directory.join("other")))
    }),
    ("CAP_FOWNER: the mode of a file of another user", |stage| {
        io_error(fs::set_permissions(stage.directory.join("other"), fs::Permissions::from_mode(0o600)))
    }),
    ("CAP_KILL: a signal for another process", |stage| {
        // SAFETY: signal 0 is none.
        error_of(unsafe { libc::kill(stage.stranger.0, 0) }.into())
    }),
    ("CAP_SETUID: becoming another user", |_| {
        // SAFETY: the call itself is of this thread alone.
        error_of(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) })
    }),
    ("CAP_SETGID: becoming another group", |_| {
        // SAFETY: as above.
        error_of(unsafe { libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534) })
    }),
    ("CAP_SETPCAP: changing the bounding set", |_| {
        const WAKE_ALARM: libc::c_ulong = 35;
        // SAFETY: takes numbers, and is of this thread alone.
        error_of(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, WAKE_ALARM, 0, 0, 0) }.into())
    }),
    ("CAP_NET_BIND_SERVICE: a port below 1024", |_| {
        let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let mut tried = (1000..1024).map(|port| TcpListener::bind(("127.0.0.1", port)));
        tried.find(|bound| !bound.as_ref().is_err_and(taken)).map_or(Some(libc::EADDRINUSE), io_error)
    }),
    ("CAP_NET_RAW: a raw socket", |_| {
        // SAFETY: makes a descriptor, which the end of the process closes.
        error_of(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) }.into())
    }),
    ("CAP_WAKE_ALARM: a timer that wakes the machine", |_| {
        // SAFETY: makes a descriptor, which the end of the process closes.
        error_of(unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME_ALARM, 0) }.into())
    }),
    ("CAP_SYS_TIME: setting the clock", |_| {
        // The system call and not libc's function, which reads the time.
        // SAFETY: without a time the kernel looks at the privilege alone.
        error_of(unsafe { libc::syscall(libc::SYS_settimeofday, 0, 0) })
    }),
    ("CAP_SYS_BOOT: restarting the machine", |_| {
        // SAFETY: the numbers are none that the kernel takes; it looks at the privilege first.
        error_of(unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) })
    }),
    ("CAP_SYS_MODULE: unloading a module", |_| {
        // SAFETY: the name ends with a zero, and is no module's.
        error_of(unsafe { libc::syscall(libc::SYS_delete_module, c"no-such-module".as_ptr(), 0) })
    }),
    ("CAP_SYS_CHROOT: another root", |_| {
        // SAFETY: the name ends with a zero, and is the root that there is.
        error_of(unsafe { libc::chroot(c"/".as_ptr()) }.into())
    }),
    ("CAP_MKNOD: a device", |stage| {
        let path = stage.directory.join("device");
        let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return Some(libc::EINVAL) };
        // SAFETY: the name ends with a zero.
        let error =
            error_of(unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR, libc::makedev(1, 3)) }.into());
        let _ = fs::remove_file(path);
        error
    }),
    ("CAP_SYS_ADMIN: a mount", |stage| {
        let mounted = mount("none", stage.directory, "tmpfs", MountFlags::RDONLY, None);
        if mounted.is_ok() {
            let _ = unmount(stage.directory, UnmountFlags::DETACH);
        }
        mounted.err().map(Errno::raw_os_error)
    }),
    ("CAP_SYS_ADMIN: a namespace of one's own", |_| {
        // SAFETY: of this thread alone.
        error_of(unsafe { libc::unshare(libc::CLONE_NEWUTS) }.into())
    }),
    ("CAP_SYS_ADMIN: entering another namespace than one of the network", |_| {
        let Ok(own) = File::open("/proc/thread-self/ns/uts") else { return Some(libc::ENOENT) };
        // SAFETY: of this thread alone.
        error_of(unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWUTS) }.into())
    }),
    ("CAP_SYS_ADMIN: the host's name", |_| {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim_end();
        // SAFETY: so many bytes are there.
        error_of(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())
    }),
    ("CAP_SYS_ADMIN: swap", |_| {
        // SAFETY: the name ends with a zero, and is no file's.
        error_of(unsafe { libc::swapoff(c"/no/such/file".as_ptr()) }.into())
    }),
    ("CAP_SYS_ADMIN: watching files of all mounts", |_| {
        // SAFETY: makes a descriptor, which the end of the process closes.
        error_of(unsafe { libc::fanotify_init(libc::FAN_CLASS_NOTIF, 0) }.into())
    }),
    ("tracing a process", |stage| {
        // SAFETY: attaches to a child of the test's; the end of this thread detaches.
        error_of(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, stage.stranger.0, 0, 0) })
    }),
    ("reading a process's memory by its address", |stage| {
        // SAFETY: no memory is named.
        error_of(unsafe { libc::syscall(libc::SYS_process_vm_readv, stage.stranger.0, 0, 0, 0, 0, 0) })
    }),
    ("CAP_SYSLOG: the kernel's log", |_| {
        const SIZE: libc::c_int = 10;
        // SAFETY: no memory is named.
        error_of(unsafe { libc::klogctl(SIZE, ptr::null_mut(), 0) }.into())
    }),
    ("starting a program", |_| io_error(Command::new("/proc/self/exe").arg("--help").output())),
    ("handling page faults of one's own", |_| {
        // SAFETY: makes a descriptor, which the end of the process closes.
        error_of(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })
    }),
];

/// What is done until the programs are loaded, and not afterwards.
const LOADING: &[(&str, Act)] = &[
    ("writing to a file of one's own", |stage| {
        io_error(OpenOptions::new().append(true).open(stage.directory.join("mine")))
    }),
    ("CAP_PERFMON: counting what the kernel does", |_| {
        // `struct perf_event_attr`: type software, its size, and the CPU's clock.
        let mut attributes = [0_u64; 16];
        attributes[0] = 1 | 128 << 32;
        // SAFETY: so many bytes are there; it makes a descriptor, which the end of the process closes.
        error_of(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, 0) })
    }),
    ("CAP_BPF: loading a program", |_| {
        // r0 = 0; exit.
        let program: [u64; 2] = [0xb7, 0x95];
        const SOCKET_FILTER: u64 = 1;
        let attributes: [u64; 6] =
            [SOCKET_FILTER | 2 << 32, program.as_ptr().addr() as u64, c"GPL".as_ptr().addr() as u64, 0, 0, 0];
        const PROG_LOAD: libc::c_int = 5;
        // SAFETY: the structure and what it points to are there; it makes a descriptor, which the end closes.
        error_of(unsafe {
            libc::syscall(libc::SYS_bpf, PROG_LOAD, attributes.as_ptr(), size_of_val(&attributes))
        })
    }),
];

/// Each act works before, where this machine lets root do it at all, and is refused afterwards.
pub(super) fn all_fails(context: &Context) -> anyhow::Result<Outcome> {
    let directory = context.directory();
    for name in ["own", "other", "mine"] {
        fs::write(directory.join(name), "")?;
    }
    chown(directory.join("other"), Some(65534), None)?;
    let stranger = Stranger::start()?;
    let stage = Stage { directory, stranger: &stranger };
    Ok(Outcome::Passed(in_child(|| in_turn(&stage))?))
}

fn in_turn(stage: &Stage<'_>) -> anyhow::Result<String> {
    let mut not_shown = Vec::new();
    for (what, act) in ACTS.iter().chain(LOADING) {
        // What the machine refuses to root shows nothing afterwards.
        if let Some(error @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) = apart(|| act(stage))? {
            not_shown.push(format!("{what} ({})", io::Error::from_raw_os_error(error)));
        }
    }
    let confined = confine(&ServiceSettings::default())?;
    ensure!(confined.kept().is_empty(), "not given up: {:?}", confined.kept());
    are_refused(stage, ACTS)?;
    confined.load(|| ())?;
    are_refused(stage, ACTS)?;
    are_refused(stage, LOADING)?;
    let shown = ACTS.len() + LOADING.len() - not_shown.len();
    ensure!(shown * 2 > ACTS.len(), "this machine refuses most of it to root: {not_shown:?}");
    let not_shown = if not_shown.is_empty() { "none".to_owned() } else { not_shown.join(", ") };
    Ok(format!("{shown} acts worked before and fail now; refused by this machine before: {not_shown}"))
}

fn are_refused(stage: &Stage<'_>, acts: &[(&str, Act)]) -> anyhow::Result<()> {
    acts.iter().try_for_each(|(what, act)| refused(what, apart(|| act(stage))?))
}

fn io_error<T>(result: io::Result<T>) -> Option<i32> {
    result.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO))
}
