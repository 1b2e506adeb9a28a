//! The ring of lifecycle events.

use aya::maps::{MapData, RingBuf};
use sampler_ebpf::abi::Event;

use super::{MapError, mmap::from_bytes};
use crate::load::Object;

pub(super) fn open(object: &mut Object, name: &'static str) -> Result<RingBuf<MapData>, MapError> {
    let map = object.take_map(name).ok_or(MapError::Missing(name))?;
    RingBuf::try_from(map).map_err(|_| MapError::Missing(name))
}

/// Records of another length than [`Event`] do not exist: one type travels here, checked by its size.
pub(super) fn drain(ring: &mut RingBuf<MapData>, mut each: impl FnMut(Event)) {
    while let Some(item) = ring.next() {
        if let Some(event) = from_bytes(&item) {
            each(event);
        }
    }
}
