//! The table of hooks. A new one is a function in `sampler-ebpf/src/hooks` and a row here.

use crate::kernel::btf::{Btf, BtfError, Parameter};

/// A way to attach a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A tracepoint with typed arguments; 5.5 and later.
    BtfTracepoint {
        /// Name of the program in the object.
        program: &'static str,
        /// Name of the tracepoint.
        tracepoint: &'static str,
    },
    /// A tracepoint with bare arguments; 4.17 and later.
    RawTracepoint {
        /// Name of the program in the object.
        program: &'static str,
        /// Name of the tracepoint.
        tracepoint: &'static str,
        /// How many arguments the program reads: a kernel that passes fewer does not let it be attached.
        reads: usize,
    },
    /// An iterator over kernel objects, run by reading from it; 5.8 and later for tasks.
    Iterator {
        /// Name of the program in the object.
        program: &'static str,
        /// What it iterates over.
        over: &'static str,
    },
}

/// When a hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From the start on.
    Start,
    /// While there are guests: a tracepoint of a module exists only once that is loaded, and being attached
    /// keeps it from being unloaded, as the guests do anyhow.
    Guests,
}

/// A tracepoint that is not as the programs on it expect.
#[derive(Debug, thiserror::Error)]
pub enum TracepointError {
    /// It cannot be found.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// It passes something else.
    #[error("tracepoint {tracepoint} passes {passes:?}, expected {expected}")]
    Arguments {
        /// The tracepoint.
        tracepoint: &'static str,
        /// What it passes.
        passes: Vec<Parameter>,
        /// What is expected.
        expected: &'static str,
    },
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Name, for messages.
    pub name: &'static str,
    /// What is lost without it.
    pub gives: &'static str,
    /// Ways to attach it, the best first.
    pub ways: &'static [Attach],
    /// When it is attached.
    pub when: When,
    /// Without a needed hook the sampler does not start; of those with guests, without a needed one none is
    /// attached.
    pub needed: bool,
    /// Checks that the kernel passes what the program expects.
    pub shape: fn(&Btf) -> Result<(), TracepointError>,
}

/// All hooks.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "sched_switch",
        gives: "run time, run delay, switches and migrations of vCPU threads",
        ways: &[
            Attach::BtfTracepoint { program: "sched_switch_btf", tracepoint: "sched_switch" },
            Attach::RawTracepoint { program: "sched_switch_raw", tracepoint: "sched_switch", reads: 3 },
        ],
        when: When::Start,
        needed: true,
        shape: sched_switch_shape,
    },
    Hook {
        name: "sched_migrate_task",
        gives: "who took the time that a vCPU waited on a CPU before it was moved to another",
        ways: &[
            Attach::BtfTracepoint { program: "sched_migrate_btf", tracepoint: "sched_migrate_task" },
            Attach::RawTracepoint {
                program: "sched_migrate_raw",
                tracepoint: "sched_migrate_task",
                reads: 2,
            },
        ],
        when: When::Start,
        needed: false,
        shape: sched_migrate_shape,
    },
    Hook {
        name: "task walk",
        gives: "vCPUs that ran before the start, and stints and waits that go on",
        ways: &[Attach::Iterator { program: "walk_tasks", over: "task" }],
        when: When::Start,
        needed: true,
        shape: |_| Ok(()),
    },
    Hook {
        name: "descriptor look",
        gives: "guests that do not run, and the end of those whose threads live on",
        ways: &[Attach::Iterator { program: "list_vcpus", over: "task_file" }],
        when: When::Start,
        needed: false,
        shape: |_| Ok(()),
    },
    Hook {
        name: "block_rq_complete",
        gives: "what guests ask of disks, and how long it takes",
        ways: &[
            Attach::BtfTracepoint { program: "block_rq_complete_btf", tracepoint: "block_rq_complete" },
            Attach::RawTracepoint {
                program: "block_rq_complete_raw",
                tracepoint: "block_rq_complete",
                reads: 3,
            },
        ],
        when: When::Start,
        needed: false,
        shape: block_rq_complete_shape,
    },
    kvm_hook(
        "kvm_entry",
        "the guest's own time",
        &[Attach::RawTracepoint { program: "kvm_entry", tracepoint: "kvm_entry", reads: 0 }],
        true,
    ),
    kvm_hook(
        KVM_EXIT,
        "the guest's own time, and why it was left",
        &[
            Attach::RawTracepoint { program: "kvm_exit_with_reason", tracepoint: "kvm_exit", reads: 3 },
            Attach::RawTracepoint { program: READS_REASONS, tracepoint: "kvm_exit", reads: 2 },
        ],
        true,
    ),
    kvm_hook(
        "kvm_userspace_exit",
        "the VMM's time on vCPU threads",
        &[Attach::RawTracepoint {
            program: "kvm_userspace_exit",
            tracepoint: "kvm_userspace_exit",
            reads: 0,
        }],
        true,
    ),
    kvm_hook(
        "kvm_fpu",
        "the end of the VMM's time at the begin of KVM_RUN, and not at the entry into the guest",
        &[Attach::RawTracepoint { program: "kvm_fpu", tracepoint: "kvm_fpu", reads: 1 }],
        false,
    ),
];

/// Name of the hook that reports why guests exit.
pub const KVM_EXIT: &str = "kvm_exit";

/// The program on `kvm_exit` that has to find the reason by itself.
pub(super) const READS_REASONS: &str = "kvm_exit";

/// Programs that a thread can be preempted in, from 7.0 on: there tracepoints do not hold preemption off, and
/// these are called with interrupts on. While one waits so, the kernel skips the same program for other
/// threads of that CPU.
pub const MAY_BE_PREEMPTED: &[&str] = &["kvm_userspace_exit", "kvm_fpu"];

/// Programs that an interrupt can come into which calls them again: a request ends while the end of another
/// is reported. The kernel skips the second then, and its request is not counted.
pub const MAY_BE_INTERRUPTED: &[&str] = &["block_rq_complete_btf", "block_rq_complete_raw"];

/// Raw tracepoints, for aya cannot attach typed ones of modules. The programs distinguish what these pass.
const fn kvm_hook(name: &'static str, gives: &'static str, ways: &'static [Attach], needed: bool) -> Hook {
    Hook { name, gives, ways, when: When::Guests, needed, shape: |_| Ok(()) }
}

/// `(task_struct *p, int dest_cpu)`
fn sched_migrate_shape(btf: &Btf) -> Result<(), TracepointError> {
    passes(
        btf,
        "sched_migrate_task",
        "(task_struct, int)",
        |parameters, task| matches!(parameters, [first, Parameter::Other, ..] if first == task),
    )
}

/// `(request *rq, blk_status_t or int error, unsigned int nr_bytes)`
fn block_rq_complete_shape(btf: &Btf) -> Result<(), TracepointError> {
    passes(btf, "block_rq_complete", "(request, int, int)", |parameters, _| match parameters {
        [Parameter::Struct(first), Parameter::Other, Parameter::Other] => first == "request",
        _ => false,
    })
}

/// `(bool preempt, task_struct *prev, task_struct *next, ...)`: what follows is not used.
fn sched_switch_shape(btf: &Btf) -> Result<(), TracepointError> {
    passes(btf, "sched_switch", "(preempt, task_struct, task_struct, ...)", |parameters, task| {
        match parameters {
            [Parameter::Other, prev, next, ..] => prev == task && next == task,
            _ => false,
        }
    })
}

/// Whether a tracepoint's parameters, beside a pointer to a thread, are as expected.
fn passes(
    btf: &Btf,
    tracepoint: &'static str,
    expected: &'static str,
    are_understood: impl FnOnce(&[Parameter], &Parameter) -> bool,
) -> Result<(), TracepointError> {
    let passes = btf.tracepoint(tracepoint)?;
    if are_understood(&passes, &Parameter::Struct("task_struct".into())) {
        Ok(())
    } else {
        Err(TracepointError::Arguments { tracepoint, passes, expected })
    }
}
