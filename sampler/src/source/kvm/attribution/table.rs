//! From tables of occupants to shares: what was added to a thread's table since it was read last, and to whom
//! a wait that goes on is to be charged.

use sampler_ebpf::{
    abi::{Shares, WHO_FORCED_IDLE, WHO_IDLE, WHO_OTHERS, WHO_PID, WHO_UNKNOWN, Who},
    shares::gained,
};

use super::memory::{Memory, signed};
use crate::model::Ledger;

/// Who is charged, as the scheduler program distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RawOccupant {
    /// A process or kernel thread, with its marks.
    Process(Who),
    /// The CPU was idle: the wait is the way from the wake-up to the switch.
    Idle,
    /// Core scheduling kept the CPU idle.
    ForcedIdle,
    /// Those without an entry in the table, with nothing but their mark.
    Others(Who),
    /// Nobody saw who had the CPU.
    Nobody,
}

impl RawOccupant {
    const fn of(who: Who) -> Self {
        match who {
            WHO_IDLE => Self::Idle,
            WHO_FORCED_IDLE => Self::ForcedIdle,
            who if who & WHO_UNKNOWN == WHO_UNKNOWN => Self::Nobody,
            who if who & WHO_OTHERS != 0 => Self::Others(who & WHO_UNKNOWN),
            who => Self::Process(who),
        }
    }
}

/// Parts of a wait that are remembered apart.
const MAX_PENDING: usize = 256;

/// A wait that went on at a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Wait {
    /// CPU on whose queue the thread waits.
    pub cpu: u32,
    /// Since when, on the scheduler's clock, ns.
    pub queued_ns: u64,
    /// The reading, on the same clock, ns.
    pub until_ns: u64,
    /// How much of it a CPU quota has held the thread back, ns: its begin, as the program will have it.
    pub held_back_ns: u64,
}

/// What is known of one thread's occupants at a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadShares {
    table: Shares,
    /// Run delay that the kernel counts and the table lacks, of a wait whose end no program saw. The next
    /// switch-out puts it into the table.
    lacking_ns: u64,
    /// The wait that goes on, which is not in the table yet, and its parts.
    wait: Option<Wait>,
    pending: Vec<(RawOccupant, i64)>,
}

impl ThreadShares {
    /// A thread that nobody has taken anything from.
    pub const NONE: Self = Self::new(Shares::NONE, 0);

    /// What a table holds, which lacks so much of the kernel's count.
    #[must_use]
    pub const fn new(table: Shares, lacking_ns: u64) -> Self {
        Self { table, lacking_ns, wait: None, pending: Vec::new() }
    }

    /// With a wait that goes on, on a CPU that remembers this. Of a wait that went on at the reading before
    /// only the part since then is compared with the CPU's memory, which may not reach back further.
    #[must_use]
    pub(in super::super) fn waiting(
        mut self,
        wait: Wait,
        memory: Option<&Memory<'_>>,
        before: Option<&Self>,
    ) -> Self {
        let same = |other: &Wait| other.cpu == wait.cpu && other.queued_ns == wait.queued_ns;
        let before = before.and_then(|before| Some((before.wait.filter(same)?, &before.pending)));
        let (from_ns, held_before) =
            before.map_or((wait.queued_ns, 0), |(before, _)| (before.until_ns, before.held_back_ns));
        let from_ns =
            from_ns.saturating_add(wait.held_back_ns.saturating_sub(held_before)).min(wait.until_ns);
        for (who, ns) in before.into_iter().flat_map(|(_, pending)| pending) {
            self.add(*who, *ns);
        }
        match memory {
            None => self.add(RawOccupant::Nobody, signed(wait.until_ns - from_ns)),
            Some(memory) => {
                memory.parts(from_ns, wait.until_ns, |who, ns| self.add(RawOccupant::of(who), ns));
            }
        }
        self.wait = Some(wait);
        self
    }

    fn add(&mut self, who: RawOccupant, ns: i64) {
        if ns == 0 {
            return;
        }
        let known = |pending: &[(RawOccupant, i64)], who| pending.iter().position(|(other, _)| *other == who);
        let who = match who {
            RawOccupant::Process(process)
                if self.pending.len() >= MAX_PENDING && known(&self.pending, who).is_none() =>
            {
                RawOccupant::Others(process & !WHO_PID)
            }
            who => who,
        };
        match known(&self.pending, who) {
            Some(at) => self.pending[at].1 += ns,
            None => self.pending.push((who, ns)),
        }
    }

    /// Whether more than the table was known at the reading: it changes without a switch.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.wait.is_some() || self.lacking_ns > 0
    }

    /// Charges what was added since `before`.
    pub fn charge(&self, before: &Self, ledger: &mut Ledger<RawOccupant>) {
        for (who, ns) in &self.pending {
            ledger.charge(*who, *ns);
        }
        for (who, ns) in &before.pending {
            ledger.charge(*who, -*ns);
        }
        ledger.charge(RawOccupant::Nobody, signed(self.lacking_ns) - signed(before.lacking_ns));
        gained(&self.table, &before.table, |who, ns| ledger.charge(RawOccupant::of(who), ns));
    }
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::{Occupancy, Stretch, entry_at, mark_of};

    use crate::collect::Remembered;

    use super::*;

    fn table(entries: &[(usize, Who, u64)], others_ns: u64) -> ThreadShares {
        let mut shares = ThreadShares::NONE;
        for (at, who, ns) in entries {
            shares.table.who[*at] = *who;
            shares.table.ns[*at] = *ns;
        }
        shares.table.others_ns[0] = others_ns;
        shares
    }

    fn charged(before: &ThreadShares, now: &ThreadShares) -> Vec<(RawOccupant, u64)> {
        let mut ledger = Ledger::default();
        now.charge(before, &mut ledger);
        ledger.settle(u64::MAX / 2).0
    }

    #[test]
    fn what_was_added_is_charged() {
        let before = table(&[(3, 7, 100), (4, 8, 50)], 0);
        let now = table(&[(3, entry_at(7, 3 << 30), 130), (4, 8, 50), (5, 9, 20)], 0);
        assert_eq!(charged(&before, &now), [(RawOccupant::Process(7), 30), (RawOccupant::Process(9), 20)]);
    }

    #[test]
    fn one_that_lost_its_entry_is_not_charged_twice() {
        let before = table(&[(3, 7, 100), (4, 8, 50)], 10);
        // 8 took 5 more, then lost its place to 9; 7 lost its own and came back elsewhere.
        let now = table(&[(4, 9, 20), (6, 7, 40)], 10 + 55 + 100);
        let expected =
            [(RawOccupant::Process(7), 40), (RawOccupant::Process(9), 20), (RawOccupant::Others(0), 5)];
        assert_eq!(charged(&before, &now), expected);
    }

    #[test]
    fn a_wait_that_goes_on_is_charged_once() {
        let mut occupancy = Occupancy { written: 3, who: 8, ..Occupancy::EMPTY };
        for (at, (start_ns, who)) in [(100, 7), (200, WHO_IDLE), (250, 8)].into_iter().enumerate() {
            occupancy.stretches[at] = Stretch { start_ns, who, _pad: 0 };
        }
        let wait = |until_ns| Wait { cpu: 0, queued_ns: 50, until_ns, held_back_ns: 0 };
        let nothing = |_| None;
        let waiting = |occupancy: &Occupancy, until_ns, before: Option<&ThreadShares>| {
            let recent = Remembered { memory: Box::new(*occupancy), oldest: 0 };
            let memory = Memory { recent: &recent, checkpoint: &nothing };
            ThreadShares::NONE.waiting(wait(until_ns), Some(&memory), before)
        };
        let first = waiting(&occupancy, 300, None);
        let parts = [
            (RawOccupant::Process(7), 100),
            (RawOccupant::Process(8), 50),
            (RawOccupant::Idle, 50),
            (RawOccupant::Nobody, 50),
        ];
        assert_eq!(charged(&ThreadShares::NONE, &first), parts);
        // The switch charges the same, and some more.
        let mut after = table(&[(0, 7, 100), (1, 8, 90)], 0);
        after.table.idle_ns = 50;
        after.table.others_ns[mark_of(WHO_UNKNOWN)] = 50;
        assert_eq!(charged(&first, &after), [(RawOccupant::Process(8), 40)]);
        assert_eq!(ThreadShares::NONE.waiting(wait(60), None, None).pending, [(RawOccupant::Nobody, 10)]);
        assert_eq!(
            charged(&ThreadShares::NONE, &ThreadShares::new(Shares::NONE, 7)),
            [(RawOccupant::Nobody, 7)]
        );
        // By now the CPU remembers nothing of the wait's begin.
        occupancy.stretches[0].who = 9;
        let longer = waiting(&occupancy, 320, Some(&first));
        assert_eq!(charged(&first, &longer), [(RawOccupant::Process(8), 20)]);
    }
}
