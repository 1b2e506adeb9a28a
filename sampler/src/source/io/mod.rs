//! What guests do with the host's devices, whichever hypervisor runs them.

mod disks;
mod interfaces;
mod owners;

pub(super) use disks::Disks;
pub(super) use interfaces::Interfaces;
pub(super) use owners::{Change, Group, Owners};
