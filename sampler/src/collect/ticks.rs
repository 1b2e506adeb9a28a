//! The grid of moments on which programs draw when threads ran and waited.

use crate::load::{self, Object, SectionError};

/// The variable of the programs.
const SECTION: &str = ".bss.ticks";

/// Sets the length of a tick, as a power of two in ns.
pub(super) fn publish(object: &mut Object, shift: u32) -> Result<(), SectionError> {
    load::publish(object, SECTION, &shift)
}
