//! Variables of the programs that may change while they run: each is a section of the object, and by it a map
//! with one value.

use aya::{
    Pod,
    maps::{Array, MapData, MapError},
};

use super::{causes::Causes, object::Object};

/// Why a variable of the programs, which is a map of its own, could not be set.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    /// The object has no such section.
    #[error("the eBPF object has no section {0}; program and loader were built from different sources")]
    Missing(&'static str),
    /// It is of another type, or the kernel refused.
    #[error("section {section} of the eBPF object: {}", Causes(.reason))]
    Map {
        /// The section.
        section: &'static str,
        /// What stood in the way.
        reason: MapError,
    },
}

/// Sets a variable. Programs see each word of it change at once.
pub(crate) fn publish<T: Pod>(
    object: &mut Object,
    section: &'static str,
    value: &T,
) -> Result<(), SectionError> {
    let map = object.map_mut(section).ok_or(SectionError::Missing(section))?;
    let refused = |reason| SectionError::Map { section, reason };
    let mut map: Array<&mut MapData, T> = Array::try_from(map).map_err(refused)?;
    map.set(0, value, 0).map_err(refused)
}
