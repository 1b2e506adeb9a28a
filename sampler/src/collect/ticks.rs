//! The grid of moments on which programs draw when threads ran and waited.

use aya::{
    Ebpf,
    maps::{Array, MapData},
};

use super::CollectError;

/// Name that the section gets as a map.
const MAP: &str = ".bss.ticks";

/// Tells the programs how long a tick is, as a power of two in ns.
pub(super) fn publish(ebpf: &mut Ebpf, shift: u32) -> Result<(), CollectError> {
    let map = ebpf.map_mut(MAP).ok_or_else(|| CollectError::Ticks("missing".to_owned()))?;
    let error = |error: aya::maps::MapError| CollectError::Ticks(error.to_string());
    let mut map: Array<&mut MapData, u32> = Array::try_from(map).map_err(error)?;
    map.set(0, &shift, 0).map_err(error)
}
