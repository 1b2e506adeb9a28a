use sampler_ebpf::abi::device_of;

use super::*;

const GUEST: VmKey = VmKey::new([1, 1]);
const DEVICE: Device = Device { major: 8, minor: 16 };

/// Disks of a guest whose control group is its own from 50 ns on.
fn disks() -> Disks {
    let mut disks = Disks::default();
    disks.owners.observe([(GUEST, Some(Group { id: 3, serial: 4, inode: 5 }))].into_iter());
    disks.owners.answer(GUEST, 5, Some(true));
    assert_eq!(disks.take_changes(50).len(), 1);
    disks
}

fn called(name: &str) -> Option<DiskName> {
    Some(DiskName { name: name.into(), sequence: None })
}

fn counts(reads: u64) -> abi::DiskCounts {
    let mut counts = abi::DiskCounts::default();
    counts.sums[0].untimed = reads;
    counts
}

/// Takes in what was counted of a disk, and of no other.
fn read(disks: &mut Disks, key: &DiskKey, reads: u64) {
    disks.read(key, &counts(reads));
    disks.are_read(0);
}

fn key(owner: u32) -> DiskKey {
    DiskKey { owner, device: device_of(8, 16) }
}

fn shown(disks: &mut Disks) -> Option<(String, u64, u64)> {
    let disk = disks.shown().remove(&GUEST)?.pop()?;
    Some((disk.name.to_string(), disk.since_unix_ns, disk.counts.operations[0]))
}

fn added(disks: &mut Disks) -> u64 {
    disks.shown()[&GUEST][0].added().operations[0]
}

#[test]
fn a_disk_is_shown_once_it_has_a_name() {
    let mut disks = disks();
    read(&mut disks, &key(1), 7);
    assert_eq!((shown(&mut disks), disks.take_unasked()), (None, vec![DEVICE]));
    disks.name(DEVICE, called("sdb"), 60);
    assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 7)));
    read(&mut disks, &key(1), 9);
    assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 9)));
    assert_eq!(added(&mut disks), 2);
    read(&mut disks, &key(1), 9);
    assert_eq!((shown(&mut disks).unwrap().2, added(&mut disks)), (9, 0));
    disks.name(DEVICE, None, 70);
    assert_eq!(shown(&mut disks).unwrap().0, "sdb", "no answer is no knowledge");
    assert_eq!(disks.take_unasked(), [], "it is asked about once");
}

#[test]
fn a_device_without_a_name_is_called_by_its_numbers() {
    let mut disks = disks();
    read(&mut disks, &key(1), 7);
    disks.name(DEVICE, None, 60);
    assert_eq!(shown(&mut disks), Some(("8:16".into(), 50, 7)));
}

#[test]
fn another_name_is_another_disk_that_begins_at_zero() {
    let mut disks = disks();
    read(&mut disks, &key(1), 7);
    disks.name(DEVICE, called("sdb"), 60);
    disks.name(DEVICE, called("sdc"), 80);
    read(&mut disks, &key(1), 10);
    assert_eq!(shown(&mut disks), Some(("sdc".into(), 80, 3)));
    assert_eq!(added(&mut disks), 3);
}

#[test]
fn a_guest_that_was_not_counted_for_a_while_begins_anew() {
    let mut disks = disks();
    read(&mut disks, &key(1), 7);
    disks.name(DEVICE, called("sdb"), 60);
    let group = Group { id: 8, serial: 8, inode: 8 };
    disks.owners.observe([(GUEST, Some(group))].into_iter());
    disks.take_changes(70);
    assert_eq!(shown(&mut disks), None, "nothing is counted: that is not zero");
    disks.owners.answer(GUEST, 8, Some(true));
    disks.take_changes(90);
    read(&mut disks, &key(1), 9);
    assert_eq!(shown(&mut disks), Some(("sdb".into(), 90, 2)));
}

#[test]
fn two_disks_never_have_one_name() {
    let mut disks = disks();
    let other = DiskKey { owner: 1, device: device_of(8, 32) };
    read(&mut disks, &key(1), 7);
    read(&mut disks, &other, 1);
    disks.name(DEVICE, called("nvme1n1"), 60);
    disks.name(Device { major: 8, minor: 32 }, called("nvme1n1"), 80);
    let shown = disks.shown().remove(&GUEST).unwrap();
    let names: Vec<_> = shown.iter().map(|disk| (&*disk.name, disk.since_unix_ns)).collect();
    assert_eq!(names, [("8:16", 80), ("nvme1n1", 50)]);
}

#[test]
fn guests_with_64_disks_each_have_all_of_them_of_4096() {
    const GUESTS: u32 = 64;
    const DISKS: u32 = 64;
    let guest = |number: u32| VmKey::new([number.into(), 1]);
    let group = |number: u32| Group { id: number, serial: number.into(), inode: number.into() };
    let mut disks = Disks::default();
    disks.owners.observe((1..=GUESTS).map(|number| (guest(number), Some(group(number)))));
    (1..=GUESTS).for_each(|number| disks.owners.answer(guest(number), number.into(), Some(true)));
    assert_eq!(disks.take_changes(50).len(), GUESTS as usize);
    for owner in 1..=GUESTS {
        for minor in 0..DISKS {
            let key = DiskKey { owner, device: device_of(owner, minor) };
            disks.read(&key, &counts((owner * DISKS + minor).into()));
        }
    }
    assert_eq!(disks.are_read(0).len(), GUESTS as usize, "one disk of each has a place");
    let unasked = disks.take_unasked();
    assert_eq!(unasked.len(), (GUESTS * DISKS) as usize);
    for device in unasked {
        disks.name(device, called(&format!("disk-{device}")), 60);
    }
    let shown = disks.shown();
    assert_eq!(shown.len(), GUESTS as usize);
    for owner in 1..=GUESTS {
        let all = shown[&guest(owner)].iter().map(|disk| disk.counts.operations[0]);
        assert!(all.eq((0..DISKS).map(|minor| u64::from(owner * DISKS + minor))), "guest {owner}");
    }
}

#[test]
fn disks_of_guests_that_have_ended_are_forgotten() {
    let mut disks = disks();
    read(&mut disks, &key(1), 7);
    read(&mut disks, &key(99), 1);
    assert_eq!(disks.forget_ended(), [], "a program may just be adding to it");
    assert_eq!(disks.forget_ended(), [(key(99), None)]);
    disks.owners.observe(std::iter::empty());
    assert_eq!(disks.forget_ended(), []);
    assert_eq!(disks.forget_ended(), [(key(1), Some(0))]);
    assert_eq!((disks.devices().count(), disks.shown().len()), (0, 0));
}

#[test]
fn a_disk_that_has_a_place_has_what_was_counted_before_too() {
    let mut disks = disks();
    disks.read(&key(1), &counts(7));
    let group = Group { id: 3, serial: 4, inode: 5 };
    assert_eq!(disks.are_read(0), [(group, FirstDisk::new(device_of(8, 16), 0))]);
    assert_eq!(disks.placed(), [(key(1), 0)]);
    disks.name(DEVICE, called("sdb"), 60);
    disks.read(&key(1), &counts(8));
    disks.read_placed(&key(1), &counts(30));
    assert_eq!(disks.are_read(0), []);
    assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 38)));
    // One that comes or goes meanwhile may be missing from the other table.
    disks.read_placed(&key(1), &counts(31));
    disks.are_read(0);
    assert_eq!((shown(&mut disks).unwrap().2, added(&mut disks)), (39, 1));
}

#[test]
fn an_entry_of_the_hash_is_given_up_for_a_place() {
    let mut disks = disks();
    read(&mut disks, &key(1), 7);
    disks.name(DEVICE, called("sdb"), 60);
    assert_eq!(disks.give_up(SETTLED_NS - 1), [], "a program may still add to it");
    disks.read(&key(1), &counts(8));
    assert_eq!(disks.give_up(SETTLED_NS), [key(1)]);
    assert_eq!(disks.give_up(SETTLED_NS), [], "once");
    disks.read_placed(&key(1), &counts(30));
    disks.are_read(0);
    assert_eq!(shown(&mut disks).unwrap().2, 38);
    // One that came all the same has an entry of its own.
    disks.read(&key(1), &counts(1));
    disks.are_read(0);
    assert_eq!(shown(&mut disks).unwrap().2, 39);
}

#[test]
fn a_device_that_was_replaced_under_its_name_begins_at_zero() {
    let mut disks = disks();
    let called = |sequence| Some(DiskName { name: "sdb".into(), sequence });
    read(&mut disks, &key(1), 7);
    disks.name(DEVICE, called(Some(4)), 60);
    read(&mut disks, &key(1), 9);
    disks.name(DEVICE, called(None), 70);
    disks.name(DEVICE, called(Some(4)), 70);
    assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 9)));
    disks.name(DEVICE, called(Some(5)), 80);
    read(&mut disks, &key(1), 10);
    assert_eq!(shown(&mut disks), Some(("sdb".into(), 80, 1)));
}

#[test]
fn parts_of_durations_come_to_the_whole() {
    let mut counts = abi::DiskCounts::default();
    counts.sums[0] =
        abi::OperationSums { queued_ns: 3, served_ns: 5, whole_ns: 11, ..abi::OperationSums::default() };
    (counts.durations[0][7], counts.queued[0][2], counts.served[0][1]) = (2, 1, 1);
    let DiskCounts { operations, durations, queued, served, .. } = model(&counts);
    assert_eq!((operations[0], durations[0].sum_ns, durations[0].counts[7]), (2, 19, 2));
    assert_eq!((queued[0].sum_ns, queued[0].counts[2]), (3, 1));
    assert_eq!((served[0].sum_ns, served[0].counts[1]), (5, 1));
}
