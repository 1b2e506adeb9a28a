use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::IterableMap as _;
use sampler_ebpf::abi::Member;

use super::*;
use crate::kernel::bpf::fixture;

/// Maps of the made-up set: more than there are.
const MAPS: u32 = 40;

/// One with all ways of all hooks and more maps than there are, all of whose names are long.
pub(super) fn manifest() -> Manifest {
    let mut offsets = Offsets::UNKNOWN;
    offsets.at.iter_mut().zip(8..).for_each(|(at, n)| *at = n);
    let origin = Origin {
        object: 0x0123_4567_89ab_cdef,
        boot_id: *b"0123456789abcdef",
        offsets,
        switches_report: true,
        flush_sequence: 1 << 4,
        possible_cpus: 512,
    };
    let map = |id: u32| MapInfo { kind: 2, id, key_size: 4, value_size: 64, entries: 8192, flags: 1024 };
    let maps = (1..=MAPS).map(|id| (format!("MAP_OF_A_LONG_NAME_{id}"), map(id))).collect();
    let ways = HOOKS.iter().flat_map(|hook| hook.ways.iter().map(move |way| (hook, way)));
    let program = |(id, (_, way)): (u32, (&Hook, &Attach))| {
        (way.program().to_owned(), ProgramInfo { kind: 26, id, tag: [id as u8; 8] })
    };
    let programs: BTreeMap<_, _> = (100..).zip(ways.clone()).map(program).collect();
    let hook = |(id, (hook, way)): (u32, (&Hook, &Attach))| HookRow {
        hook: hook.name.to_owned(),
        program: way.program().to_owned(),
        link: (!matches!(way, Attach::Iterator { .. })).then(|| LinkInfo {
            kind: 1,
            id,
            program: programs[way.program()].id,
        }),
    };
    let attached = ways.filter(|(hook, _)| hook.when == When::Start);
    let hooks = (200..).zip(attached).map(hook).collect();
    Manifest { token: Token::from_number(0x1f), origin, maps, programs, hooks }
}

/// What the kernel says of a set that is as it should be.
fn whole(manifest: &Manifest) -> Found {
    manifest.parts().map(|(part, info)| (part, Ok(info))).collect()
}

/// What is said of a set that was changed.
#[track_caller]
fn said(change: impl FnOnce(&mut Origin, &mut Found)) -> String {
    let manifest = manifest();
    let (mut now, mut found) = (manifest.origin, whole(&manifest));
    change(&mut now, &mut found);
    manifest.check(&now, &found).unwrap_err().to_string()
}

fn map(name: &str) -> Part {
    Part::Map(name.to_owned())
}

fn link(name: &str) -> Part {
    Part::Link(name.to_owned())
}

#[test]
fn a_set_that_is_whole_is_taken() {
    let manifest = manifest();
    manifest.check(&manifest.origin, &whole(&manifest)).unwrap();
}

#[test]
fn what_comes_and_goes_is_neither_missed_nor_too_much() {
    let manifest = manifest();
    let mut found = whole(&manifest);
    let info = Info::Map(MapInfo { kind: 2, id: 7, key_size: 4, value_size: 1, entries: 1, flags: 0 });
    for part in [Part::Segment(0), Part::StateA, Part::StateB, Part::Manifest] {
        found.insert(part, Ok(info));
    }
    found.insert(link("kvm_entry"), Ok(Info::Link(LinkInfo { kind: 1, id: 9, program: 9 })));
    manifest.check(&manifest.origin, &found).unwrap();
}

#[test]
fn another_boot_another_version_and_another_constant_are_said() {
    assert_eq!(said(|now, _| now.boot_id[3] ^= 1), "it is of another boot of this host");
    assert_eq!(said(|now, _| now.object += 1), "it has the programs of another version");
    assert_eq!(
        said(|now, _| now.possible_cpus = 8),
        "CPUs that may come online: it was loaded for 512, now it would be 8"
    );
    let text = said(|now, _| now.offsets.at[Member::TaskRunDelay as usize] += 8);
    assert!(text.starts_with("offset of task_struct.sched_info.run_delay: it was loaded for "), "{text}");
    let text = said(|now, _| now.switches_report = false);
    assert!(text.starts_with("who reports births and deaths: "), "{text}");
    assert!(said(|now, _| now.flush_sequence = 0).starts_with("flag of requests"));
}

#[test]
fn each_part_is_missed() {
    let manifest = manifest();
    for (part, _) in manifest.parts() {
        let mut found = whole(&manifest);
        found.remove(&part);
        let difference = manifest.check(&manifest.origin, &found).unwrap_err();
        assert_eq!(difference, Difference::Missing(part));
    }
}

#[test]
fn each_number_of_each_part_has_to_be_what_it_was() {
    let manifest = manifest();
    for (part, info) in manifest.parts() {
        for (place, (what, was)) in values(info).into_iter().enumerate() {
            let mut found = whole(&manifest);
            found.insert(part.clone(), Ok(changed(info, place)));
            let difference = manifest.check(&manifest.origin, &found).unwrap_err();
            assert_eq!(difference, Difference::Value { part: part.clone(), what, was, is: was ^ 1 });
        }
    }
}

/// With one of its numbers changed, as they are in [`values`].
fn changed(info: Info, place: usize) -> Info {
    let at = |n: usize| u32::from(n == place);
    match info {
        Info::Map(info) => Info::Map(MapInfo {
            kind: info.kind ^ at(0),
            id: info.id ^ at(1),
            key_size: info.key_size ^ at(2),
            value_size: info.value_size ^ at(3),
            entries: info.entries ^ at(4),
            flags: info.flags ^ at(5),
        }),
        Info::Program(info) => Info::Program(ProgramInfo {
            kind: info.kind ^ at(0),
            id: info.id ^ at(1),
            tag: (u64::from_be_bytes(info.tag) ^ u64::from(at(2))).to_be_bytes(),
        }),
        Info::Link(info) => Info::Link(LinkInfo {
            kind: info.kind ^ at(0),
            id: info.id ^ at(1),
            program: info.program ^ at(2),
        }),
    }
}

#[test]
fn the_difference_has_its_name() {
    let taken = |found: &mut Found, from: &Part, to: Part| {
        let info = found.remove(from).unwrap();
        found.insert(to, info);
    };
    let long = "MAP_OF_A_LONG_NAME_1";
    assert_eq!(
        said(|_, found| taken(found, &map(long), map("OTHER"))),
        "map MAP_OF_A_LONG_NAME_1 is missing"
    );
    let text = said(|_, found| taken(found, &link("sched_switch_btf"), map(long)));
    assert_eq!(text, "map MAP_OF_A_LONG_NAME_1 is a link");
    let text = said(|_, found| {
        let other = found.remove(&map("MAP_OF_A_LONG_NAME_2")).unwrap();
        found.insert(map(long), other);
    });
    assert_eq!(text, "map MAP_OF_A_LONG_NAME_1: number was 1, is 2");
}

#[test]
fn what_was_not_there_is_one_too_many() {
    let more = |part: Part| {
        said(|_, found| {
            found.insert(part, Ok(Info::Link(LinkInfo { kind: 1, id: 1, program: 1 })));
        })
    };
    assert_eq!(more(map("OTHER")), "map OTHER is one too many");
    assert_eq!(more(Part::Program("other".to_owned())), "program other is one too many");
    assert_eq!(more(link("other")), "link of program other is one too many");
    // An iterator has none.
    assert_eq!(more(link("walk_tasks")), "link of program walk_tasks is one too many");
}

#[test]
fn a_hook_that_this_version_does_not_have_is_said() {
    let mut manifest = manifest();
    let (name, way) = (HOOKS[0].name, HOOKS[0].ways[0]);
    assert_eq!(manifest.hooks[0].way().map(|(hook, way)| (hook.name, way)), Some((name, way)));
    manifest.hooks[0].hook = "another".to_owned();
    let text = manifest.check(&manifest.origin, &whole(&manifest)).unwrap_err().to_string();
    assert_eq!(
        text,
        "it has program sched_switch_btf attached for hook another, which this version does not"
    );
    manifest.hooks[0].hook = HOOKS[1].name.to_owned();
    assert!(manifest.hooks[0].way().is_none(), "its program is not of that hook");
}

#[test]
fn a_file_in_the_place_of_a_map_is_said() {
    let Some(map) = fixture::map() else { return };
    let mut manifest = manifest();
    (manifest.programs, manifest.hooks) = (BTreeMap::new(), Vec::new());
    manifest.maps = BTreeMap::from([("MAP".to_owned(), fixture::info(&map))]);
    let check =
        |fd: &OwnedFd| manifest.check(&manifest.origin, &ask([(Part::Map("MAP".to_owned()), fd.as_fd())]));
    check(&map.map().fd().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let text = check(&File::open("/dev/null").unwrap().into()).unwrap_err().to_string();
    assert!(text.starts_with("map MAP: it is /dev/null, and neither a map"), "{text}");
}
