//! Charging a wait, held against the whole history of a CPU.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sampler_ebpf::{
    abi::{
        APART, CHECKPOINTS, SHARES, Shares, WHO_FORCED_IDLE, WHO_IDLE, WHO_OTHERS, WHO_UNKNOWN, WHO_VCPU,
        Who, entry_at, is_stale, mark_of, who_of,
    },
    fixture::{Cpu, shared},
    occupancy::{self, Parts, charge, place, was_forced_idle},
    shared::Shared,
    shares::{self, gained, gained_by_others, gained_by_some},
};

/// A table that is charged with a wait for a CPU, and the turns that it took.
fn charged(cpu: &mut Cpu, from: u64, until: u64) -> Charged {
    let mut table = Box::new(Shares::NONE);
    let memory = shared(&mut *cpu.memory);
    let mut charging = Charging { cpu, table: shared(&mut *table), now: until, turns: 0 };
    charge(memory, from, until, &mut charging);
    let turns = charging.turns;
    Charged { table, turns }
}

struct Charged {
    table: Box<Shares>,
    turns: usize,
}

impl Charged {
    fn by_whom(&self) -> BTreeMap<Who, u64> {
        let entries = self.table.who.iter().map(|entry| who_of(*entry)).zip(self.table.ns);
        entries.filter(|(who, _)| *who != 0).chain([(WHO_IDLE, self.table.idle_ns)]).collect()
    }
}

/// As the programs do it.
struct Charging<'a> {
    cpu: &'a mut Cpu,
    table: Shared<Shares>,
    now: u64,
    turns: usize,
}

impl Charging<'_> {
    fn with_checkpoint(&mut self, number: u64, each: impl FnOnce(Shared<Shares>, Shared<Shares>)) {
        assert!(self.cpu.memory.written <= (number + CHECKPOINTS as u64) * APART, "it is overwritten");
        let then = &mut self.cpu.tables[place(number)];
        each(shared(&mut *self.cpu.totals), shared(then));
    }
}

impl Parts for Charging<'_> {
    fn one(&mut self, who: Who, ns: u64) {
        shares::add(self.table, who, ns, self.now);
    }

    fn stretches(&mut self, before: u64, from: u64, until: u64) -> u64 {
        self.turns += 1;
        let (table, now) = (self.table, self.now);
        let memory = shared(&mut *self.cpu.memory);
        occupancy::stretches(memory, before, from, until, |who, ns| {
            shares::add(table, who, ns, now);
        })
    }

    fn gained(&mut self, checkpoint: u64) {
        self.turns += 1;
        let (table, now) = (self.table, self.now);
        let add = |who, ns: i64| {
            shares::add(table, who, ns as u64, now);
        };
        self.with_checkpoint(checkpoint, |totals, then| {
            for first in (0..SHARES).step_by(shares::SOME) {
                gained_by_some(totals, then, first, add);
            }
            gained_by_others(totals, then, add);
        });
    }
}

#[test]
fn forced_idle_is_charged_apart_from_idle() {
    let (mut cpu, now) =
        Cpu::after(&[(WHO_IDLE, 100), (WHO_FORCED_IDLE, 700), (7, 30), (WHO_FORCED_IDLE, 5)]);
    let charged = charged(&mut cpu, now - 800, now);
    let mut expected = cpu.truth(now - 800, now);
    expected.retain(|_, ns| *ns != 0);
    assert_eq!(expected[&WHO_FORCED_IDLE], 705);
    assert_eq!(charged.by_whom(), expected);
}

#[test]
fn what_began_with_the_choice_of_the_thread_itself_has_not_kept_it() {
    for (then, now, for_this_thread, was_forced) in [
        (5, 5, false, false),
        // Another CPU of the core is forced idle for the thread: its own wait was a wake-up.
        (5, 6, true, false),
        (5, 6, false, true),
        (5, 7, true, true),
        (u32::MAX, 0, false, true),
        (u32::MAX, 0, true, false),
    ] {
        assert_eq!(was_forced_idle(then, now, for_this_thread), was_forced, "{then} {now} {for_this_thread}");
    }
}

fn stints(of: u32) -> impl Strategy<Value = Vec<(Who, u64)>> {
    proptest::collection::vec((0..=of, 1..2_000_u64), 1..3_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where all find room, each is charged with what it had; what is too old is nobody's.
    #[test]
    fn each_is_charged_with_what_it_had(stints in stints(24), part in 0.0..1.0_f64) {
        let (mut cpu, now) = Cpu::after(&stints);
        prop_assume!(cpu.displaced == 0);
        let from = (now as f64 * part) as u64;
        let charged = charged(&mut cpu, from, now);
        let (parts, truth) = (charged.by_whom(), cpu.truth(from, now));
        prop_assert_eq!(charged.table.total_ns(), now - from);
        let mut lacking = 1_u64.saturating_sub(from);
        for (who, had) in &truth {
            let got = parts.get(who).copied().unwrap_or(0);
            prop_assert!(got <= *had, "{} had {} and is charged with {}", who, had, got);
            lacking += had - got;
        }
        prop_assert_eq!(lacking, charged.table.unknown_ns());
        if cpu.begun_since(from) <= 990 {
            prop_assert_eq!(lacking, 1_u64.saturating_sub(from), "all of it is remembered");
        }
        if cpu.begun_since(from) <= 1_980 {
            let older = cpu.begun_since(from).saturating_sub(990).min(32);
            prop_assert!(lacking <= older as u64 * 2_000 + 1, "{} of the begin", lacking);
        }
    }

    /// However many there are: the parts come to the wait, of each mark and in all, and a charge is short.
    #[test]
    fn parts_come_to_the_wait(
        stints in proptest::collection::vec((1..2_000_u32, any::<bool>(), 1..2_000_u64), 1..3_000),
        part in 0.0..1.0_f64,
    ) {
        let named = |(pid, is_vcpu, ns): &(u32, bool, u64)| (pid | if *is_vcpu { WHO_VCPU } else { 0 }, *ns);
        let stints: Vec<_> = stints.iter().map(named).collect();
        let (mut cpu, now) = Cpu::after(&stints);
        let from = (now as f64 * part) as u64;
        let charged = charged(&mut cpu, from, now);
        prop_assert_eq!(charged.table.total_ns(), now - from);
        prop_assert!(charged.turns <= 6, "{} turns", charged.turns);
        let mut by_mark = charged.table.others_ns;
        for (who, ns) in charged.by_whom() {
            by_mark[mark_of(who)] += ns;
        }
        let unknown = charged.table.unknown_ns();
        let mut truth = [0; 4];
        for (who, ns) in cpu.truth(from, now) {
            truth[mark_of(who)] += ns;
        }
        for mark in [0, 2] {
            prop_assert!(by_mark[mark] <= truth[mark], "{:?} of {:?}", by_mark, truth);
            prop_assert!(truth[mark] - by_mark[mark] <= unknown, "{:?} of {:?}", by_mark, truth);
        }
    }

    /// A wait that has ended lately, and one on a CPU that was not looked at.
    #[test]
    fn a_late_charge_comes_to_the_wait(stints in stints(24), part in 0.0..1.0_f64, ago in 0..9_000_u64) {
        let (mut cpu, now) = Cpu::after(&stints);
        let from = (now as f64 * part) as u64;
        let until = now.saturating_sub(ago).max(from);
        prop_assert_eq!(charged(&mut cpu, from, until).table.total_ns(), until - from);
        prop_assert_eq!(charged(&mut Cpu::default(), from, until).table.unknown_ns(), until - from);
    }

    /// What two processes gained from one table to another.
    #[test]
    fn gains_come_to_what_was_added(
        first in proptest::collection::vec((0..500_u32, 1..2_000_u64), 0..300),
        then in proptest::collection::vec((0..500_u32, 1..2_000_u64), 0..300),
    ) {
        let mut table = Box::new(Shares::NONE);
        let mut add = |all: &[(u32, u64)]| {
            for (n, (who, ns)) in (0..).zip(all) {
                shares::add(shared(&mut *table), *who, *ns, n << 30);
            }
            *table
        };
        let before = add(&first);
        let now = add(&then);
        let mut parts = BTreeMap::<Who, i64>::new();
        gained(&now, &before, |who, ns| *parts.entry(who).or_default() += ns);
        prop_assert_eq!(parts.values().sum::<i64>(), then.iter().map(|(_, ns)| *ns as i64).sum::<i64>());
        for (who, ns) in &parts {
            prop_assert!(*ns >= 0, "{} gained {}", who, ns);
        }
        let added = then.iter().filter(|(who, _)| *who == WHO_IDLE).map(|(_, ns)| *ns as i64).sum::<i64>();
        prop_assert_eq!(parts.get(&WHO_IDLE).copied().unwrap_or(0), added);
    }
}

#[test]
fn one_that_lost_its_entry_is_charged_as_one_of_the_others() {
    let mut table = Box::new(Shares::NONE);
    let mut displaced = 0;
    for who in 1..=1_000 {
        displaced += usize::from(shares::add(shared(&mut *table), who, 10, 1));
    }
    assert!(displaced > 900, "{displaced} of a thousand");
    assert_eq!((table.total_ns(), table.unknown_ns()), (10_000, 0));
    assert_eq!(table.others_ns[0] as usize, 10 * displaced);
}

#[test]
fn nobody_and_the_others_need_no_entry() {
    let mut table = Box::new(Shares::NONE);
    for who in [WHO_UNKNOWN, WHO_VCPU | WHO_OTHERS, WHO_IDLE] {
        assert!(!shares::add(shared(&mut *table), who, 5, 1));
    }
    assert_eq!(table.who, [0; SHARES]);
    assert_eq!((table.unknown_ns(), table.others_ns[2], table.idle_ns), (5, 5, 5));
}

#[test]
fn a_short_wait_is_not_a_difference_of_tables() {
    let stints: Vec<_> = (0..320).map(|n| (n % 5 + 1, 10)).collect();
    let (mut cpu, now) = Cpu::after(&stints);
    let charged = charged(&mut cpu, now - 20, now);
    assert_eq!((charged.turns, charged.table.total_ns()), (1, 20));
}

#[test]
fn one_that_is_charged_with_nothing_takes_no_entry() {
    // More occupants than entries: nobody finds a free one.
    let stints: Vec<_> = (0..640).map(|n| (n % 300 + 1, 10)).collect();
    let (mut cpu, now) = Cpu::after(&stints);
    cpu.comes(7_777, now);
    let charged = charged(&mut cpu, 1, now);
    assert_eq!(charged.table.total_ns(), now - 1);
    assert!(!charged.by_whom().contains_key(&7_777), "it waited, and had nothing");
}

#[test]
fn an_entry_that_is_ahead_is_not_stale() {
    let second = 1 << 30;
    let entry = entry_at(7, 40 * second);
    for (now, expected) in [(39, false), (40, false), (56, false), (57, true), (200, true)] {
        assert_eq!(is_stale(entry, now * second), expected, "at {now} s");
    }
}
