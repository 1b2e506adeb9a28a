//! Sources that fill the model, one file each.

mod co_stop;
mod exits;
mod helpers;
mod hooks;
mod kvm;
mod levels;
mod readings;
mod registry;
mod shown;
mod stolen;
mod suspects;
mod thieves;

pub use kvm::{Kvm, SourceError};
pub use levels::Levels;
pub use registry::{Action, GuestFacts, Registry};
pub use suspects::{TaskFacts, telling_unit};
