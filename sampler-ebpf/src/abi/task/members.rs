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
            /// Priority as the scheduler has it, also while a lock's waiter lends it, an int: below 0 of the
            /// deadline class, below 100 real-time.
            TaskPrio = "task_struct"."prio", &[4], true;
            /// Policy that was asked for, `SCHED_`.
            TaskPolicy = "task_struct"."policy", &[4], true;
            /// What is left of a deadline thread's runtime in its period, a signed number, ns.
            TaskDlRuntime = "task_struct"."dl.runtime", &[8], false;
            /// Scheduler's clock at a deadline thread's next deadline, ns.
            TaskDlNext = "task_struct"."dl.deadline", &[8], false;
            /// From the begin of its period to the deadline, ns.
            TaskDlDeadline = "task_struct"."dl.dl_deadline", &[8], false;
            /// Length of its period, ns.
            TaskDlPeriod = "task_struct"."dl.dl_period", &[8], false;
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
            /// Page faults that were served from memory.
            TaskMinFlt = "task_struct"."min_flt", &[8], true;
            /// Page faults for which the thread had to wait: for a disk, or for whoever brings the page.
            TaskMajFlt = "task_struct"."maj_flt", &[8], true;
            /// The `struct pid` of the thread.
            TaskThreadPid = "task_struct"."thread_pid", &[8], true;
            /// The process's address space.
            TaskMm = "task_struct"."mm", &[8], false;
            /// The thread's entries in the lists of its `struct pid`s, that of its own id first.
            TaskPidLinks = "task_struct"."pid_links", &[64], false;
            /// Lists of those that a `struct pid` names, the thread of that id first.
            PidTasks = "pid"."tasks", &[32], false;
            /// The inode of an open file.
            FileInode = "file"."f_inode", &[8], false;
            /// The directory entry of an open file.
            FileDentry = "file"."f_path.dentry", &[8], false;
            /// What an open file stands for, to whoever made it.
            FilePrivate = "file"."private_data", &[8], false;
            /// The file system of an inode.
            InodeSb = "inode"."i_sb", &[8], false;
            /// Which file system it is.
            SbMagic = "super_block"."s_magic", &[8], false;
            /// Name of a directory entry.
            DentryName = "dentry"."d_name.name", &[8], false;
            /// The thread waits for I/O.
            TaskInIowait = "task_struct"."in_iowait", BIT, false;
            /// The thread is stopped: by a signal, a debugger, or the freezer of its control group. Needs
            /// `CONFIG_CGROUPS`.
            TaskFrozen = "task_struct"."frozen", BIT, false;
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
            /// The run queue that has the state of a core's core scheduling. Needs `CONFIG_SCHED_CORE`, 5.14.
            RqCore = "rq"."core", &[8], false;
            /// Of that one: CPUs of the core that core scheduling forces idle; up to 5.16 whether there are
            /// some.
            RqForcedIdle = "rq"."core_forceidle_count" or "core_forceidle", &[4, 1], false;
            /// Of that one: how often core scheduling began to force CPUs of the core idle.
            RqForcedIdles = "rq"."core_forceidle_seq", &[4], false;
            /// The same count when a thread of this run queue was picked as it began.
            CfsRqForcedIdles = "cfs_rq"."forceidle_seq", &[4], false;
            /// Threads that are on a CPU or wait for it.
            RqRunnable = "rq"."nr_running", &[4], false;
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
