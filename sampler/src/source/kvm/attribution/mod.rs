//! Who had the CPUs for which a VM's vCPUs waited.
//!
//! The scheduler program adds each wait up by occupant of the CPU, in a table for each slot. [`table`] turns
//! tables into what was added to them, [`memory`] says whom a wait that goes on is to be charged to,
//! [`names`] who an occupant is, and [`account`] keeps the sums of one VM.

pub(super) mod account;
pub(super) mod memory;
pub(super) mod names;
pub(super) mod table;
