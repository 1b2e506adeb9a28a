//! Types that nobody checked.

use super::{
    Btf,
    fixture::{Builder, member},
};
use crate::fuzzing::{Memory, Target};

const BTF: Target = Target {
    name: "btf",
    words: &["task_struct", "se", "sum_exec_runtime", "btf_trace_sched_switch", "INDEX", "\u{1}\0\0\u{4}"],
    inputs: 10_000,
    // Offsets of the types, and the types of kernel and module in one piece.
    memory: Memory { fixed: 256 << 10, each: 8 },
};

/// A kernel with all kinds of types that are asked for.
fn kernel() -> Builder {
    let mut btf = Builder::new();
    let number = btf.int(8);
    let entity = btf.structure("sched_entity", 16, &[member("sum_exec_runtime", number, 8)]);
    let entity = btf.typedef("entity_t", entity);
    let inner = btf.union("", 16, &[member("first", number, 0), member("second", number, 8)]);
    btf.enumeration(2, &["FIRST", "INDEX"]);
    let counts = btf.array(number, 9);
    let members = [
        member("se", entity, 8),
        member("", inner, 24),
        member("counts", counts, 40),
        member("state", number, 0),
    ];
    let task = btf.structure("task_struct", 112, &members);
    let task = btf.pointer(task);
    let prototype = btf.prototype(&[0, number, task]);
    let prototype = btf.pointer(prototype);
    btf.typedef("btf_trace_sched_switch", prototype);
    btf
}

/// Structures without a name that each have the next one twice, and have no end.
fn bottomless() -> Builder {
    let mut btf = Builder::new();
    let own = btf.structure("task_struct", 8, &[member("", 1, 0), member("", 1, 0)]);
    assert_eq!(own, 1, "it is made of itself");
    btf
}

fn module() -> Builder {
    let mut btf = Builder::after(&kernel());
    let number = btf.int(8);
    btf.structure("kvm_vcpu", 8, &[member("stat", number, 0)]);
    btf
}

/// Asks for all that is asked of a kernel.
fn ask(btf: &Btf) {
    for path in ["se.sum_exec_runtime", "first", "counts[INDEX]", "none"] {
        let _ = btf.field("task_struct", path);
    }
    let _ = btf.bit("task_struct", "state");
    let _ = btf.structure_of("task_struct", "se");
    let _ = btf.enumerator("INDEX");
    if let Ok(parameters) = btf.tracepoint("sched_switch") {
        assert!(parameters.len() <= usize::from(u16::MAX));
    }
}

#[test]
fn btf() {
    let kernel = kernel().build();
    let made = [self::kernel(), module()].map(|btf| btf.bytes());
    BTF.check(&made, |input| {
        if let Ok(btf) = Btf::parse(input.to_vec()) {
            assert!(btf.len() <= input.len() / 12, "{} types", btf.len());
            ask(&btf);
        }
        if let Ok(btf) = kernel.extended(input) {
            assert!(btf.field("task_struct", "first").is_ok(), "a module hides what the kernel has");
            ask(&btf);
        }
    });
}

#[test]
fn what_is_cut_short_is_refused() {
    let whole = kernel().bytes();
    assert!(Btf::parse(whole.clone()).is_ok());
    for length in 0..whole.len() {
        assert!(Btf::parse(whole[..length].to_vec()).is_err(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn a_structure_that_is_made_of_itself_ends() {
    assert!(bottomless().build().field("task_struct", "none").is_err());
}
