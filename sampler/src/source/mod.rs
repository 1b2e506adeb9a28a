//! Sources that fill the model, one folder each.

mod kvm;

pub use kvm::{
    Action, GuestFacts, Kvm, KvmGuest, Levels, Slots, SourceError, TaskFacts, ThreadId, telling_unit,
};
