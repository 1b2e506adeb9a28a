use std::{collections::BTreeMap, path::Path};

use sampler_ebpf::abi::{ABSENT, MEMBERS, Member, MemberRow};

use super::resolve;
use crate::kernel::btf::{
    Btf, VMLINUX,
    fixture::{Builder, member},
};

/// A kernel with the members of these rows and sizes, in their order, after `gap` bytes of something else in
/// each structure.
fn kernel(rows: &[(MemberRow, u32)], gap: u32) -> Btf {
    let mut btf = Builder::new();
    let mut containers: BTreeMap<&str, Vec<(&'static str, u32)>> = BTreeMap::new();
    for (row, size) in rows {
        containers.entry(row.container).or_default().push((row.path, *size));
    }
    for (container, members) in containers {
        structure(&mut btf, container, &members, gap);
    }
    btf.build()
}

/// A structure with members at these paths: its type and its size.
fn structure(btf: &mut Builder, name: &str, paths: &[(&'static str, u32)], gap: u32) -> (u32, u32) {
    let mut nested: BTreeMap<&'static str, Vec<(&'static str, u32)>> = BTreeMap::new();
    let (mut members, mut offset) = (Vec::new(), gap);
    for (path, size) in paths {
        if let Some((outer, inner)) = path.split_once('.') {
            nested.entry(outer).or_default().push((inner, *size));
        } else {
            let type_id = btf.int(*size);
            members.push(member(path, type_id, offset));
            offset += size.next_multiple_of(8);
        }
    }
    for (outer, inner) in nested {
        let (type_id, size) = structure(btf, "", &inner, gap);
        members.push(member(outer, type_id, offset));
        offset += size;
    }
    (btf.structure(name, offset, &members), offset)
}

fn rows() -> Vec<(MemberRow, u32)> {
    MEMBERS.iter().map(|row| (*row, row.sizes[0])).collect()
}

#[test]
fn members_that_move_are_followed() {
    let (near, far) = (resolve(&kernel(&rows(), 0)).unwrap(), resolve(&kernel(&rows(), 64)).unwrap());
    for (n, row) in MEMBERS.iter().enumerate() {
        let nested = row.path.matches('.').count() as u32;
        assert!(far.at[n] >= near.at[n] + 64 * (1 + nested), "{}.{} did not move", row.container, row.path);
        let btf = kernel(&rows(), 64);
        assert_eq!(far.at[n], btf.field(row.container, row.path).unwrap().offset);
    }
}

#[test]
fn every_needed_member_that_is_missing_is_refused_by_name() {
    for (n, row) in MEMBERS.iter().enumerate() {
        let mut rows = rows();
        rows.remove(n);
        match resolve(&kernel(&rows, 8)) {
            Ok(offsets) => {
                assert!(!row.needed, "{}.{} is needed", row.container, row.path);
                assert_eq!(offsets.at[n], ABSENT);
            }
            Err(error) => {
                let text = error.to_string();
                assert!(row.needed && text.contains(row.container), "{text}");
                let alone = MEMBERS.iter().filter(|other| other.container == row.container).count() == 1;
                assert!(alone || text.contains(row.path), "{text}");
                assert!(text.starts_with("this kernel's layout is not understood"), "{text}");
            }
        }
    }
}

#[test]
fn a_member_that_other_kernels_keep_elsewhere_is_found_there() {
    let n = Member::StatHaltPollFail as usize;
    let mut rows = rows();
    rows[n].0.path = rows[n].0.elsewhere[0];
    let btf = kernel(&rows, 8);
    let found = resolve(&btf).unwrap().at[n];
    assert_eq!(found, btf.field("kvm_vcpu", "stat.halt_poll_fail_ns").unwrap().offset);
}

#[test]
fn every_member_of_unknown_size_is_refused_by_name() {
    for (n, row) in MEMBERS.iter().enumerate() {
        let mut rows = rows();
        rows[n].1 = 32;
        let text = resolve(&kernel(&rows, 8)).unwrap_err().to_string();
        assert!(text.contains(&format!("{}.{} is 32 bytes, known are", row.container, row.path)), "{text}");
    }
}

#[test]
fn a_kernel_without_either_name_of_the_threads_state_is_refused() {
    let without = |members: &[Member]| {
        let kept = rows().into_iter().enumerate().filter(|(n, _)| !members.iter().any(|m| *m as usize == *n));
        resolve(&kernel(&kept.map(|(_, row)| row).collect::<Vec<_>>(), 0))
    };
    assert!(without(&[Member::TaskState]).is_ok());
    assert!(without(&[Member::TaskStateOld]).is_ok());
    let text = without(&[Member::TaskState, Member::TaskStateOld]).unwrap_err().to_string();
    assert!(text.contains("neither __state nor state"), "{text}");
}

#[test]
fn the_running_kernel_is_understood() {
    if !Path::new(VMLINUX).exists() {
        eprintln!("skipped: {VMLINUX} does not exist on this kernel");
        return;
    }
    let offsets = resolve(&Btf::read(Path::new(VMLINUX)).unwrap()).unwrap();
    let at = |member: Member| offsets.at[member as usize];
    assert_eq!(
        at(Member::TaskRunDelay),
        at(Member::TaskPcount) + 8,
        "run_delay has followed pcount since 2.6.23"
    );
}
