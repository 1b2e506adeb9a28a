//! What is in the kernel of the object, by its descriptors. Once it is loaded nothing else of it is needed:
//! no memory for its instructions and types, and no word of how it came there.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::{Ebpf, maps::Map};

/// Maps, and programs that are loaded.
#[derive(Debug)]
pub struct Object {
    maps: BTreeMap<String, Map>,
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
        Ok(Self { maps, programs })
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

    /// A map, for whoever is alone with it.
    pub fn take_map(&mut self, name: &str) -> Option<Map> {
        self.maps.remove(name)
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
