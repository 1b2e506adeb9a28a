use super::super::load::Load;
use super::*;
use crate::host::CpuList;

/// These need KVM; where it is missing they say so and the privileged runner counts its own tests as skipped.
fn without_kvm(test: &str) -> bool {
    let missing = available().err();
    if let Some(reason) = &missing {
        eprintln!("skipped {test}: {reason}");
    }
    missing.is_some()
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn every_load_runs_and_stops_wherever_halts_are_handled() {
    if without_kvm("every_load_runs_and_stops_wherever_halts_are_handled") {
        return;
    }
    for halt_in in [HaltIn::Kernel, HaltIn::UserSpace] {
        for name in ["busy", "half", "halt", "io", "mix"] {
            let load = Load::named(name, MS, MS).unwrap();
            let config = VmConfig { halt_in, ..VmConfig::uniform(3, load) };
            let vm = Vm::start(&config).unwrap();
            let vcpus = vm.vcpus();
            assert_eq!(vcpus.iter().map(|vcpu| vcpu.id).collect::<Vec<_>>(), [0, 1, 2]);
            assert!(vcpus.iter().all(|vcpu| vcpu.tid != 0 && vcpu.exits > 0), "{name}: {vcpus:?}");
            vm.stop().unwrap();
        }
    }
}

#[test]
fn threads_carry_the_names_and_vcpus_the_ids_that_were_asked_for() {
    if without_kvm("threads_carry_the_names_and_vcpus_the_ids_that_were_asked_for") {
        return;
    }
    let vcpus = vec![VcpuConfig::new(7, Load::Halt), VcpuConfig::new(3, Load::Halt)];
    let vm = Vm::start(&VmConfig { vcpus, name_threads: true, ..VmConfig::default() }).unwrap();
    let names: Vec<_> = vm
        .tids()
        .iter()
        .map(|tid| std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap())
        .collect();
    assert_eq!(names, ["CPU 7/KVM\n", "CPU 3/KVM\n"]);
    vm.stop().unwrap();
}

#[test]
fn an_id_used_twice_is_an_error_that_names_the_vcpu() {
    if without_kvm("an_id_used_twice_is_an_error_that_names_the_vcpu") {
        return;
    }
    let vcpus = vec![VcpuConfig::new(2, Load::Busy), VcpuConfig::new(2, Load::Busy)];
    let error = Vm::start(&VmConfig { vcpus, ..VmConfig::default() }).unwrap_err();
    assert_eq!(error.to_string(), "KVM_CREATE_VCPU of vCPU 2 failed: File exists (os error 17)");
}

#[test]
fn a_thread_that_cannot_be_placed_fails_the_start_at_once() {
    if without_kvm("a_thread_that_cannot_be_placed_fails_the_start_at_once") {
        return;
    }
    let nowhere = VcpuConfig { cpus: Some(CpuList::one(1023).unwrap()), ..VcpuConfig::new(1, Load::Busy) };
    let config = VmConfig { vcpus: vec![VcpuConfig::new(0, Load::Busy), nowhere], ..VmConfig::default() };
    let begin = Instant::now();
    let error = Vm::start(&config).unwrap_err();
    assert_eq!(error.to_string(), "the thread of vCPU 1 cannot be pinned: Invalid argument (os error 22)");
    assert!(begin.elapsed() < START_LIMIT / 2);
}
