//! What the programs have counted of guests' disks, and whose control groups are.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::maps::{HashMap, Map, MapData};
use sampler_ebpf::abi::{BlockStats, DiskCounts, DiskKey, FirstDisk, IoGroup};

use super::{
    batch::Batches,
    mmap::{MapError, Mapped},
};
use crate::load::Object;

/// Name of the map of counts.
const DISKS: &str = "DISKS";

/// As aya knows keys and values: arrays of numbers.
type Key = [u32; size_of::<DiskKey>() / size_of::<u32>()];
type Value = [u64; size_of::<DiskCounts>() / size_of::<u64>()];

/// The shared tables.
#[derive(Debug)]
pub struct DiskTables {
    disks: HashMap<MapData, Key, Value>,
    /// The same map.
    fd: OwnedFd,
    firsts: Mapped<DiskCounts>,
    groups: Mapped<IoGroup>,
    stats: Mapped<BlockStats>,
    room: Batches<DiskKey, DiskCounts>,
}

impl DiskTables {
    /// Opens them.
    pub(super) fn open(object: &mut Object) -> Result<Self, MapError> {
        let Some(Map::HashMap(data)) = object.take_map(DISKS) else { return Err(MapError::Missing(DISKS)) };
        let system = |call, source| MapError::System { name: DISKS, call, source };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|source| system("dup", source))?;
        // They are looked at on the sampling thread, where nothing may fail.
        let (firsts, groups) = (Mapped::open(object, "FIRST_DISKS")?, Mapped::open(object, "IO_GROUPS")?);
        firsts.map_all()?;
        groups.map_all()?;
        let wrong = |error| system("open", io::Error::other(error));
        Ok(Self {
            disks: HashMap::try_from(Map::HashMap(data)).map_err(wrong)?,
            fd,
            firsts,
            groups,
            stats: Mapped::open(object, "BLOCK_STATS")?,
            room: Batches::new(),
        })
    }

    /// Hands what was counted of each disk of each guest without a place to `each`. Any CPU may add to it
    /// meanwhile: the parts of a disk's counts may be apart by what ends while they are read.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn read(&mut self, each: impl FnMut(&DiskKey, &DiskCounts)) -> Result<(), MapError> {
        let call = "bpf(BPF_MAP_LOOKUP_BATCH)";
        let system = |source| MapError::System { name: DISKS, call, source };
        self.room.read(self.fd.as_fd(), each).map_err(system)
    }

    /// What was counted of the disk that has this place in the table of first disks.
    #[must_use]
    pub fn first(&self, place: u32) -> DiskCounts {
        self.firsts.read(place as usize)
    }

    /// Makes the counts of a place zero, for the disk that will have it. Nobody may have it now.
    pub fn clear_first(&mut self, place: u32) {
        self.firsts.write(place as usize, DiskCounts::default());
    }

    /// Says which disk of a guest has a place; the guest has the control group of this number and this serial
    /// number. Another that has the number now keeps its own.
    pub fn set_first(&mut self, group: u32, serial: u64, first: FirstDisk) {
        if (group as usize) < self.groups.len() && self.groups.read(group as usize).serial == serial {
            self.groups.write_part(group as usize, offset_of!(IoGroup, first), first);
        }
    }

    /// Forgets a disk of a guest that has ended.
    pub fn forget(&mut self, DiskKey { owner, device }: DiskKey) {
        // There is none where the guest's last request came after the last reading.
        let _ = self.disks.remove(&[owner, device]);
    }

    /// Says whose the requests are that are charged to the control group of this number; 0 of nobody. Returns
    /// whether there is room for that.
    pub fn set_owner(&mut self, group: u32, row: IoGroup) -> bool {
        let IoGroup { serial, first, owner, .. } = row;
        let at = group as usize;
        if at >= self.groups.len() {
            return false;
        }
        let known = self.groups.read(at);
        if owner == 0 {
            // Another control group that has the number now keeps its owner.
            if known.serial == serial {
                self.groups.write_part(at, offset_of!(IoGroup, owner), 0_u32);
            }
            return true;
        }
        // The programs must not find an owner beside another's serial number.
        self.groups.write_part(at, offset_of!(IoGroup, owner), 0_u32);
        self.groups.write_part(at, offset_of!(IoGroup, serial), serial);
        self.groups.write_part(at, offset_of!(IoGroup, first), first);
        self.groups.write_part(at, offset_of!(IoGroup, owner), owner);
        true
    }

    /// Requests of guests for whose disk there was no room.
    pub(super) fn untracked(&self) -> u64 {
        self.stats.read(0).untracked
    }
}
