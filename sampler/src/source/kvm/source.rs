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

/// Whether a VM is shown with what its process has, as its memory: of several the first is.
const fn has_process(vm: VmKey) -> bool {
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
        let of_process = new.iter().copied().filter(|vm| has_process(*vm));
        let of_process = of_process.flat_map(|vm| [Question::Memory(vm), Question::Interfaces(vm)]);
        let guests = new.iter().copied().map(Question::Guest).chain(of_process);
        let io_groups = self.disks.owners.take_unasked().into_iter();
        let io_groups = io_groups.map(|(vm, inode)| Question::IoGroup(vm, inode));
        let disks = self.disks.take_unasked().into_iter().map(Question::Disk);
        let links = std::mem::take(&mut self.wants_links).then_some(Question::Links);
        guests
            .chain(io_groups)
            .chain(disks)
            .chain(links)
            .chain(self.take_unnamed().into_iter().map(Question::Process))
            .collect()
    }

    fn checks(&self) -> Vec<Question> {
        self.vms().into_iter().map(Question::Changes).collect()
    }

    fn slow_questions(&self) -> Vec<Question> {
        let of_process = self.vms().into_iter().filter(|vm| has_process(*vm));
        let of_process = of_process.flat_map(|vm| [Question::Memory(vm), Question::Interfaces(vm)]);
        let io_groups = self.disks.owners.unanswered();
        let io_groups = io_groups.into_iter().map(|(vm, inode)| Question::IoGroup(vm, inode));
        of_process.chain(io_groups).chain(self.disks.devices().map(Question::Disk)).collect()
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
            Question::Guest(_)
            | Question::Changes(_)
            | Question::Memory(_)
            | Question::Interfaces(_)
            | Question::Links => {}
            Question::IoGroup(vm, inode) => self.disks.owners.unasked_still(vm, inode),
            Question::Disk(device) => self.disks.unasked_still(device),
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
            Answer::IoGroup(vm, inode, is_own) => {
                self.disks.owners.answer(vm, inode, is_own);
                self.publish_io_owners();
            }
            Answer::Interfaces(vm, Some(found)) => self.interfaces.found(vm, found),
            Answer::Interfaces(_, None) => {}
            Answer::Links(counts, at_unix_ns) => self.interfaces.read(&counts, at_unix_ns),
            Answer::Disk(device, name) => self.name_disk(device, name.as_deref()),
            Answer::Process(pid, facts) => self.name_task(pid, facts),
        }
    }

    fn answerer(&self) -> Answerer {
        let answers = Arc::clone(&self.answers);
        Box::new(move |question| answers.answer(question))
    }
}
