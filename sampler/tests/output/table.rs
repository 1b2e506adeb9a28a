//! The table, as golden texts.

use hvsampler::{
    export::{
        table::{COLUMNS, Column, TableOptions, render},
        terminal,
    },
    model::{Fact, Facts, Occupant, OccupantKind, Share, Snapshot, State, StateTimes},
};
use proptest::prelude::*;

use super::{
    arbitrary,
    golden::assert_file,
    sample::{snapshot, vcpu, vm},
};

fn hosts_of_all_kinds() -> Snapshot {
    snapshot(vec![
        vm(100, Some("idle"), vec![vcpu(0, 101, [0, 0, 2000], 0)]),
        vm(200, Some("starved"), vec![vcpu(0, 201, [1000, 1000, 0], 500), vcpu(1, 202, [1010, 990, 0], 498)]),
        vm(300, Some("busy"), vec![vcpu(0, 301, [1990, 10, 0], 20)]),
        vm(400, None, vec![vcpu(0, 401, [500, 20, 1480], 7)]),
    ])
}

#[test]
fn the_most_starved_guest_comes_first() {
    assert_file("tests/golden/table.txt", &render(&hosts_of_all_kinds(), &TableOptions::default()));
}

#[test]
fn vcpus_are_shown_below_their_guest() {
    let options = TableOptions { vcpus: true, ..TableOptions::default() };
    assert_file("tests/golden/table-vcpus.txt", &render(&hosts_of_all_kinds(), &options));
}

#[test]
fn devices_are_shown_below_the_guests() {
    let options = TableOptions { devices: true, ..TableOptions::default() };
    assert_file("tests/golden/table-devices.txt", &render(&hosts_of_all_kinds(), &options));
    let mut none = hosts_of_all_kinds();
    for vm in &mut none.vms {
        (vm.disks, vm.interfaces) = (Vec::new(), Vec::new());
    }
    let text = render(&none, &options);
    assert!(text.contains("No disk request") && text.contains("No network interface"), "{text}");
}

#[test]
fn a_short_terminal_shows_the_worst() {
    let options = TableOptions { max_guests: Some(2), ..TableOptions::default() };
    assert_file("tests/golden/table-short.txt", &render(&hosts_of_all_kinds(), &options));
}

#[test]
fn columns_are_those_that_were_chosen() {
    let keys = ["stolen-by", "reads", "writes", "memory", "swap", "vcpus", "steal"];
    let columns = keys.map(|key| Column::called(key).unwrap()).to_vec();
    let options = TableOptions { columns, vcpus: true, ..TableOptions::default() };
    let mut snapshot = hosts_of_all_kinds();
    (snapshot.vms[0].disks, snapshot.vms[0].memory) = (Vec::new(), None);
    assert_file("tests/golden/table-columns.txt", &render(&snapshot, &options));
}

#[test]
fn nothing_is_wider_than_120_columns_where_nobody_chose() {
    let long = "a very long name that goes on and on";
    let mut snapshot = hosts_of_all_kinds();
    for name in [long, "eight by"] {
        snapshot.vms[0].facts = std::sync::Arc::new(Facts::default().with(Fact::Name, name));
        for vm in &mut snapshot.vms {
            let occupant = Occupant { kind: OccupantKind::Kernel, id: None, name: Some(long.into()) };
            vm.shares = Some([Share { occupant, ns: 5 }].into_iter().collect());
        }
        let text = render(&snapshot, &TableOptions::default());
        let widest = text.lines().map(terminal::columns_of).max().unwrap();
        assert!((110..=120).contains(&widest), "{widest}\n{text}");
        assert!(text.contains("… 100 %\n") && text.contains("see --columns: "), "{text}");
    }
}

#[test]
fn a_quota_that_ran_out_has_a_column() {
    let mut snapshot = hosts_of_all_kinds();
    for vm in &mut snapshot.vms {
        let throttled = if &*vm.id == "300-5" { 1_200_000_000 } else { 0 };
        let interval = vm.vcpus[0].interval.as_mut().unwrap();
        interval.states.set(State::Run, interval.states.get(State::Run).unwrap() - throttled);
        interval.states.set(State::Throttled, throttled);
        interval.run_delay_ns += throttled;
        if throttled > 0 {
            let occupant = Occupant { kind: OccupantKind::Quota, id: None, name: None };
            let others = vm.shares.as_deref().unwrap().iter().cloned();
            vm.shares = Some([Share { occupant, ns: throttled }].into_iter().chain(others).collect());
        }
    }
    assert_file("tests/golden/table-throttled.txt", &render(&snapshot, &TableOptions::default()));
}

#[test]
fn cpu_time_that_is_broken_down_has_a_column_for_each_part() {
    let mut snapshot = hosts_of_all_kinds();
    for vm in snapshot.vms.iter_mut().filter(|vm| &*vm.id != "400-5") {
        for interval in vm.vcpus.iter_mut().filter_map(|vcpu| vcpu.interval.as_mut()) {
            let run = interval.run_ns;
            let parts = [(State::Kernel, run / 8), (State::Vmm, run / 16), (State::Poll, run / 32)];
            let mut states = StateTimes::default();
            states.set(State::Guest, run - parts.iter().map(|(_, ns)| ns).sum::<u64>());
            parts.iter().for_each(|(state, ns)| states.set(*state, *ns));
            for (state, ns) in interval.states.iter().filter(|(state, _)| *state != State::Run) {
                states.set(state, ns);
            }
            interval.states = states;
        }
    }
    // And a guest that is at level basic.
    snapshot.sampler.vms_lowered = 1;
    let options = TableOptions { vcpus: true, ..TableOptions::default() };
    assert_file("tests/golden/table-parts.txt", &render(&snapshot, &options));
}

#[test]
fn a_host_without_guests_says_so() {
    assert_file("tests/golden/table-empty.txt", &render(&snapshot(Vec::new()), &TableOptions::default()));
}

#[test]
fn the_first_reading_has_no_rates() {
    let mut first = hosts_of_all_kinds();
    first.interval_ns = 0;
    for vcpu in first.vms.iter_mut().flat_map(|vm| &mut vm.vcpus) {
        vcpu.interval = None;
    }
    assert_file("tests/golden/table-first.txt", &render(&first, &TableOptions::default()));
}

#[test]
fn what_was_lost_is_said() {
    let mut lossy = hosts_of_all_kinds();
    lossy.vms.truncate(1);
    lossy.sampler.events_lost = 3;
    lossy.sampler.slots_exhausted = 1;
    lossy.sampler.snapshots_late = 2;
    lossy.sampler.snapshots_dropped = 4;
    assert_file("tests/golden/table-losses.txt", &render(&lossy, &TableOptions::default()));
}

#[test]
fn columns_line_up_whatever_is_in_them() {
    let wide = vec![
        vm(1, Some("a"), vec![vcpu(4_000_000_000, 2, [1000, 500, 500], 3)]),
        vm(4_194_303, Some("東京"), vec![vcpu(0, 4_194_302, [1000, 500, 500], 3)]),
    ];
    for vcpus in [false, true] {
        // Behind the last column that vCPUs have there would be nothing to see.
        let keys: &[_] = if vcpus { &["stolen-by", "read", "pid", "steal"] } else { &[] };
        let columns = keys.iter().filter_map(|key| Column::called(key)).collect();
        let options = TableOptions { columns, vcpus, ..TableOptions::default() };
        let text = render(&snapshot(wide.clone()), &options);
        // The last column is as wide as it likes, and only guests have it.
        let fixed = |line: &str| match line.rfind("  ").filter(|_| !vcpus) {
            Some(end) => terminal::columns_of(&line[..end]),
            None => terminal::columns_of(line),
        };
        let widths: Vec<_> = text.lines().skip(2).take_while(|line| !line.is_empty()).map(fixed).collect();
        assert!(widths.len() >= 3 && widths.iter().all(|width| *width == widths[0]), "{widths:?}\n{text}");
    }
}

#[test]
fn a_state_that_is_not_known_is_not_shown() {
    let mut basic = hosts_of_all_kinds();
    for vcpu in basic.vms.iter_mut().flat_map(|vm| &mut vm.vcpus) {
        for states in [&mut vcpu.states, &mut vcpu.interval.as_mut().unwrap().states] {
            let mut known = StateTimes::default();
            states
                .iter()
                .filter(|(state, _)| *state != State::Blocked)
                .for_each(|(state, ns)| known.set(state, ns));
            *states = known;
        }
    }
    let text = render(&basic, &TableOptions::default());
    assert!(!text.contains("BLOCKED%") && text.contains("RUN%, STEAL%: percent"), "{text}");
}

#[test]
fn hostile_names_stay_in_their_cell() {
    let one = |name: &str| vm(1, Some(name), vec![vcpu(0, 2, [1000, 500, 500], 3)]);
    let hostile = snapshot(vec![
        one("line\nbreak"),
        one("\x1b[2J\x1b[31mred"),
        one("quote\" 'and' back\\slash"),
        one("rtl \u{202e}evil\u{202c}"),
        one(&"long ".repeat(900)),
        one("wide 東京都千代田区丸の内一丁目一番地一号"),
        one(&String::from_utf8_lossy(b"not\xffutf8\xc3")),
        one("zero\u{200b}width e\u{301}\u{301}\u{301}"),
        one("\u{9b}31m c1 \u{7f} del \0 nul"),
        one(""),
    ]);
    assert_file(
        "tests/golden/table-hostile.txt",
        &render(&hostile, &TableOptions { vcpus: true, ..TableOptions::default() }),
    );
}

proptest! {
    #[test]
    fn any_snapshot_is_safe_and_lines_up(
        snapshot in arbitrary::snapshot(),
        vcpus: bool,
        devices: bool,
        max in proptest::option::of(0..4_usize),
        columns in proptest::collection::vec(0..COLUMNS.len(), 0..4),
    ) {
        let columns = columns.into_iter().map(|column| &COLUMNS[column]).collect();
        let text = render(&snapshot, &TableOptions { columns, vcpus, devices, max_guests: max });
        prop_assert!(text.ends_with('\n'));
        prop_assert!(text.lines().all(|line| line.chars().all(terminal::is_plain)));
        prop_assert!(!text.contains("NaN") && !text.contains("inf"), "{}", text);
        let rows = snapshot.vms.len().min(max.unwrap_or(usize::MAX));
        if vcpus && !snapshot.vms.is_empty() {
            let shown = text.lines().filter(|line| line.starts_with("  vcpu ")).count();
            let most: usize = snapshot.vms.iter().map(|vm| vm.vcpus.len()).sum();
            prop_assert!(shown <= most && (rows < snapshot.vms.len() || shown == most));
        }
    }
}
