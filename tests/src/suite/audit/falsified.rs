//! KVM's guests with one number falsified. It is the sampler's own source, and only this program has it.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use hvsampler::model::{Counter, Snapshot, Vcpu};
use hvsampler::source::{Answer, Answerer, Kvm, Question, Settings, Source, SourceError};

/// A number of one of two guests' vCPUs to be falsified.
pub(super) struct Lie {
    /// Of which guest.
    pub(super) of: usize,
    /// By what name the audit calls it.
    pub(super) what: &'static str,
    falsify: fn(&mut Vcpu),
}

const ASLEEP: usize = 0;
const BUSY: usize = 1;
const SECOND: u64 = 1_000_000_000;

/// One nanosecond or event where the thread sleeps, and a second where it is busy.
pub(super) static LIES: &[Lie] = &[
    Lie { of: ASLEEP, what: "run_ns", falsify: |vcpu| vcpu.counters[Counter::Run as usize] += 1 },
    Lie { of: ASLEEP, what: "run_delay_ns", falsify: |vcpu| vcpu.counters[Counter::RunDelay as usize] += 1 },
    Lie { of: ASLEEP, what: "timeslices", falsify: |vcpu| vcpu.counters[Counter::Timeslices as usize] += 1 },
    Lie { of: BUSY, what: "run_ns", falsify: |vcpu| sub(&mut vcpu.counters[Counter::Run as usize]) },
    Lie {
        of: BUSY,
        what: "running_ns",
        falsify: |vcpu| {
            vcpu.running_ns += SECOND;
            vcpu.totals.run_ns += SECOND;
        },
    },
    Lie { of: BUSY, what: "total run_ns", falsify: |vcpu| sub(&mut vcpu.totals.run_ns) },
];

/// The guest may be younger than that.
const fn sub(number: &mut u64) {
    *number = number.saturating_sub(SECOND);
}

/// Says which lie is said at the moment, and of which thread.
#[derive(Clone, Default)]
pub(super) struct Falsifier(Arc<Mutex<Option<(&'static Lie, u32)>>>);

impl Falsifier {
    pub(super) fn set(&self, lie: Option<(&'static Lie, u32)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    fn falsify(&self, snapshot: &mut Snapshot) {
        let Some((lie, tid)) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return };
        let vcpus = snapshot.vms.iter_mut().flat_map(|vm| &mut vm.vcpus);
        vcpus.filter(|vcpu| vcpu.tid == Some(tid)).for_each(lie.falsify);
    }
}

/// The source.
pub(super) struct Falsified {
    source: Kvm,
    falsifier: Falsifier,
}

impl Falsified {
    pub(super) fn new(source: Kvm) -> (Self, Falsifier) {
        let falsifier = Falsifier::default();
        (Self { source, falsifier: falsifier.clone() }, falsifier)
    }
}

impl Source for Falsified {
    fn configure(&mut self, settings: Settings) -> Result<(), SourceError> {
        self.source.configure(settings)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.source.descriptor()
    }

    fn drain(&mut self) {
        Source::drain(&mut self.source);
    }

    fn look(&mut self) -> Result<(), SourceError> {
        Source::look(&mut self.source)
    }

    fn guests(&self) -> usize {
        Source::guests(&self.source)
    }

    fn vcpus(&self) -> usize {
        Source::vcpus(&self.source)
    }

    fn read(&mut self) -> Result<(), SourceError> {
        Source::read(&mut self.source)
    }

    fn compose(&mut self) -> Snapshot {
        let mut snapshot = Source::compose(&mut self.source);
        self.falsifier.falsify(&mut snapshot);
        snapshot
    }

    fn questions(&mut self) -> Vec<Question> {
        self.source.questions()
    }

    fn checks(&self) -> Vec<Question> {
        self.source.checks()
    }

    fn slow_questions(&mut self) -> Vec<Question> {
        self.source.slow_questions()
    }

    fn all_questions(&self) -> Vec<Question> {
        self.source.all_questions()
    }

    fn awaits_answers(&self) -> bool {
        self.source.awaits_answers()
    }

    fn not_asked(&mut self, question: Question) {
        self.source.not_asked(question);
    }

    fn answer(&mut self, answer: Answer) {
        self.source.answer(answer);
    }

    fn answerer(&self) -> Answerer {
        self.source.answerer()
    }
}
