//! A map for tests, where they may make one.

use std::io::ErrorKind;

use aya::maps::{Array, IterableMap as _, MapData, MapError};

use super::MapInfo;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
const ENTRIES: u32 = 3;

/// A map of three numbers. `None` where this process may make none, which is said.
pub(crate) fn map() -> Option<Array<MapData, u64>> {
    match Array::create(ENTRIES, MMAPABLE) {
        Ok(map) => Some(map),
        Err(MapError::CreateError { io_error, .. })
            if matches!(io_error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) =>
        {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            eprintln!("skipped: {name}: this process may make no maps of eBPF: {io_error}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// What it is.
pub(crate) fn info(map: &Array<MapData, u64>) -> MapInfo {
    let id = map.map().info().unwrap().id();
    MapInfo { kind: ARRAY, id, key_size: 4, value_size: 8, entries: ENTRIES, flags: MMAPABLE }
}
