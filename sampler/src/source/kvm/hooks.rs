//! KVM's hooks, attached while there are guests that are to be observed.
//!
//! A raw tracepoint of a module holds the module. Guests do that anyway, so attached with them the hooks hold
//! nothing that could otherwise go: with the last guest they are detached, and kvm.ko can be unloaded and
//! replaced as if nobody sampled. The next guest finds the new one attached.

use super::exits::ExitKinds;
use crate::{collect::Collector, model::Level};

/// Whether the hooks are attached, and what they report.
#[derive(Debug)]
pub(super) struct KvmHooks {
    state: State,
    kinds: ExitKinds,
    /// Epochs given out: each once.
    epoch: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Detached,
    Attached,
    /// Not tried again before all guests are gone.
    Refused,
}

impl Default for KvmHooks {
    fn default() -> Self {
        Self { state: State::Detached, kinds: ExitKinds::new(&[]), epoch: 0 }
    }
}

impl KvmHooks {
    /// Attaches the hooks where they are wanted, and detaches them where they are not. Returns whether they
    /// are attached.
    pub(super) fn attach_if(&mut self, wanted: bool, collector: &mut Collector) -> bool {
        let loaded = collector.loaded();
        match (self.state, wanted) {
            (State::Detached, true) => match loaded.attach_to_kvm() {
                Ok(()) => {
                    self.kinds = ExitKinds::new(loaded.processor.map_or(&[], |processor| processor.exits()));
                    self.state = State::Attached;
                    tracing::debug!("attached to KVM");
                }
                Err(error) => {
                    self.state = State::Refused;
                    tracing::warn!(%error, "guests stay at level basic: their CPU time is not broken down, nor are their exits");
                }
            },
            (State::Attached, false) => {
                loaded.detach_from_kvm();
                self.state = State::Detached;
                tracing::debug!("detached from KVM");
            }
            (State::Refused, false) => self.state = State::Detached,
            (State::Detached, false) | (State::Attached | State::Refused, true) => {}
        }
        self.are_attached()
    }

    pub(super) fn are_attached(&self) -> bool {
        self.state == State::Attached
    }

    /// What the rows of the programs' tables stand for.
    pub(super) const fn kinds(&self) -> &ExitKinds {
        &self.kinds
    }

    /// Lets a thread's modes be observed at another level than before.
    pub(super) fn observe(&mut self, collector: &mut Collector, slot: u16, from: Level, to: Level) {
        let Some(one_in) = to.one_timed_in() else { return collector.set_epoch(slot, 0) };
        collector.set_timed(slot, one_in);
        if from == Level::Basic {
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
            collector.set_epoch(slot, self.epoch);
        }
    }
}
