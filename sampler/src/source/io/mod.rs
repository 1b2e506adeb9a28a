//! What guests do with the host's devices, whichever hypervisor runs them.

mod attached;
mod disks;
mod interfaces;
mod owners;
mod places;

pub(super) use attached::Attachments;
pub(super) use disks::Disks;
pub(super) use interfaces::Interfaces;
pub(super) use owners::{Change, Group, Owners};
