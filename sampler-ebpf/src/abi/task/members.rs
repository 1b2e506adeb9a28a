//! What the programs read of threads, groups and run queues.

/// The rows, for [`crate::abi::Member`]: hands those before and these to `$then`, with the tables that
/// follow.
macro_rules! task_members {
    ($then:ident [$($tables:ident)*] $($before:tt)*) => {
        $then! {
            [$($tables)*] $($before)*
            /// The thread's id in the initial pid namespace, `pid_t`.
            TaskPid = "task_struct"."pid", &[4], true;
            /// The thread group's id in the initial pid namespace, `pid_t`.
            TaskTgid = "task_struct"."tgid", &[4], true;
            /// Name of the thread.
            TaskComm = "task_struct"."comm", &[16], true;
            /// `CLOCK_MONOTONIC` when the thread was created, ns.
            TaskStartTime = "task_struct"."start_time", &[8], true;
            /// `CLOCK_BOOTTIME` when the thread was created, ns. 5.10 and later (`real_start_time` before
            /// 5.5).
            TaskStartBoottime = "task_struct"."start_boottime", &[8], true;
            /// The process's first thread.
            TaskGroupLeader = "task_struct"."group_leader", &[8], true;
            /// `PF_` flags of the thread.
            TaskFlags = "task_struct"."flags", &[4], true;
            /// Non-zero while the thread is on a CPU. `int` up to 6.12, `u8` in 7.2: the low byte holds the
            /// value in both.
            TaskOnCpu = "task_struct"."on_cpu", &[1, 4], true;
            /// Head of the preempt notifiers: non-NULL while the thread is inside a KVM vCPU ioctl.
            TaskPreemptNotifiers = "task_struct"."preempt_notifiers.first", &[8], true;
            /// CPU time as the scheduler counts it, ns. `update_curr()` keeps it, `/proc/PID/schedstat`
            /// prints it.
            TaskSumExecRuntime = "task_struct"."se.sum_exec_runtime", &[8], true;
            /// `rq_clock_task` of the last `update_curr()` of a running thread, ns.
            TaskExecStart = "task_struct"."se.exec_start", &[8], true;
            /// Times that the thread was moved to another CPU.
            TaskNrMigrations = "task_struct"."se.nr_migrations", &[8], true;
            /// The run queue of the thread's CPU, and by it the scheduler's clock. Needs
            /// `CONFIG_FAIR_GROUP_SCHED`.
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
            /// Scheduler's clock when a quota began to hold the queue back, ns; 0 while none does. From 6.6
            /// on.
            CfsRqThrottledSelf = "cfs_rq"."throttled_clock_self", &[8], false;
            /// Time for which quotas, the group's own or one above, have held the queue back, ns. From 6.6
            /// on.
            CfsRqThrottledSelfTime = "cfs_rq"."throttled_clock_self_time", &[8], false;
            /// How many quotas, the group's own and those above, hold the queue back.
            CfsRqThrottleCount = "cfs_rq"."throttle_count", &[4], false;
            /// Clock of the load average when a quota began to hold the queue back, ns. Its namesake of older
            /// stable kernels, `throttled_clock_task`, is of another clock.
            CfsRqThrottledPelt = "cfs_rq"."throttled_clock_pelt", &[8], false;
            /// Time on that clock for which quotas have held the queue back, ns.
            CfsRqThrottledPeltTime = "cfs_rq"."throttled_clock_pelt_time", &[8], false;
            /// Non-zero while a quota holds this very thread back. From 6.18 on; before, quotas hold back
            /// whole queues.
            TaskThrottled = "task_struct"."throttled", &[1], false;
            /// Clock of the load average of a CPU, ns.
            RqClockPelt = "rq"."clock_pelt", &[8], false;
            /// Time that this clock has lost and skips, ns.
            RqLostIdleTime = "rq"."lost_idle_time", &[8], false;
            /// The CPU of a run queue.
            RqCpu = "rq"."cpu", &[4], true;
            /// The scheduler's clock of a CPU, ns, as of its last update.
            RqClock = "rq"."clock", &[8], true;
            /// The same without time spent in interrupts and, where the kernel accounts it, stolen from the
            /// host itself: the clock of `exec_start`.
            RqClockTask = "rq"."clock_task", &[8], true;
        }
    };
}

pub(in crate::abi) use task_members;
