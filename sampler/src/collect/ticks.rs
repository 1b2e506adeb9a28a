//! The grid of moments on which programs draw when threads ran and waited.

use aya::Ebpf;

use crate::load::{self, SectionError};

/// The variable of the programs.
const SECTION: &str = ".bss.ticks";

/// Sets the length of a tick, as a power of two in ns.
pub(super) fn publish(ebpf: &mut Ebpf, shift: u32) -> Result<(), SectionError> {
    load::publish(ebpf, SECTION, &shift)
}
