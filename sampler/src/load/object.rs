//! What is in the kernel of the object, by its descriptors. Once it is loaded nothing else of it is needed:
//! no memory for its instructions and types, and no word of how it came there.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};

/// Maps, and programs that are loaded.
#[derive(Debug)]
pub struct Object {
    maps: BTreeMap<String, Map>,
    /// Of maps that somebody else has now.
    taken: BTreeMap<String, OwnedFd>,
    programs: BTreeMap<String, OwnedFd>,
}

impl Object {
    /// All that was loaded of what aya has.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn of(mut ebpf: Ebpf) -> io::Result<Self> {
        let names: Vec<_> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        let maps = names.into_iter().filter_map(|name| ebpf.take_map(&name).map(|map| (name, map))).collect();
        let loaded = ebpf.programs().filter_map(|(name, program)| Some((name, program.fd().ok()?)));
        let own = |(name, fd): (&str, &aya::programs::ProgramFd)| {
            Ok((name.to_owned(), fd.as_fd().try_clone_to_owned()?))
        };
        let programs = loaded.map(own).collect::<io::Result<_>>()?;
        Ok(Self { maps, taken: BTreeMap::new(), programs })
    }

    /// A map.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<&Map> {
        self.maps.get(name)
    }

    /// A map, to be written.
    pub fn map_mut(&mut self, name: &str) -> Option<&mut Map> {
        self.maps.get_mut(name)
    }

    /// A map, for whoever is alone with it. Its descriptor is still among [`Self::maps`].
    pub fn take_map(&mut self, name: &str) -> Option<Map> {
        let map = self.maps.remove(name)?;
        // Where there is no descriptor left for this, nothing else works for long.
        if let Ok(fd) = data(&map).fd().as_fd().try_clone_to_owned() {
            self.taken.insert(name.to_owned(), fd);
        }
        Some(map)
    }

    /// All maps by their names, those that were taken too.
    pub fn maps(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let here = self.maps.iter().map(|(name, map)| (name.as_str(), data(map).fd().as_fd()));
        here.chain(self.taken.iter().map(|(name, fd)| (name.as_str(), fd.as_fd())))
    }

    /// A program that is loaded.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.programs.get(name).map(OwnedFd::as_fd)
    }

    /// All programs that are loaded.
    pub fn programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.programs.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }
}

/// What all types of maps have in common.
const fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::BloomFilter(data)
        | Map::CgroupArray(data)
        | Map::CgroupStorage(data)
        | Map::CgrpStorage(data)
        | Map::CpuMap(data)
        | Map::DevMap(data)
        | Map::DevMapHash(data)
        | Map::HashMap(data)
        | Map::HashOfMaps(data)
        | Map::InodeStorage(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuCgroupStorage(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::PerfEventArray(data)
        | Map::ProgramArray(data)
        | Map::Queue(data)
        | Map::ReusePortSockArray(data)
        | Map::RingBuf(data)
        | Map::SockHash(data)
        | Map::SockMap(data)
        | Map::SkStorage(data)
        | Map::Stack(data)
        | Map::StackTraceMap(data)
        | Map::Unsupported(data)
        | Map::XskMap(data) => data,
    }
}

#[cfg(test)]
mod tests {
    use aya::maps::{Array, IterableMap as _};

    use super::*;
    use crate::kernel::bpf::{self, Info, fixture};

    #[test]
    fn a_map_that_is_taken_is_still_known_by_its_descriptor() {
        let Some(made) = fixture::map() else { return };
        let expected = Info::Map(fixture::info(&made));
        let fd = made.map().fd().as_fd().try_clone_to_owned().unwrap();
        let map = Map::from_map_data(MapData::from_fd(fd).unwrap()).unwrap();
        let maps = BTreeMap::from([("MAP".to_owned(), map)]);
        let mut object = Object { maps, taken: BTreeMap::new(), programs: BTreeMap::new() };
        let said = |object: &Object| -> Vec<(String, Info)> {
            object.maps().map(|(name, fd)| (name.to_owned(), bpf::info(fd).unwrap())).collect()
        };
        let all = [("MAP".to_owned(), expected)];
        assert_eq!(said(&object), all);
        let taken: Array<MapData, u64> = object.take_map("MAP").unwrap().try_into().unwrap();
        assert_eq!(said(&object), all);
        drop(taken);
        assert_eq!(said(&object), all);
        assert!(object.take_map("MAP").is_none());
    }
}
