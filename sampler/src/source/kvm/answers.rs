//! Answers to the source's questions, from `/proc` and from what platforms keep in files. They may take as
//! long as a VMM hangs.

use super::identity::KvmGuest;
use crate::{
    collect::{
        platform::{self, Files},
        procfs::ProcFs,
    },
    source::{Answer, GuestFacts, Question, TaskFacts, unit_of},
};

pub(super) fn answer(question: Question, files: &Files) -> Answer {
    match question {
        Question::Guest(vm) => Answer::Guest(vm, guest(KvmGuest::of(vm), files)),
        Question::Process(pid) => Answer::Process(pid, process(pid)),
    }
}

/// `None` of a process that has ended meanwhile, as most that are asked about late have.
fn process(pid: u32) -> Option<TaskFacts> {
    let name = ProcFs::system().task_name(pid).ok()?;
    Some(TaskFacts { comm: name.comm, unit: name.cgroup.as_deref().and_then(unit_of) })
}

fn guest(KvmGuest { pid, start_boottime_ns, .. }: KvmGuest, files: &Files) -> Option<GuestFacts> {
    let facts = match ProcFs::system().facts(pid, start_boottime_ns) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::debug!(%error, pid, "a guest's process does not say who it is");
            return None;
        }
    };
    let identity = platform::identify(&facts, files);
    if let Some(trouble) = identity.trouble() {
        tracing::debug!(trouble, pid, "not all that the platform has of a guest could be read");
    }
    Some(GuestFacts { facts: identity.facts(), is_partial: identity.trouble().is_some() })
}
