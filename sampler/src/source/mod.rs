//! Sources that fill the model, one file each.

mod kvm;
mod registry;

pub use kvm::{Kvm, SourceError};
pub use registry::{Action, GuestFacts, Registry};
