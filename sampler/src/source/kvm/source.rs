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

/// Slow rounds until each guest's devices were looked for once: that reads all descriptors of a VMM.
const DEVICE_ROUNDS: usize = 6;

impl Source for Kvm {
    fn configure(&mut self, settings: Settings) -> Result<(), SourceError> {
        self.set_levels(settings.levels);
        self.host_state.set_parts(settings.host);
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

    fn guests(&self) -> usize {
        self.vms().len()
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
        let of_process = of_process.flat_map(|vm| [Question::Memory(vm), Question::Devices(vm)]);
        let of_all = new.iter().flat_map(|vm| [Question::Guest(*vm), Question::Group(*vm)]);
        let guests = of_all.chain(of_process);
        let io_groups = self.disks.owners.take_unasked().into_iter();
        let io_groups = io_groups.map(|(vm, inode)| Question::IoGroup(vm, inode));
        let disks = self.disks.take_unasked().into_iter().map(Question::Disk);
        let links = std::mem::take(&mut self.wants_links).then_some(Question::Links);
        let host = self.host_state.take_due().map(Question::Host);
        guests
            .chain(io_groups)
            .chain(disks)
            .chain(links)
            .chain(host)
            .chain(self.take_unnamed().into_iter().map(Question::Process))
            .collect()
    }

    fn checks(&self) -> Vec<Question> {
        self.vms().into_iter().map(Question::Changes).collect()
    }

    fn slow_questions(&mut self) -> Vec<Question> {
        self.slow_rounds += 1;
        let all = self.vms();
        // Of several VMs of a process too: whose a control group is depends on who else is in it.
        let groups = all.iter().copied().map(Question::Group);
        let vms: Vec<_> = all.iter().copied().filter(|vm| has_process(*vm)).collect();
        let round = self.slow_rounds % DEVICE_ROUNDS;
        let unseen = self.interfaces.take_unseen();
        let is_due = |(n, vm): &(usize, &VmKey)| n % DEVICE_ROUNDS == round || unseen.contains(vm);
        let looked_at = vms.iter().enumerate().filter(is_due).map(|(_, vm)| *vm);
        let memory = vms.iter().copied().map(Question::Memory);
        let io_groups = self.disks.owners.unanswered().into_iter();
        let io_groups = io_groups.map(|(vm, inode)| Question::IoGroup(vm, inode));
        let devices = looked_at.map(Question::Devices);
        let host = self.host_state.wanted().map(Question::Host);
        let disks = self.disks.devices().map(Question::Disk);
        groups.chain(memory).chain(devices).chain(io_groups).chain(disks).chain(host).collect()
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
            | Question::Group(_)
            | Question::Devices(_)
            | Question::Host(_)
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
            Answer::Group(vm, Some((group, at_unix_ns))) => self.groups.read(vm, group, at_unix_ns),
            // As its memory.
            Answer::Group(_, None) => {}
            Answer::IoGroup(vm, inode, is_own) => {
                self.disks.owners.answer(vm, inode, is_own);
                self.publish_io_owners();
            }
            Answer::Devices(vm, Some((devices, interfaces))) => {
                if devices.is_partial {
                    self.interfaces.unseen(vm);
                }
                self.attached.found(vm, devices);
                match interfaces {
                    Some(found) => self.interfaces.found(vm, found),
                    None => self.interfaces.unseen(vm),
                }
            }
            // Nobody could look: what is known stays, and is looked for again.
            Answer::Devices(vm, None) => self.interfaces.unseen(vm),
            Answer::Links(Some(links)) => self.interfaces.read(&links),
            // Somebody else asks for too long: the next reading asks again.
            Answer::Links(None) => {}
            Answer::Disk(device, name) => self.name_disk(device, name),
            Answer::Host(parts, state) => {
                self.host_state.answer(parts, &state, self.clock.unix_of_boottime(0));
            }
            Answer::Process(pid, facts) => self.name_task(pid, facts),
        }
    }

    fn answerer(&self) -> Answerer {
        let answers = Arc::clone(&self.answers);
        Box::new(move |question| answers.answer(question))
    }
}
