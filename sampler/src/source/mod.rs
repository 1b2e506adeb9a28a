//! Sources that fill the model, one folder each.

mod kvm;

pub use kvm::{Action, GuestFacts, Kvm, Levels, Registry, SourceError, TaskFacts, telling_unit};
