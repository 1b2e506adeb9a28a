//! The audit of threads of this process, by snapshots that say of them what a test wants.

use std::{
    collections::BTreeSet,
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    round::{Round, VCPUS, choose},
    *,
};
use crate::{
    collect::procfs::{ProcFs, Schedstat},
    model::{COUNTERS, Counter, Interval, KvmVm, Origin, Totals, Vcpu, VcpuId, Vm, VmKey},
};

/// A thread that sleeps until its test is over.
struct Sleeper {
    tid: u32,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sleeper {
    fn start() -> Self {
        let ((said, tid), (end, ended)) = (channel(), channel::<()>());
        let thread = thread::spawn(move || {
            // SAFETY: the call takes nothing and cannot fail.
            said.send(unsafe { libc::gettid() }).unwrap();
            let _ = ended.recv();
        });
        let sleeper = Self { tid: tid.recv().unwrap().unsigned_abs(), end: Some(end), thread: Some(thread) };
        // Until it sleeps: twice the same, with a pause.
        let mut last = sleeper.counts();
        loop {
            thread::sleep(Duration::from_millis(20));
            match sleeper.counts() {
                now if now == last => return sleeper,
                now => last = now,
            }
        }
    }

    fn counts(&self) -> Schedstat {
        ProcFs::system().schedstat(std::process::id(), self.tid).unwrap().read().unwrap()
    }

    fn end(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.end();
    }
}

/// A vCPU with these counts, read in the last interval.
fn vcpu(tid: u32, counts: Schedstat) -> Vcpu {
    let mut counters = [0; COUNTERS.len()];
    counters[Counter::Run as usize] = counts.run_ns;
    counters[Counter::RunDelay as usize] = counts.run_delay_ns;
    counters[Counter::Timeslices as usize] = counts.timeslices;
    Vcpu {
        id: VcpuId::new([tid.into(), 1]),
        tid: Some(tid),
        counters,
        totals: Totals { run_ns: counts.run_ns, run_delay_ns: counts.run_delay_ns },
        interval: Some(Interval::default()),
        ..Vcpu::default()
    }
}

fn vm(number: u64, vcpus: Vec<Vcpu>) -> Vm {
    Vm {
        key: VmKey::new([number, 1]),
        origin: Origin::Process { pid: std::process::id() },
        id: format!("vm-{number}").into(),
        kvm: Some(KvmVm::default()),
        vcpus,
        ..Vm::default()
    }
}

/// A snapshot that is begun now.
fn snapshot(vms: Vec<Vm>) -> Snapshot {
    Snapshot { read_boottime_ns: Clock::start().boottime_ns(), vms, ..Snapshot::default() }
}

fn begin(snapshot: &Snapshot) -> Round {
    let chosen = choose(snapshot, &mut fastrand::Rng::new());
    Round::begin(chosen, &ProcFs::system(), Clock::start())
}

const NOT_COMPARED: Counts = Counts { checks: 0, mismatches: 0, skips: 1 };

#[test]
fn what_is_right_is_right_and_a_nanosecond_more_is_a_mismatch() {
    let sleeper = Sleeper::start();
    let right = sleeper.counts();
    let shown = |counts| snapshot(vec![vm(1, vec![vcpu(sleeper.tid, counts)])]);
    let round = begin(&shown(right));
    let (counts, mismatches) = round.end(&shown(right), Clock::start());
    assert_eq!((counts, mismatches.len()), (Counts { checks: 1, mismatches: 0, skips: 0 }, 0));

    let wrong = Schedstat { run_ns: right.run_ns + 1, ..right };
    let (counts, mismatches) = begin(&shown(right)).end(&shown(wrong), Clock::start());
    assert_eq!(counts, Counts { checks: 1, mismatches: 1, skips: 0 });
    let said = mismatches[0].to_string();
    let expected = format!("run_ns of vCPU 0 (thread {}) of vm-1 is {} in ", sleeper.tid, wrong.run_ns);
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains(&format!("by the kernel it is {0} to {0}, read ", right.run_ns)), "{said}");
}

#[test]
fn what_a_thread_did_for_another_vcpu_is_in_the_kernel_s_count_alone() {
    let sleeper = Sleeper::start();
    let counts = sleeper.counts();
    let mut turned = vcpu(sleeper.tid, Schedstat { timeslices: 0, ..counts });
    turned.others[Counter::Timeslices as usize] = counts.timeslices;
    let first = snapshot(vec![vm(1, vec![turned.clone()])]);
    let (counts, mismatches) = begin(&first).end(&snapshot(vec![vm(1, vec![turned])]), Clock::start());
    assert_eq!((counts.checks, mismatches.len()), (1, 0), "{mismatches:?}");
}

#[test]
fn an_estimate_that_fell_lets_the_total_of_its_own_vcpu_be_held_and_no_other() {
    const HELD_NS: u64 = 1_000_000_000;
    let sleeper = Sleeper::start();
    let right = sleeper.counts();
    let shown = |held_at| {
        let mut vcpu = vcpu(sleeper.tid, right);
        vcpu.totals.run_ns += HELD_NS;
        vcpu.held.run_ns = held_at;
        let mut shown = snapshot(vec![vm(1, vec![vcpu])]);
        shown.sampler.counter_regressions = 1;
        shown
    };
    let audited = |held_at| begin(&shown(held_at)).end(&shown(held_at), Clock::start()).1;
    let said = audited(0).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(said.len() == 1 && said[0].starts_with("total run_ns of vCPU 0 "), "{said:?}");
    assert_eq!(audited(right.run_ns + HELD_NS).len(), 0, "what this vCPU is held at");
    assert_eq!(audited(right.run_ns + HELD_NS / 2).len(), 1, "it was never estimated so high");
}

#[test]
fn a_vcpu_is_compared_with_the_thread_that_runs_it_and_what_that_did_before() {
    let sleeper = Sleeper::start();
    let right = sleeper.counts();
    let mut handed_over = vcpu(sleeper.tid, right);
    // One that found a free CPU has not waited.
    let waited_ns = handed_over.totals.run_delay_ns.min(5);
    let ahead = [(Counter::Run, 7), (Counter::RunDelay, waited_ns), (Counter::Timeslices, u64::MAX)];
    for (counter, ahead) in ahead {
        handed_over.counters[counter as usize] = handed_over.counters[counter as usize].wrapping_sub(ahead);
        handed_over.others[counter as usize] = ahead;
    }
    handed_over.totals.run_ns -= 7;
    handed_over.totals.run_delay_ns -= waited_ns;
    handed_over.held.run_ns = handed_over.totals.run_ns;
    let shown = || snapshot(vec![vm(1, vec![handed_over.clone()])]);
    let (counts, mismatches) = begin(&shown()).end(&shown(), Clock::start());
    assert_eq!(counts, Counts { checks: 1, mismatches: 0, skips: 0 }, "{:?}", mismatches.first());
    let another = || Vcpu { tid: Some(1), ..handed_over.clone() };
    let round = begin(&shown());
    let next = snapshot(vec![vm(1, vec![another()])]);
    assert_eq!(round.end(&next, Clock::start()).0, NOT_COMPARED, "another thread runs it now");
}

#[test]
fn what_cannot_be_compared_is_no_mismatch() {
    let mut sleeper = Sleeper::start();
    let (tid, counts) = (sleeper.tid, sleeper.counts());
    let wrong = Schedstat { timeslices: counts.timeslices + 1, ..counts };
    let early = snapshot(vec![vm(1, vec![vcpu(tid, wrong)])]);
    let clock = Clock::start();
    assert_eq!(begin(&early).end(&early, clock).0, NOT_COMPARED, "begun before the first reading");
    let unread = Vcpu { interval: None, ..vcpu(tid, wrong) };
    assert_eq!(begin(&early).end(&snapshot(vec![vm(1, vec![unread])]), clock).0, NOT_COMPARED);
    let another = Vcpu { id: VcpuId::new([tid.into(), 2]), ..vcpu(tid, wrong) };
    assert_eq!(begin(&early).end(&snapshot(vec![vm(1, vec![another])]), clock).0, NOT_COMPARED);
    assert_eq!(begin(&early).end(&snapshot(Vec::new()), clock).0, NOT_COMPARED, "the guest is gone");
    let round = begin(&early);
    let late = snapshot(vec![vm(1, vec![vcpu(tid, wrong)])]);
    sleeper.end();
    while ProcFs::system().schedstat(std::process::id(), tid).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(round.end(&late, clock).0, NOT_COMPARED, "the thread is gone");
    assert_eq!(begin(&early).end(&late, clock).0, NOT_COMPARED, "it was gone already");
}

#[test]
fn each_vcpu_is_chosen_as_often_as_any_other() {
    const ROUNDS: u64 = 20_000;
    let no_counts = Schedstat::default();
    let of_xen = Vm { kvm: None, ..vm(2, vec![vcpu(900, no_counts)]) };
    let few = vm(1, (0..3).map(|tid| vcpu(tid, no_counts)).collect());
    let many = vm(3, (3..40).map(|tid| vcpu(tid, no_counts)).collect());
    let snapshot = snapshot(vec![few, of_xen, many]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut chosen = [0_u64; 40];
    for _ in 0..ROUNDS {
        let round = choose(&snapshot, &mut random);
        let different: BTreeSet<u32> = round.iter().map(|chosen| chosen.tid()).collect();
        assert_eq!((round.len(), different.len()), (VCPUS, VCPUS));
        round.iter().for_each(|vcpu| chosen[vcpu.tid() as usize] += 1);
    }
    let expected = ROUNDS * VCPUS as u64 / 40;
    assert!(chosen.iter().all(|times| times.abs_diff(expected) < expected / 10), "{chosen:?}");
    let alone = Snapshot { vms: vec![vm(1, vec![vcpu(5, no_counts)])], ..Snapshot::default() };
    assert_eq!(choose(&alone, &mut random).len(), 1);
    assert!(choose(&Snapshot::default(), &mut random).is_empty());
}

#[test]
fn the_thread_audits_what_it_is_sent_until_it_is_off() {
    const LONG: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_millis(100);
    let (audit, (sender, snapshots)) = (Audit::default(), channel());
    let thread = thread::spawn({
        let audit = audit.clone();
        move || audit.watch_apart(&snapshots, INTERVAL)
    });
    let sleeper = Sleeper::start();
    let right = sleeper.counts();
    let wrong = Schedstat { run_delay_ns: right.run_delay_ns + 1, ..right };
    let sampler = |audit: &Audit| {
        let mut stats = SamplerStats::default();
        audit.report(&mut stats);
        stats
    };
    let send = |counts| {
        sender.send(Arc::new(snapshot(vec![vm(1, vec![vcpu(sleeper.tid, counts)])]))).unwrap();
        thread::sleep(INTERVAL);
    };
    let until = |counts, holds: &dyn Fn(SamplerStats) -> bool| {
        let end = Instant::now() + LONG;
        while !holds(sampler(&audit)) {
            assert!(Instant::now() < end, "{:?}", sampler(&audit));
            send(counts);
        }
    };
    (0..3).for_each(|_| send(right));
    assert_eq!(sampler(&audit), SamplerStats::default(), "it is off before it is set");
    audit.set(Some(INTERVAL));
    until(right, &|stats| stats.audit_checks >= 1);
    assert_eq!(sampler(&audit).audit_mismatches, 0);
    until(wrong, &|stats| stats.audit_mismatches >= 1);
    let hour = audit.last_hour();
    assert!(hour.is_on && hour.counts.mismatches >= 1 && hour.counts.checks > hour.counts.mismatches);
    let said = hour.to_string();
    assert!(
        said.contains(&format!("; run_delay_ns of vCPU 0 (thread {}) of vm-1 is ", sleeper.tid)),
        "{said}"
    );
    audit.set(None);
    // A round that was begun is ended.
    (0..2).for_each(|_| send(right));
    let before = sampler(&audit);
    (0..12).for_each(|_| send(wrong));
    assert_eq!(sampler(&audit), before);
    assert!(audit.last_hour().to_string().contains("it is off: set audit = true"));
    drop(sender);
    thread.join().unwrap();
}
