//! System calls that are refused to the service, whatever capabilities it has.
//!
//! A list of what is refused and not of what is allowed: the allow list is the unit's, which knows the C
//! library that it runs with no better, but can be changed without a build. All that is refused fails with
//! EPERM, but for calls that have an older one beside them. Those do not exist here: the C library falls back
//! to the older ones.

use std::{collections::BTreeMap, process};

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use crate::kernel::calls::{TUNGETDEVNETNS, TUNGETIFF};

/// Arguments of a call: it is refused where all of these hold of one of the lists.
type When = &'static [&'static [Argument]];
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A condition on one argument.
#[derive(Clone, Copy)]
enum Argument {
    /// Argument number, and what it is.
    Is(u8, u64),
    /// What it is not.
    IsNot(u8, u64),
    /// Which bits, and what they come to.
    Has(u8, u64, u64),
}

use Argument::{Has, Is, IsNot};

/// Starting programs. The service never does; the command for its repeated failure is another unit's.
const PROGRAMS: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat, libc::SYS_fork, libc::SYS_vfork];

/// Changing other processes. `CAP_SYS_PTRACE` is for reading what `/proc` shows of them.
const PROCESSES: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_ioprio_set,
    // Memory that others share by a number.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
];

/// Changing files. For opening them see [`OPEN`].
const FILES: &[c_long] = &[
    libc::SYS_creat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// Watching the kernel by counters; waiting for whoever connects, as the status socket does by then.
const OTHERS: &[c_long] = &[libc::SYS_perf_event_open, libc::SYS_listen];

/// What else `CAP_SYS_ADMIN` is for: mounts, namespaces of one's own, names, quotas, swap.
const ADMINISTRATION: &[c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_unshare,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    libc::SYS_acct,
    libc::SYS_syslog,
    // With CAP_DAC_READ_SEARCH it opens what no path leads to from here.
    libc::SYS_open_by_handle_at,
];

/// Changing the kernel, its clocks, and the ways into it that services have no use for.
const KERNEL: &[c_long] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_personality,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// Becoming somebody else.
const IDENTITY: &[c_long] = &[
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
];

/// What the service never does.
const NEVER: &[&[c_long]] = &[PROGRAMS, PROCESSES, ADMINISTRATION, KERNEL, IDENTITY];
/// What is over when the programs are loaded.
const AT_THE_START: &[&[c_long]] = &[FILES, OTHERS];

/// Calls that do not exist here: what they are to do is in memory, where a filter cannot look, or is done by
/// the kernel in place of calls.
const ABSENT: &[c_long] = &[
    libc::SYS_clone3,
    libc::SYS_openat2,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Opening for writing, or making, by the flags in this argument.
const fn opening<const FLAGS: u8>() -> [[Argument; 1]; 5] {
    const MODE: u64 = libc::O_ACCMODE as u64;
    const CREATE: u64 = libc::O_CREAT as u64;
    const TRUNCATE: u64 = libc::O_TRUNC as u64;
    [
        [Has(FLAGS, MODE, libc::O_WRONLY as u64)],
        [Has(FLAGS, MODE, libc::O_RDWR as u64)],
        // For ioctl alone.
        [Has(FLAGS, MODE, MODE)],
        [Has(FLAGS, CREATE, CREATE)],
        [Has(FLAGS, TRUNCATE, TRUNCATE)],
    ]
}

const OPEN: [[Argument; 1]; 5] = opening::<1>();
const OPENAT: [[Argument; 1]; 5] = opening::<2>();

const fn flag(flags: c_int) -> u64 {
    flags.cast_unsigned() as u64
}

/// A thread of this process, in its namespaces: the flags are the first argument.
const NO_THREAD: [Argument; 1] = [Has(0, flag(libc::CLONE_THREAD), 0)];
const NEW_NETWORK: [Argument; 1] = [Has(0, flag(libc::CLONE_NEWNET), flag(libc::CLONE_NEWNET))];
const NEW_HOST: [Argument; 1] = [Has(0, flag(libc::CLONE_NEWUTS), flag(libc::CLONE_NEWUTS))];
const NEW_IPC: [Argument; 1] = [Has(0, flag(libc::CLONE_NEWIPC), flag(libc::CLONE_NEWIPC))];
const NEW_MOUNTS: [Argument; 1] = [Has(0, flag(libc::CLONE_NEWNS), flag(libc::CLONE_NEWNS))];
const NEW_GROUPS: [Argument; 1] = [Has(0, flag(libc::CLONE_NEWCGROUP), flag(libc::CLONE_NEWCGROUP))];

/// With which arguments calls are never made.
const NEVER_SO: &[(c_long, When)] = &[
    (libc::SYS_clone, &[&NO_THREAD, &NEW_NETWORK, &NEW_HOST, &NEW_IPC, &NEW_MOUNTS, &NEW_GROUPS]),
    // Into network namespaces alone.
    (libc::SYS_setns, &[&[IsNot(1, flag(libc::CLONE_NEWNET))]]),
    // Collectors and the service manager; of netlink the interfaces and addresses.
    (
        libc::SYS_socket,
        &[
            &[
                IsNot(0, flag(libc::AF_UNIX)),
                IsNot(0, flag(libc::AF_INET)),
                IsNot(0, flag(libc::AF_INET6)),
                IsNot(0, flag(libc::AF_NETLINK)),
            ],
            &[Is(0, flag(libc::AF_NETLINK)), IsNot(2, flag(libc::NETLINK_ROUTE))],
        ],
    ),
    // Its own limits and priorities alone: 0 is the caller.
    (libc::SYS_prlimit64, &[&[IsNot(0, 0)]]),
    (libc::SYS_setpriority, &[&[IsNot(1, 0)]]),
    (libc::SYS_sched_setaffinity, &[&[IsNot(0, 0)]]),
    (libc::SYS_sched_setattr, &[&[IsNot(0, 0)]]),
    (libc::SYS_sched_setparam, &[&[IsNot(0, 0)]]),
    (libc::SYS_sched_setscheduler, &[&[IsNot(0, 0)]]),
    // Who gets a signal from a descriptor, and which.
    (libc::SYS_fcntl, &[&[Is(1, F_SETOWN)], &[Is(1, F_SETSIG)], &[Is(1, F_SETOWN_EX)]]),
    // What opens files, freezes file systems, passes commands to disks, and puts words into the mouth of a
    // terminal, each by a number of its own.
    (libc::SYS_ioctl, &[&NO_SERVING_IOCTL]),
];

/// With which arguments calls are made at the start alone.
const AT_THE_START_SO: &[(c_long, When)] = &[
    (libc::SYS_open, &[&OPEN[0], &OPEN[1], &OPEN[2], &OPEN[3], &OPEN[4]]),
    (libc::SYS_openat, &[&OPENAT[0], &OPENAT[1], &OPENAT[2], &OPENAT[3], &OPENAT[4]]),
];

/// Of `asm-generic/fcntl.h`.
const F_SETOWN: u64 = 8;
const F_SETSIG: u64 = 10;
const F_SETOWN_EX: u64 = 15;

/// Requests of ioctl(2) that the service makes: for interfaces by their names, taps and their namespaces;
/// descriptors that do not wait, and are closed in programs; whether a terminal reads, and how wide it is.
const NO_SERVING_IOCTL: [Argument; 8] = [
    IsNot(1, libc::SIOCGIFINDEX),
    IsNot(1, TUNGETIFF),
    IsNot(1, TUNGETDEVNETNS),
    IsNot(1, libc::FIONBIO),
    IsNot(1, libc::FIOCLEX),
    IsNot(1, libc::FIONCLEX),
    IsNot(1, libc::TCGETS),
    IsNot(1, libc::TIOCGWINSZ),
];

/// Calls from this number on came with Linux 6.13 or later, or are to come. They do not exist here, whatever
/// they do: no C library needs one that it has no other way for.
const UNKNOWN: u32 = 463;

/// Commands of bpf(2) that serving takes, by `enum bpf_cmd`: maps by their descriptors, and making one where
/// guests need more room; links of programs that are loaded; iterators.
const SERVING: [u64; 13] = [
    0,  // MAP_CREATE
    1,  // MAP_LOOKUP_ELEM
    2,  // MAP_UPDATE_ELEM
    3,  // MAP_DELETE_ELEM
    4,  // MAP_GET_NEXT_KEY
    15, // OBJ_GET_INFO_BY_FD
    17, // RAW_TRACEPOINT_OPEN
    21, // MAP_LOOKUP_AND_DELETE_ELEM
    22, // MAP_FREEZE
    24, // MAP_LOOKUP_BATCH
    25, // MAP_LOOKUP_AND_DELETE_BATCH
    28, // LINK_CREATE
    33, // ITER_CREATE
];

/// Why a filter is not in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    /// It could not be written.
    #[error(transparent)]
    Written(#[from] BackendError),
    /// The kernel did not take it.
    #[error(transparent)]
    Taken(#[from] seccompiler::Error),
}

/// Refuses what the service never does, to the calling thread and those that it starts.
pub(super) fn refuse() -> Result<(), FilterError> {
    let mut rules = rules(NEVER, NEVER_SO)?;
    // A thread of its own may be signalled, as abort(3) does.
    rules.insert(libc::SYS_tgkill, vec![rule(&[IsNot(0, process::id().into())])?]);
    seccompiler::apply_filter(&without_others(written(rules, libc::EPERM)?))?;
    Ok(seccompiler::apply_filter(&written(self::rules(&[ABSENT], &[])?, libc::ENOSYS)?)?)
}

/// Refuses what is over when the programs are loaded, to all threads of the process.
pub(super) fn refuse_what_is_over() -> Result<(), FilterError> {
    Ok(seccompiler::apply_filter_all_threads(&what_is_over()?)?)
}

fn what_is_over() -> Result<BpfProgram, BackendError> {
    let mut rules = rules(AT_THE_START, AT_THE_START_SO)?;
    let not_serving: Vec<_> = SERVING.iter().map(|&command| IsNot(0, command)).collect();
    rules.insert(libc::SYS_bpf, vec![rule(&not_serving)?]);
    written(rules, libc::EPERM)
}

fn rules(always: &[&[c_long]], sometimes: &[(c_long, When)]) -> Result<Rules, BackendError> {
    let mut rules: Rules = always.iter().copied().flatten().map(|&call| (call, Vec::new())).collect();
    for (call, when) in sometimes {
        rules.insert(*call, when.iter().map(|all| rule(all)).collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

fn written(rules: Rules, error: c_int) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(error.cast_unsigned());
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, here)?.try_into()
}

fn rule(all: &[Argument]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(all.iter().map(|argument| argument.condition()).collect::<Result<_, _>>()?)
}

impl Argument {
    /// The lower half: flags and numbers are 32 bits wide, and the kernel looks at no more of them.
    fn condition(self) -> Result<SeccompCondition, BackendError> {
        let (number, comparison, value) = match self {
            Is(number, value) => (number, SeccompCmpOp::Eq, value),
            IsNot(number, value) => (number, SeccompCmpOp::Ne, value),
            Has(number, bits, value) => (number, SeccompCmpOp::MaskedEq(bits), value),
        };
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, comparison, value)
    }
}

/// Refuses the calls of x32 before all others: they have numbers of their own, which no rule names. Lets those
/// not exist that are newer than these rules.
fn without_others(program: BpfProgram) -> BpfProgram {
    /// `__X32_SYSCALL_BIT`
    const X32: u32 = 0x4000_0000;
    const NUMBER: u32 = 0;
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IS_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const NONE: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let line = |code: u32, jf, k| sock_filter { code: code as u16, jt: 0, jf, k };
    let head = [
        line(LOAD, 0, NUMBER),
        line(IS_AT_LEAST, 1, X32),
        line(RETURN, 0, REFUSED),
        line(IS_AT_LEAST, 1, UNKNOWN),
        line(RETURN, 0, NONE),
    ];
    head.into_iter().chain(program).collect()
}

#[cfg(test)]
mod tests;
