//! A small scheduler to lie about: threads whose counts move in the order in which the kernel moves them, a
//! little with every look that anybody takes.

use std::cell::RefCell;

use super::oracle::{Oracle, Thread};
use super::{CounterReader, Reading};
use crate::oracle::{OracleError, Schedstat, Switches, TaskState};

/// What the reader does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Nothing.
    None,
    /// Its run time is a nanosecond off.
    Run,
    /// Its run delay is a nanosecond off.
    Delay,
    /// Its run delay is that of the switch-out before.
    StaleDelay,
    /// It misses one switch-in in four.
    SomeArrivals,
    /// It misses all switch-ins.
    AllArrivals,
    /// It misses preemptions, and the switch-ins after them.
    Preemptions,
    /// It misses one switch-out in four.
    SomeDepartures,
    /// It is honest, but says of a thread that sleeps for ever that it is on a CPU.
    Halted,
    /// It stops writing after a while.
    Frozen,
    /// It writes without a new sequence number.
    Torn,
    /// It takes one thread for another.
    WrongThread,
    /// It does not know one of the threads.
    Unknown,
    /// It counts voluntary switches as involuntary ones and the other way round.
    SwappedSwitches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The kernel has brought its counts up to date, the hook has not run yet.
    Leaving {
        preempted: bool,
    },
    Asleep,
    Waiting {
        since: u64,
    },
    /// The hook has run, the kernel has not credited the wait yet.
    Arriving {
        since: u64,
    },
}

#[derive(Debug, Clone)]
struct Simulated {
    phase: Phase,
    kernel: Schedstat,
    switches: Switches,
    copy: Reading,
    delay_at_last_copy: u64,
    miss_arrival: bool,
}

/// The scheduler, its oracle and its reader in one.
#[derive(Debug)]
pub(super) struct World {
    inner: RefCell<Inner>,
    lie: Lie,
    migrate: bool,
}

#[derive(Debug)]
struct Inner {
    threads: Vec<Simulated>,
    random: fastrand::Rng,
    clock: u64,
    steps: u64,
}

/// Steps after which a reader that freezes does so.
const FREEZE: u64 = 5_000;

impl World {
    pub(super) fn new(threads: usize, seed: u64, lie: Lie, migrate: bool) -> Self {
        let thread = Simulated {
            phase: Phase::Asleep,
            kernel: Schedstat::default(),
            switches: Switches::default(),
            copy: Reading::default(),
            delay_at_last_copy: 0,
            miss_arrival: false,
        };
        let random = fastrand::Rng::with_seed(seed);
        let inner = Inner { threads: vec![thread; threads], random, clock: 0, steps: 0 };
        Self { inner: RefCell::new(inner), lie, migrate }
    }

    pub(super) fn threads(&self) -> Vec<Thread> {
        (0..self.inner.borrow().threads.len()).map(|index| Thread { pid: 1, tid: tid(index) }).collect()
    }

    /// Lets some of the threads move, as they do while somebody reads.
    fn pass_time(&self) {
        let mut inner = self.inner.borrow_mut();
        for index in 0..inner.threads.len() {
            if inner.random.u8(..) < 40 {
                inner.step(index, self.lie, self.migrate);
            }
        }
    }
}

impl Inner {
    fn step(&mut self, index: usize, lie: Lie, migrate: bool) {
        self.steps += 1;
        self.clock += self.random.u64(1..1000);
        let clock = self.clock;
        let (choice, ran) = (self.random.u8(0..4), self.random.u64(1..500));
        let frozen = self.steps > FREEZE;
        if lie == Lie::Halted && index == 1 && frozen && self.threads[1].phase == Phase::Asleep {
            return;
        }
        let thread = &mut self.threads[index];
        match thread.phase {
            Phase::Running if choice < 2 => thread.leave(ran, choice == 0),
            // A tick: the kernel brings the run time up to date.
            Phase::Running if choice == 2 => thread.kernel.run_ns += ran,
            Phase::Running => {}
            Phase::Leaving { preempted } => {
                thread.write_departure(lie, preempted, frozen);
                thread.phase = if preempted { Phase::Waiting { since: clock } } else { Phase::Asleep };
            }
            Phase::Asleep if choice == 0 => thread.phase = Phase::Waiting { since: clock },
            Phase::Asleep => {}
            Phase::Waiting { since } if choice == 0 && migrate => {
                thread.kernel.run_delay_ns += clock - since;
                thread.phase = Phase::Waiting { since: clock };
            }
            Phase::Waiting { .. } if choice == 1 => {}
            Phase::Waiting { since } => {
                thread.write_arrival(lie, choice == 2, frozen);
                thread.phase = Phase::Arriving { since };
            }
            Phase::Arriving { since } => {
                thread.kernel.run_delay_ns += clock - since;
                thread.kernel.timeslices += 1;
                thread.phase = Phase::Running;
            }
        }
    }
}

impl Simulated {
    fn leave(&mut self, ran: u64, preempted: bool) {
        self.kernel.run_ns += ran;
        if preempted {
            self.switches.involuntary += 1;
        } else {
            self.switches.voluntary += 1;
        }
        self.phase = Phase::Leaving { preempted };
    }

    fn write_departure(&mut self, lie: Lie, preempted: bool, frozen: bool) {
        let freezes = frozen && lie == Lie::Frozen;
        self.miss_arrival = preempted && lie == Lie::Preemptions;
        if freezes || self.miss_arrival || (lie == Lie::SomeDepartures && one_in_four(self.kernel.run_ns)) {
            return;
        }
        let delay = if lie == Lie::StaleDelay { self.delay_at_last_copy } else { self.kernel.run_delay_ns };
        self.delay_at_last_copy = self.kernel.run_delay_ns;
        let (first, second) = (self.switches.voluntary, self.switches.involuntary);
        let (voluntary, involuntary) =
            if lie == Lie::SwappedSwitches { (second, first) } else { (first, second) };
        self.copy = Reading {
            seq: self.copy.seq + if lie == Lie::Torn { 0 } else { 2 },
            on_cpu: false,
            run_ns: self.kernel.run_ns + u64::from(lie == Lie::Run),
            run_delay_ns: delay + u64::from(lie == Lie::Delay),
            voluntary,
            involuntary,
            timeslices: self.kernel.timeslices,
        };
    }

    fn write_arrival(&mut self, lie: Lie, one_in_four: bool, frozen: bool) {
        let missed = match lie {
            Lie::SomeArrivals => one_in_four,
            Lie::AllArrivals | Lie::Torn => true,
            Lie::Preemptions => self.miss_arrival,
            Lie::Frozen => frozen,
            _ => false,
        };
        if !missed {
            self.copy.seq += 2;
            self.copy.on_cpu = true;
        }
    }
}

/// One in four, by a number that has nothing to do with anything else.
fn one_in_four(run_ns: u64) -> bool {
    run_ns % 4 == 1
}

fn tid(index: usize) -> u32 {
    100 + u32::try_from(index).unwrap()
}

fn index(tid: u32) -> usize {
    usize::try_from(tid - 100).unwrap()
}

impl CounterReader for World {
    fn read(&self, tid: u32) -> Option<Reading> {
        self.pass_time();
        let inner = self.inner.borrow();
        let index = match self.lie {
            Lie::Unknown if index(tid) == 1 => return None,
            Lie::Halted if index(tid) == 1 => {
                return Some(Reading { on_cpu: true, ..inner.threads[1].copy });
            }
            Lie::WrongThread if index(tid) == 1 => 0,
            _ => index(tid),
        };
        Some(inner.threads[index].copy)
    }
}

impl Oracle for World {
    fn schedstat(&self, thread: Thread) -> Result<Schedstat, OracleError> {
        self.pass_time();
        Ok(self.inner.borrow().threads[index(thread.tid)].kernel)
    }

    fn switches(&self, thread: Thread) -> Result<Switches, OracleError> {
        self.pass_time();
        Ok(self.inner.borrow().threads[index(thread.tid)].switches)
    }

    fn state(&self, thread: Thread) -> Result<TaskState, OracleError> {
        self.pass_time();
        let asleep = self.inner.borrow().threads[index(thread.tid)].phase == Phase::Asleep;
        Ok(if asleep { TaskState::Asleep } else { TaskState::Runnable })
    }
}
