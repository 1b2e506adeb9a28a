//! That a vCPU's account goes on over a restart as if there had been none, whichever thread runs it.

use proptest::{collection, option, prelude::*};
use sampler_ebpf::abi::{Event, VMX_EXITS};

use super::{
    super::super::{
        accounts::{Left, VmAccount},
        carry::LastTimes,
        exits::ExitKinds,
        slots::{Lasting, Open},
    },
    *,
};
use crate::{
    kept::checks::{bytes, value},
    model::{ExitTotals, Faults, Interval, ModeTimes},
};

/// What happens to a vCPU.
#[derive(Clone, Debug)]
enum Act {
    /// It is read; numbers grow by so much.
    Read([u32; 6]),
    /// Its thread runs it no longer; the programs may have more of it than was read.
    Leave(Option<[u32; 6]>),
    /// Another thread runs it, which had so much run time and run delay before.
    TakeOver([u32; 2]),
    /// The process ends, and the next one goes on.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let numbers = || prop::array::uniform6(0..3_000_000_u32);
    prop_oneof![
        4 => numbers().prop_map(Act::Read),
        1 => option::of(numbers()).prop_map(Act::Leave),
        1 => any::<[u16; 2]>().prop_map(|had| Act::TakeOver(had.map(u32::from))),
        2 => Just(Act::Restart),
    ]
}

/// A vCPU with what is summed up of its VM, and the thread that runs it.
#[derive(Clone)]
struct Vcpu {
    account: VcpuAccount,
    vm: VmAccount,
    /// The last reading of its thread; none while no thread runs it.
    thread: Option<Reading>,
    monotonic_ns: u64,
}

impl Vcpu {
    fn new() -> Self {
        let event = Event { tid: 7, start_boottime_ns: 5, at_boottime_ns: 9, ..Event::default() };
        let (account, vm) = (VcpuAccount::open(&event), VmAccount::open(&event));
        Self { account, vm, thread: Some(Reading::default()), monotonic_ns: 1_000 }
    }

    /// Goes through it; returns what was added.
    fn act(&mut self, act: &Act) -> Option<(Interval, Faults)> {
        match act {
            Act::Read(grows) => return self.read(*grows),
            Act::Leave(more) => self.leave(*more),
            Act::TakeOver(had) => self.take_over(*had),
            Act::Restart => {}
        }
        None
    }

    fn read(&mut self, grows: [u32; 6]) -> Option<(Interval, Faults)> {
        self.monotonic_ns += grows.iter().map(|ns| u64::from(*ns)).sum::<u64>();
        let reading = match &mut self.thread {
            Some(thread) => {
                *thread = after(thread, grows, self.monotonic_ns);
                let reading = *thread;
                self.account.carried(reading)
            }
            None => self.account.at_rest(Reading::default(), self.monotonic_ns, self.monotonic_ns + 7),
        };
        if let Some(time) = &mut self.account.time {
            return Some(time.advance(reading));
        }
        self.account.time = Some(Account::follow(reading));
        self.account.followed_boottime_ns = self.monotonic_ns;
        self.account.clock = Some(Clock::of_distance(99));
        None
    }

    fn leave(&mut self, more: Option<[u32; 6]>) {
        let Some(thread) = self.thread.take() else { return };
        let left = more.map(|more| left(&after(&thread, more, self.monotonic_ns)));
        self.account.leave(&mut self.vm, left);
    }

    fn take_over(&mut self, had: [u32; 2]) {
        if self.thread.is_some() {
            return;
        }
        let mut event = Event { tid: 8, at_boottime_ns: self.monotonic_ns, ..Event::default() };
        event.counters[..2].copy_from_slice(&had.map(u64::from));
        self.account.take_over(&event, None);
        let counters = super::super::super::counted::counters(&event.counters);
        self.thread = Some(Reading { counters, ..Reading::default() });
    }

    /// The same in the next process.
    fn restarted(&self) -> Self {
        let account = value(&bytes(&self.account)).expect("what was written is read");
        let vm = value(&bytes(&self.vm)).expect("what was written is read");
        Self { account, vm, ..self.clone() }
    }

    /// All that is kept of it.
    fn kept(&self) -> Vec<u8> {
        [bytes(&self.account), bytes(&self.vm)].concat()
    }
}

fn after(last: &Reading, grows: [u32; 6], monotonic_ns: u64) -> Reading {
    let [run, delay, halted, blocked, guest, running] = grows.map(u64::from);
    let mut now = Reading { monotonic_ns, sched_ns: monotonic_ns + 7, running_ns: running, ..*last };
    now.counters[0] += run;
    now.counters[1] += delay;
    now.halted_ns += halted;
    now.blocked_ns[2] += blocked;
    now.modes = ModeTimes { guest_ns: last.modes.guest_ns + guest, observed: true, ..last.modes };
    now
}

fn left(last: &Reading) -> Left {
    let mut exits = Exits::default();
    exits.add(ExitKinds::new(VMX_EXITS).of(4), &ExitTotals { count: 3, ..ExitTotals::default() });
    Left {
        times: LastTimes {
            counters: last.counters,
            throttled_ns: 0,
            halted_ns: last.halted_ns,
            blocked_ns: last.blocked_ns,
            modes_ns: None,
        },
        distributions: None,
        shares: None,
        exits: Some(exits),
    }
}

proptest! {
    #[test]
    fn an_account_goes_on_over_restarts_as_one_without_them(acts in collection::vec(act(), 1..40)) {
        let (mut expected, mut vcpu) = (Vcpu::new(), Vcpu::new());
        for act in &acts {
            if matches!(act, Act::Restart) {
                vcpu = vcpu.restarted();
                prop_assert_eq!(vcpu.kept(), expected.kept());
            }
            prop_assert_eq!(vcpu.act(act), expected.act(act));
        }
        let grows = [1, 2, 3, 4, 5, 6];
        prop_assert_eq!(vcpu.read(grows), expected.read(grows));
        prop_assert_eq!(vcpu.kept(), expected.kept());
    }
}
