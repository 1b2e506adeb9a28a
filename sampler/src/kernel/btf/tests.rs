use std::path::Path;

use super::{
    Btf, BtfError, Field, Parameter, VMLINUX,
    fixture::{Builder, Member, member},
};

fn task() -> Btf {
    let mut btf = Builder::new();
    let u64_type = btf.int(8);
    let pointer = btf.pointer(0);
    let list = btf.structure("hlist_head", 8, &[member("first", pointer, 0)]);
    let list = btf.typedef("hlist_t", list);
    let inner = btf.union("", 16, &[member("first_view", u64_type, 0), member("second_view", u64_type, 8)]);
    btf.structure(
        "task_struct",
        64,
        &[member("state", u64_type, 8), member("notifiers", list, 16), member("", inner, 32)],
    );
    btf.structure(
        "packed",
        8,
        &[Member { name: "flag", type_id: u64_type, bit_offset: 3, bits: 1 }, member("whole", u64_type, 0)],
    );
    btf.build()
}

#[test]
fn finds_members_through_structures_typedefs_and_anonymous_unions() {
    let btf = task();
    assert_eq!(btf.field("task_struct", "state").unwrap(), Field { offset: 8, size: 8 });
    assert_eq!(btf.field("task_struct", "notifiers.first").unwrap(), Field { offset: 16, size: 8 });
    assert_eq!(btf.field("task_struct", "second_view").unwrap(), Field { offset: 40, size: 8 });
}

#[test]
fn names_what_is_missing() {
    let btf = task();
    let error = btf.field("task_struct", "notifiers.last").unwrap_err().to_string();
    assert_eq!(error, "struct task_struct of this kernel has no member notifiers.last");
    assert!(matches!(btf.field("rq", "clock"), Err(BtfError::NoStruct(name)) if name == "rq"));
    assert!(matches!(btf.tracepoint("sched_switch"), Err(BtfError::NoTracepoint(_))));
}

#[test]
fn a_member_s_structure_has_its_own_name_and_not_a_typedef_s() {
    let btf = task();
    assert_eq!(btf.structure_of("task_struct", "notifiers").unwrap(), "hlist_head");
    let error = btf.structure_of("task_struct", "state").unwrap_err().to_string();
    assert_eq!(error, "task_struct.state is no structure in this kernel");
    assert!(matches!(btf.structure_of("task_struct", "stack"), Err(BtfError::NoMember { .. })));
}

#[test]
fn refuses_bit_fields() {
    let btf = task();
    assert!(matches!(btf.field("packed", "flag"), Err(BtfError::BitField { .. })));
    assert_eq!(btf.field("packed", "whole").unwrap(), Field { offset: 0, size: 8 });
    assert_eq!(btf.bit("packed", "flag").unwrap(), 3);
    assert!(matches!(btf.bit("packed", "whole"), Err(BtfError::NoMember { .. })));
    assert!(matches!(btf.bit("packed", "none"), Err(BtfError::NoMember { .. })));
}

#[test]
fn reads_the_parameters_of_a_tracepoint() {
    let mut btf = Builder::new();
    let number = btf.int(4);
    let data = btf.pointer(0);
    let task = btf.structure("task_struct", 8, &[]);
    let task = btf.pointer(task);
    let prototype = btf.prototype(&[data, number, task]);
    let pointer = btf.pointer(prototype);
    btf.typedef("btf_trace_sched_switch", pointer);
    let parameters = btf.build().tracepoint("sched_switch").unwrap();
    assert_eq!(parameters, [Parameter::Other, Parameter::Struct("task_struct".into())]);
}

#[test]
fn broken_files_are_errors_and_not_panics() {
    let mut builder = Builder::new();
    let number = builder.int(8);
    builder.structure("rq", 8, &[member("clock", number, 0)]);
    let whole = builder.bytes();
    for cut in 0..whole.len() {
        let _ = Btf::parse(whole[..cut].to_vec()).and_then(|btf| btf.field("rq", "clock"));
    }
    for at in 0..whole.len() {
        for value in [0x00, 0x7f, 0xff] {
            let mut broken = whole.clone();
            broken[at] = value;
            let _ = Btf::parse(broken).and_then(|btf| btf.field("rq", "clock"));
        }
    }
    assert!(matches!(Btf::parse(b"ELF".to_vec()), Err(BtfError::Malformed(_))));
}

#[test]
fn a_type_that_contains_itself_ends() {
    let mut builder = Builder::new();
    // Type 1 is a typedef of type 1, and the structure's anonymous member is the structure itself.
    builder.typedef("loop", 1);
    builder.structure("rq", 8, &[member("", 2, 0), member("clock", 1, 0)]);
    assert!(builder.build().field("rq", "clock").is_err());
}

#[test]
fn reads_the_running_kernel() {
    let path = Path::new(VMLINUX);
    if !path.exists() {
        eprintln!("skipped: {VMLINUX} does not exist on this kernel");
        return;
    }
    let btf = Btf::read(path).unwrap();
    assert!(btf.len() > 10_000, "{} types", btf.len());
    let clock = btf.field("rq", "clock").unwrap();
    assert_eq!(clock.size, 8);
    assert!(matches!(
        btf.tracepoint("sched_switch").unwrap().as_slice(),
        [Parameter::Other, Parameter::Struct(prev), ..] if prev == "task_struct"
    ));
}

/// A module's types and strings count on from the kernel's, and refer to them.
#[test]
fn a_module_goes_on_where_the_kernel_ends() {
    let mut kernel = Builder::new();
    let word = kernel.int(8);
    kernel.structure("kvm_vcpu", 24, &[member("kvm", word, 16)]);
    let mut module = Builder::after(&kernel);
    let vcpu = 2;
    let code = module.int(4);
    module.structure(
        "vcpu_svm",
        40,
        &[member("vcpu", vcpu, 0), member("vmcb", word, 24), member("code", code, 32)],
    );
    let btf = kernel.build().extended(&module.bytes()).unwrap();
    assert_eq!(btf.field("vcpu_svm", "vmcb").unwrap(), Field { offset: 24, size: 8 });
    assert_eq!(btf.field("vcpu_svm", "code").unwrap(), Field { offset: 32, size: 4 });
    assert_eq!(btf.field("vcpu_svm", "vcpu.kvm").unwrap(), Field { offset: 16, size: 8 });
    assert_eq!(btf.field("kvm_vcpu", "kvm").unwrap(), Field { offset: 16, size: 8 });
    for cut in 0..module.bytes().len() {
        let _ = kernel.build().extended(&module.bytes()[..cut]).and_then(|btf| btf.field("vcpu_svm", "vmcb"));
    }
}

#[test]
fn elements_of_arrays_are_found_by_enumerators() {
    let mut btf = Builder::new();
    btf.enumeration(0, &["cpu_id", "io_id", "COUNT"]);
    let u64_type = btf.int(8);
    let pointer = btf.pointer(0);
    let array = btf.array(pointer, 2);
    let inner = btf.structure("inner", 16, &[member("first", u64_type, 0), member("second", u64_type, 8)]);
    let structures = btf.array(inner, 4);
    btf.structure(
        "set",
        96,
        &[member("subsys", array, 16), member("all", structures, 32), member("one", u64_type, 0)],
    );
    let btf = btf.build();
    assert_eq!(btf.field("set", "subsys[io_id]").unwrap(), Field { offset: 24, size: 8 });
    assert_eq!(btf.field("set", "all[COUNT].second").unwrap(), Field { offset: 72, size: 8 });
    for path in
        ["subsys[COUNT]", "subsys[missing]", "one[io_id]", "missing[io_id]", "subsys[io_id", "subsys]"]
    {
        assert!(matches!(btf.field("set", path), Err(BtfError::NoMember { .. })), "{path}");
    }
    assert_eq!((btf.enumerator("io_id"), btf.enumerator("io")), (Some(1), None));
}
