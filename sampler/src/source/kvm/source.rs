//! KVM as one source among others.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
};

use super::{Kvm, identity::KvmGuest};
use crate::{
    model::{Snapshot, VmKey},
    source::{Answer, Answerer, GuestFacts, Question, Settings, Source, SourceError},
};

/// Whether a VM is shown with the memory of its process: of several the first is.
const fn has_memory(vm: VmKey) -> bool {
    KvmGuest::of(vm).nth == 0
}

impl Source for Kvm {
    fn configure(&mut self, settings: Settings) -> Result<(), SourceError> {
        self.set_levels(settings.levels);
        Ok(self.set_interval(settings.interval)?)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn drain(&mut self) {
        Self::drain(self);
    }

    fn look(&mut self) -> Result<(), SourceError> {
        Ok(Self::look(self)?)
    }

    fn vcpus(&self) -> usize {
        Self::vcpus(self)
    }

    fn read(&mut self) -> Result<(), SourceError> {
        Ok(Self::read(self)?)
    }

    fn compose(&mut self) -> Snapshot {
        Self::compose(self)
    }

    fn questions(&mut self) -> Vec<Question> {
        let new = self.take_unidentified();
        let memory = new.iter().copied().filter(|vm| has_memory(*vm)).map(Question::Memory);
        let guests = new.iter().copied().map(Question::Guest).chain(memory);
        guests.chain(self.take_unnamed().into_iter().map(Question::Process)).collect()
    }

    fn checks(&self) -> Vec<Question> {
        self.vms().into_iter().map(Question::Changes).collect()
    }

    fn slow_questions(&self) -> Vec<Question> {
        self.vms().into_iter().filter(|vm| has_memory(*vm)).map(Question::Memory).collect()
    }

    fn all_questions(&self) -> Vec<Question> {
        self.vms().into_iter().map(Question::Guest).collect()
    }

    fn awaits_answers(&self) -> bool {
        self.awaits_facts()
    }

    fn not_asked(&mut self, question: Question) {
        match question {
            // The next full discovery asks again, or the next check.
            Question::Guest(_) | Question::Changes(_) | Question::Memory(_) => {}
            Question::Process(pid) => self.unnamed_still(pid),
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Guest(vm, Some(facts)) => self.identify(vm, facts),
            // What was known before stays true.
            Answer::Guest(vm, None) if self.is_identified(vm) => {}
            Answer::Guest(vm, None) => self.identify(vm, GuestFacts::default()),
            Answer::Changes(vm, true) => self.ask_again(vm),
            Answer::Changes(_, false) => {}
            Answer::Memory(vm, Some(memory)) => self.take_memory(vm, memory),
            // Its process has ended, which a switch or a walk will report, or nobody knows.
            Answer::Memory(_, None) => {}
            Answer::Process(pid, facts) => self.name_task(pid, facts),
        }
    }

    fn answerer(&self) -> Answerer {
        let answers = Arc::clone(&self.answers);
        Box::new(move |question| answers.answer(question))
    }
}
