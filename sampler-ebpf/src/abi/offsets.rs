//! The kernel members that the programs read, found in the running kernel's BTF at start.
//!
//! rustc emits no CO-RE relocations, and layouts move inside one distribution release, so user space looks
//! every member up in `/sys/kernel/btf/vmlinux` and hands the offsets over as a read-only global. The
//! verifier treats loads from that frozen section as constants, which makes
//! `task + offset` a typed load that it can check.

/// The offset of a member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// One row of the table of wanted members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The structure's name in BTF.
    pub container: &'static str,
    /// Path of the member inside the structure, dots between nested structures.
    pub path: &'static str,
    /// Where other kernels keep the same member; looked for when `path` is not there.
    pub elsewhere: &'static [&'static str],
    /// Sizes in bytes that the programs know how to read; any other size means that the member changed its meaning.
    pub sizes: &'static [u32],
    /// Without a needed member the programs are refused.
    pub needed: bool,
}

macro_rules! members {
    ($($(#[$doc:meta])* $name:ident = $container:literal . $path:literal $(or $elsewhere:literal)*, $sizes:expr, $needed:expr;)*) => {
        /// A kernel member that the programs read; the discriminant is its index in [`Offsets::at`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Member { $($(#[$doc])* $name,)* }

        /// One row for each [`Member`], in the order of its discriminants.
        pub const MEMBERS: &[MemberRow] = &[
            $(MemberRow {
                container: $container,
                path: $path,
                elsewhere: &[$($elsewhere),*],
                sizes: $sizes,
                needed: $needed,
            },)*
        ];
    };
}

members! {
    /// The thread's id in the initial pid namespace, `pid_t`.
    TaskPid = "task_struct"."pid", &[4], true;
    /// The thread group's id in the initial pid namespace, `pid_t`.
    TaskTgid = "task_struct"."tgid", &[4], true;
    /// Name of the thread.
    TaskComm = "task_struct"."comm", &[16], true;
    /// `CLOCK_MONOTONIC` when the thread was created, ns.
    TaskStartTime = "task_struct"."start_time", &[8], true;
    /// `CLOCK_BOOTTIME` when the thread was created, ns. 5.10 and later (`real_start_time` before 5.5).
    TaskStartBoottime = "task_struct"."start_boottime", &[8], true;
    /// The process's first thread.
    TaskGroupLeader = "task_struct"."group_leader", &[8], true;
    /// `PF_` flags of the thread.
    TaskFlags = "task_struct"."flags", &[4], true;
    /// Non-zero while the thread is on a CPU. `int` up to 6.12, `u8` in 7.2: the low byte holds the value in both.
    TaskOnCpu = "task_struct"."on_cpu", &[1, 4], true;
    /// Head of the preempt notifiers: non-NULL while the thread is inside a KVM vCPU ioctl.
    TaskPreemptNotifiers = "task_struct"."preempt_notifiers.first", &[8], true;
    /// CPU time as the scheduler counts it, ns. `update_curr()` keeps it, `/proc/PID/schedstat` prints it.
    TaskSumExecRuntime = "task_struct"."se.sum_exec_runtime", &[8], true;
    /// `rq_clock_task` of the last `update_curr()` of a running thread, ns.
    TaskExecStart = "task_struct"."se.exec_start", &[8], true;
    /// Times that the thread was moved to another CPU.
    TaskNrMigrations = "task_struct"."se.nr_migrations", &[8], true;
    /// The run queue of the thread's CPU, and by it the scheduler's clock. Needs `CONFIG_FAIR_GROUP_SCHED`.
    TaskCfsRq = "task_struct"."se.cfs_rq", &[8], true;
    /// Time spent runnable and waiting, ns: what a guest reads as steal.
    TaskRunDelay = "task_struct"."sched_info.run_delay", &[8], true;
    /// Times that the thread was given a CPU.
    TaskPcount = "task_struct"."sched_info.pcount", &[8], true;
    /// Scheduler's clock when the wait that is going on began; 0 when the thread does not wait.
    TaskLastQueued = "task_struct"."sched_info.last_queued", &[8], true;
    /// Scheduler's clock when the thread was given its CPU last.
    TaskLastArrival = "task_struct"."sched_info.last_arrival", &[8], true;
    /// Voluntary context switches.
    TaskNvcsw = "task_struct"."nvcsw", &[8], true;
    /// Involuntary context switches.
    TaskNivcsw = "task_struct"."nivcsw", &[8], true;
    /// The `struct pid` of the thread.
    TaskThreadPid = "task_struct"."thread_pid", &[8], true;
    /// State word up to 5.13, a signed long.
    TaskStateOld = "task_struct"."state", &[8], false;
    /// State word from 5.14 on.
    TaskState = "task_struct"."__state", &[4], false;
    /// The run queue that a CFS run queue belongs to.
    CfsRqRq = "cfs_rq"."rq", &[8], true;
    /// The thread's group, as the scheduler has it. Needs `CONFIG_CGROUP_SCHED`.
    TaskGroup = "task_struct"."sched_task_group", &[8], false;
    /// The group's run queues, by CPU.
    GroupCfsRqs = "task_group"."cfs_rq", &[8], false;
    /// Scheduler's clock when a quota began to hold the queue back, ns; 0 while none does. From 6.6 on.
    CfsRqThrottledSelf = "cfs_rq"."throttled_clock_self", &[8], false;
    /// Time for which quotas, the group's own or one above, have held the queue back, ns. From 6.6 on.
    CfsRqThrottledSelfTime = "cfs_rq"."throttled_clock_self_time", &[8], false;
    /// How many quotas, the group's own and those above, hold the queue back.
    CfsRqThrottleCount = "cfs_rq"."throttle_count", &[4], false;
    /// Clock of the load average when a quota began to hold the queue back, ns. Its namesake of older stable kernels,
    /// `throttled_clock_task`, is of another clock.
    CfsRqThrottledPelt = "cfs_rq"."throttled_clock_pelt", &[8], false;
    /// Time on that clock for which quotas have held the queue back, ns.
    CfsRqThrottledPeltTime = "cfs_rq"."throttled_clock_pelt_time", &[8], false;
    /// Non-zero while a quota holds this very thread back. From 6.18 on; before, quotas hold back whole queues.
    TaskThrottled = "task_struct"."throttled", &[1], false;
    /// Clock of the load average of a CPU, ns.
    RqClockPelt = "rq"."clock_pelt", &[8], false;
    /// Time that this clock has lost and skips, ns.
    RqLostIdleTime = "rq"."lost_idle_time", &[8], false;
    /// The CPU of a run queue.
    RqCpu = "rq"."cpu", &[4], true;
    /// The scheduler's clock of a CPU, ns, as of its last update.
    RqClock = "rq"."clock", &[8], true;
    /// The same without time spent in interrupts and, where the kernel accounts it, stolen from the host itself: the clock of `exec_start`.
    RqClockTask = "rq"."clock_task", &[8], true;
    /// The notifier that KVM registers for a vCPU; its `link` is what `preempt_notifiers` points to.
    VcpuNotifierLink = "kvm_vcpu"."preempt_notifier.link", &[16], true;
    /// The vCPU's id as user space chose it, the N of `anon_inode:kvm-vcpu:N`.
    VcpuId = "kvm_vcpu"."vcpu_id", &[4], true;
    /// The `struct pid` of the thread that ran the vCPU last: set by `KVM_RUN` alone, before it loads the vCPU.
    VcpuPid = "kvm_vcpu"."pid", &[8], true;
    /// The VM that the vCPU belongs to.
    VcpuKvm = "kvm_vcpu"."kvm", &[8], true;
    /// The thread that KVM puts to sleep because the vCPU has nothing to do; NULL while none is. `struct rcuwait` since 5.8.
    VcpuWaitTask = "kvm_vcpu"."wait.task", &[8], true;
    /// Passes through the loop that enters the guest.
    StatExits = "kvm_vcpu"."stat.exits", &[8], false;
    /// Exits because the guest halted.
    StatHaltExits = "kvm_vcpu"."stat.halt_exits", &[8], false;
    /// Time of halt polls that ended with a wake-up, ns.
    StatHaltPollSuccess = "kvm_vcpu"."stat.generic.halt_poll_success_ns" or "stat.halt_poll_success_ns", &[8], false;
    /// Time of halt polls that ended without one, ns.
    StatHaltPollFail = "kvm_vcpu"."stat.generic.halt_poll_fail_ns" or "stat.halt_poll_fail_ns", &[8], false;
    /// Halt polls.
    StatHaltPollsAttempted = "kvm_vcpu"."stat.generic.halt_attempted_poll" or "stat.halt_attempted_poll", &[8], false;
    /// Halt polls that ended with a wake-up.
    StatHaltPollsSuccessful = "kvm_vcpu"."stat.generic.halt_successful_poll" or "stat.halt_successful_poll", &[8], false;
    /// Time blocked in a halt after polling, ns. Not in 5.10.
    StatHaltWait = "kvm_vcpu"."stat.generic.halt_wait_ns" or "stat.halt_wait_ns", &[8], false;
    /// Times that a halted vCPU was woken up.
    StatHaltWakeups = "kvm_vcpu"."stat.generic.halt_wakeup" or "stat.halt_wakeup", &[8], false;
    /// Exits to user space for port I/O.
    StatIoExits = "kvm_vcpu"."stat.io_exits", &[8], false;
    /// Exits to user space for memory-mapped I/O.
    StatMmioExits = "kvm_vcpu"."stat.mmio_exits", &[8], false;
    /// Exits to user space because of a signal.
    StatSignalExits = "kvm_vcpu"."stat.signal_exits", &[8], false;
    /// Exits because of an interrupt of the host.
    StatIrqExits = "kvm_vcpu"."stat.irq_exits", &[8], false;
    /// Interrupts injected.
    StatIrqInjections = "kvm_vcpu"."stat.irq_injections", &[8], false;
    /// NMIs injected.
    StatNmiInjections = "kvm_vcpu"."stat.nmi_injections", &[8], false;
    /// Hypercalls.
    StatHypercalls = "kvm_vcpu"."stat.hypercalls", &[8], false;
    /// Instructions emulated.
    StatEmulations = "kvm_vcpu"."stat.insn_emulation", &[8], false;
    /// Page faults of the guest that KVM fixed.
    StatPageFaultsFixed = "kvm_vcpu"."stat.pf_fixed", &[8], false;
    /// Flushes of the TLB asked for.
    StatTlbFlushes = "kvm_vcpu"."stat.tlb_flush", &[8], false;
    /// Entries into a guest of the guest. Not in 5.10.
    StatNestedRuns = "kvm_vcpu"."stat.nested_run", &[8], false;
    /// Directed yields tried. Not in 5.10.
    StatYieldsAttempted = "kvm_vcpu"."stat.directed_yield_attempted", &[8], false;
    /// Directed yields that found a vCPU. Not in 5.10.
    StatYieldsSuccessful = "kvm_vcpu"."stat.directed_yield_successful", &[8], false;
    /// Preemptions that the guest was told of.
    StatPreemptionsReported = "kvm_vcpu"."stat.preemption_reported", &[8], false;
}

/// What the programs get of the running kernel's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// Offset of each [`Member`] from the start of its structure in bytes, or [`ABSENT`].
    pub at: [u32; MEMBERS.len()],
}

impl Offsets {
    /// No member is known: what the object file carries until the loader fills it in.
    pub const UNKNOWN: Self = Self { at: [ABSENT; MEMBERS.len()] };
}
