use std::{collections::BTreeMap, path::Path};

use sampler_ebpf::abi::{ABSENT, BIT, MEMBERS, Member, MemberRow};

use super::{super::types::Types, resolve};
use crate::kernel::btf::{
    Btf, VMLINUX,
    fixture::{self, Builder, member},
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

/// The container of a vCPU's members.
const VCPU: &str = "kvm_vcpu";

/// What a kernel that keeps the types of vCPUs to its module publishes: the kernel's, and the module's.
fn kernel_and_module() -> [Vec<u8>; 2] {
    let of = |is_module: bool| {
        let members = MEMBERS.iter().filter(move |row| (row.container == VCPU) == is_module);
        members.fold(BTreeMap::<_, Vec<_>>::new(), |mut containers, row| {
            containers.entry(row.container).or_default().push((row.path, row.sizes[0]));
            containers
        })
    };
    let mut kernel = Builder::new();
    for (container, members) in of(false) {
        structure(&mut kernel, container, &members, 8);
    }
    let mut module = Builder::after(&kernel);
    structure(&mut module, VCPU, &of(true)[VCPU], 8);
    [kernel.bytes(), module.bytes()]
}

#[test]
fn members_that_a_module_alone_has_are_found_once_it_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let [kernel, module] = kernel_and_module();
    std::fs::write(directory.path().join("vmlinux"), kernel).unwrap();
    let offsets = || Types::published_in(directory.path()).unwrap().offsets();
    let text = offsets().unwrap_err().to_string();
    assert!(text.contains("load kvm_amd or kvm_intel"), "{text}");
    std::fs::write(directory.path().join("kvm"), module).unwrap();
    assert!(offsets().unwrap().at.iter().all(|at| *at != ABSENT));
}

/// A structure with members at these paths: its type and its size.
fn structure(btf: &mut Builder, name: &str, paths: &[(&'static str, u32)], gap: u32) -> (u32, u32) {
    let mut nested: BTreeMap<&'static str, Vec<(&'static str, u32)>> = BTreeMap::new();
    let (mut members, mut offset) = (Vec::new(), gap);
    for (path, size) in paths {
        if let Some((array, enumerator)) = path.strip_suffix(']').and_then(|path| path.split_once('[')) {
            btf.enumeration(1, &[enumerator]);
            let element = btf.int(*size);
            let type_id = btf.array(element, 3);
            members.push(member(array, type_id, offset));
            offset += 3 * size;
        } else if let Some((outer, inner)) = path.split_once('.') {
            nested.entry(outer).or_default().push((inner, *size));
        } else {
            let type_id = btf.int(*size);
            // In the middle of its byte.
            let bit = || fixture::Member { name: path, type_id, bit_offset: offset * 8 + 3, bits: 1 };
            members.push(if [*size] == BIT { bit() } else { member(path, type_id, offset) });
            offset += size.next_multiple_of(8).max(8);
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
        let expected = if row.sizes == BIT {
            btf.bit(row.container, row.path).unwrap()
        } else {
            btf.field(row.container, row.path).unwrap().offset
        };
        assert_eq!(far.at[n], expected);
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
fn a_kernel_whose_block_layer_knows_no_control_groups_lacks_that_alone() {
    let of_groups =
        [Member::BioGroup, Member::GroupBlkcg, Member::BlkcgId, Member::BlkcgSerial, Member::CgroupsIo];
    let kept = rows().into_iter().enumerate().filter(|(n, _)| !of_groups.iter().any(|m| *m as usize == *n));
    let offsets = resolve(&kernel(&kept.map(|(_, row)| row).collect::<Vec<_>>(), 8)).unwrap();
    for (n, row) in MEMBERS.iter().enumerate() {
        let is_of_groups = of_groups.iter().any(|member| *member as usize == n);
        assert_eq!(offsets.at[n] == ABSENT, is_of_groups, "{}.{}", row.container, row.path);
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
fn core_scheduling_is_known_by_all_of_its_members_or_not_at_all() {
    for member in [Member::RqForcedIdle, Member::RqForcedIdles, Member::CfsRqForcedIdles] {
        let mut rows = rows();
        rows.remove(member as usize);
        let offsets = resolve(&kernel(&rows, 8)).unwrap();
        assert_eq!(offsets.at[Member::RqCore as usize], ABSENT, "{member:?}");
    }
    // A flag up to 5.16, with another name.
    let mut rows = rows();
    rows[Member::RqForcedIdle as usize].0.path = "core_forceidle";
    rows[Member::RqForcedIdle as usize].1 = 1;
    let offsets = resolve(&kernel(&rows, 8)).unwrap();
    assert!(
        [Member::RqCore, Member::RqForcedIdle].iter().all(|member| offsets.at[*member as usize] != ABSENT)
    );
}

#[test]
fn every_member_of_unknown_size_is_refused_by_name() {
    for (n, row) in MEMBERS.iter().enumerate() {
        let mut rows = rows();
        rows[n].1 = 48;
        if row.sizes == BIT {
            assert_eq!(resolve(&kernel(&rows, 8)).unwrap().at[n], ABSENT, "{} is no flag any more", row.path);
            continue;
        }
        let text = resolve(&kernel(&rows, 8)).unwrap_err().to_string();
        assert!(text.contains(&format!("{}.{} is 48 bytes, known are", row.container, row.path)), "{text}");
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
