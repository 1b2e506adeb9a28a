//! Sources that fill the model, one file each.

mod helpers;
mod kvm;
mod registry;
mod stolen;
mod suspects;
mod thieves;

pub use kvm::{Kvm, SourceError};
pub use registry::{Action, GuestFacts, Registry};
pub use suspects::{TaskFacts, telling_unit};
