//! What the programs have counted of guests' disks, and whose control groups are.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData},
};
use sampler_ebpf::abi::{BlockStats, DiskCounts, DiskKey, IoGroup};

use super::{
    batch::Batches,
    mmap::{MapError, Mapped},
};

/// Name of the map of counts.
const DISKS: &str = "DISKS";

/// As aya knows keys and values: arrays of numbers.
type Key = [u32; size_of::<DiskKey>() / size_of::<u32>()];
type Value = [u64; size_of::<DiskCounts>() / size_of::<u64>()];

/// The shared tables.
#[derive(Debug)]
pub(super) struct DiskTables {
    disks: HashMap<MapData, Key, Value>,
    /// The same map.
    fd: OwnedFd,
    groups: Mapped<IoGroup>,
    stats: Mapped<BlockStats>,
    room: Batches<DiskKey, DiskCounts>,
}

impl DiskTables {
    /// Opens them.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        let Some(Map::HashMap(data)) = ebpf.take_map(DISKS) else { return Err(MapError::Missing(DISKS)) };
        let system = |call, source| MapError::System { name: DISKS, call, source };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|source| system("dup", source))?;
        let wrong = |error| system("open", io::Error::other(error));
        Ok(Self {
            disks: HashMap::try_from(Map::HashMap(data)).map_err(wrong)?,
            fd,
            groups: Mapped::open(ebpf, "IO_GROUPS")?,
            stats: Mapped::open(ebpf, "BLOCK_STATS")?,
            room: Batches::new(),
        })
    }

    /// Hands what was counted of each disk of each guest to `each`.
    pub(super) fn read(&mut self, each: impl FnMut(&DiskKey, &DiskCounts)) -> Result<(), MapError> {
        let call = "bpf(BPF_MAP_LOOKUP_BATCH)";
        let system = |source| MapError::System { name: DISKS, call, source };
        self.room.read(self.fd.as_fd(), each).map_err(system)
    }

    /// Forgets a disk of a guest that has ended.
    pub(super) fn forget(&mut self, DiskKey { owner, device }: DiskKey) {
        // There is none where the guest's last request came after the last reading.
        let _ = self.disks.remove(&[owner, device]);
    }

    /// Says whose the requests are that are charged to the control group of this number. Returns whether
    /// there is room for that.
    pub(super) fn set_owner(&mut self, group: u32, owner: IoGroup) -> bool {
        let has_room = (group as usize) < self.groups.len();
        if has_room {
            // The programs must not find the new owner beside the old serial number.
            self.groups.write(group as usize, IoGroup { owner: 0, ..owner });
            self.groups.write(group as usize, owner);
        }
        has_room
    }

    /// Requests of guests for whose disk there was no room.
    pub(super) fn untracked(&self) -> u64 {
        self.stats.read(0).untracked
    }
}
