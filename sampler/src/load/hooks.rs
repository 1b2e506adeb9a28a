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
        /// Helper that the program calls and that older kernels lack, by its name in `enum bpf_func_id`.
        helper: Option<&'static str>,
    },
    /// A tracepoint with bare arguments; 4.17 and later.
    RawTracepoint {
        /// Name of the program in the object.
        program: &'static str,
        /// Name of the tracepoint.
        tracepoint: &'static str,
    },
    /// An iterator over kernel objects, run by reading from it; 5.8 and later for tasks.
    Iterator {
        /// Name of the program in the object.
        program: &'static str,
        /// What it iterates over.
        over: &'static str,
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
    /// Without a needed hook the sampler does not start.
    pub needed: bool,
    /// Checks that the kernel passes what the program expects.
    pub shape: fn(&Btf) -> Result<(), String>,
}

/// All hooks.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "sched_switch",
        gives: "run time, run delay, switches and migrations of vCPU threads",
        ways: &[
            Attach::BtfTracepoint {
                program: "sched_switch_btf",
                tracepoint: "sched_switch",
                helper: Some("BPF_FUNC_loop"),
            },
            Attach::BtfTracepoint {
                program: "sched_switch_btf_short",
                tracepoint: "sched_switch",
                helper: None,
            },
            Attach::RawTracepoint { program: "sched_switch_raw", tracepoint: "sched_switch" },
        ],
        needed: true,
        shape: sched_switch_shape,
    },
    Hook {
        name: "sched_migrate_task",
        gives: "who took the time that a vCPU waited on a CPU before it was moved to another",
        ways: &[
            Attach::BtfTracepoint {
                program: "sched_migrate_btf",
                tracepoint: "sched_migrate_task",
                helper: Some("BPF_FUNC_loop"),
            },
            Attach::BtfTracepoint {
                program: "sched_migrate_btf_short",
                tracepoint: "sched_migrate_task",
                helper: None,
            },
            Attach::RawTracepoint { program: "sched_migrate_raw", tracepoint: "sched_migrate_task" },
        ],
        needed: false,
        shape: sched_migrate_shape,
    },
    Hook {
        name: "task walk",
        gives: "vCPUs that ran before the start, and stints and waits that go on",
        ways: &[Attach::Iterator { program: "walk_tasks", over: "task" }],
        needed: true,
        shape: |_| Ok(()),
    },
];

/// `(task_struct *p, int dest_cpu)`
fn sched_migrate_shape(btf: &Btf) -> Result<(), String> {
    let parameters = btf.tracepoint("sched_migrate_task").map_err(|error: BtfError| error.to_string())?;
    match parameters.as_slice() {
        [task, Parameter::Other, ..] if *task == Parameter::Struct("task_struct".into()) => Ok(()),
        other => Err(format!("tracepoint sched_migrate_task passes {other:?}, expected (task_struct, int)")),
    }
}

/// `(bool preempt, task_struct *prev, task_struct *next, ...)`: what follows is not used.
fn sched_switch_shape(btf: &Btf) -> Result<(), String> {
    let parameters = btf.tracepoint("sched_switch").map_err(|error: BtfError| error.to_string())?;
    let task = Parameter::Struct("task_struct".into());
    match parameters.as_slice() {
        [Parameter::Other, prev, next, ..] if *prev == task && *next == task => Ok(()),
        other => Err(format!(
            "tracepoint sched_switch passes {other:?}, expected (preempt, task_struct, task_struct, ...)"
        )),
    }
}
