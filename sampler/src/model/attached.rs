//! Where a guest's devices are seen, and why some are not.

use crate::kept::kept;

labels! {
    /// What a device is for.
    AttachedKind in ATTACHED_KINDS {
        Disk = "disk", "Its disks, as the VMM holds them: files and block devices.";
        Network = "network", "Its network interfaces.";
        Passthrough = "passthrough", "A device of the host that the guest drives by itself; which kind is not known.";
    }
}

labels! {
    /// Why nothing of a device is counted.
    Unseen in UNSEEN {
        NoGroup = "no-group", "The guest has no control group of the io controller to itself.";
        NoRequests = "no-requests", "The device makes no requests: it works on bios, as zram, brd and pmem do.";
        Memory = "memory", "The file is in the host's memory.";
        NetworkFiles = "network-files", "The file is on a network file system, or one in user space.";
        KernelThreads = "kernel-threads", "Threads of the kernel, which are nobody's, do its I/O, or its writes: ZFS, dm-crypt, RAID with parity, vhost-scsi.";
        Commands = "commands", "The guest's commands are handed to the device as they are (SCSI generic, NVMe).";
        VhostUser = "vhost-user", "Another process serves it from the guest's memory (vhost-user, as SPDK, DPDK and virtiofsd do).";
        Vdpa = "vdpa", "Hardware serves it from the guest's memory (vDPA).";
        PassedThrough = "passed-through", "The guest drives it by itself (VFIO).";
        Unknown = "unknown", "What is behind it could not be found out.";
    }
}

/// A device that a VMM holds for its guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attached {
    /// What it is for.
    pub kind: AttachedKind,
    /// What the host calls it: a path, or an interface's name.
    pub path: String,
    /// Where it is seen: disks of the host, or itself. Empty where nothing of it is.
    pub seen_at: Vec<String>,
    /// Why a part of it, or all of it, is not.
    pub unseen: Option<Unseen>,
}

kept! { labels AttachedKind in ATTACHED_KINDS }
kept! { labels Unseen in UNSEEN }
kept! { Attached { kind, path, seen_at, unseen } }

impl Attached {
    /// The same of a guest that has no control group to itself: no request is known to be its own.
    #[must_use]
    pub fn without_group(self) -> Self {
        if self.kind != AttachedKind::Disk || self.seen_at.is_empty() {
            return self;
        }
        Self { seen_at: Vec::new(), unseen: Some(Unseen::NoGroup), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_a_control_group_has_no_disks_that_are_seen() {
        let device = |kind, seen_at: &[&str], unseen| Attached {
            kind,
            path: "x".to_owned(),
            seen_at: seen_at.iter().map(ToString::to_string).collect(),
            unseen,
        };
        let disk = device(AttachedKind::Disk, &["sda"], None).without_group();
        assert_eq!(disk, device(AttachedKind::Disk, &[], Some(Unseen::NoGroup)));
        for same in [
            device(AttachedKind::Network, &["x"], None),
            device(AttachedKind::Disk, &[], Some(Unseen::VhostUser)),
        ] {
            assert_eq!(same.clone().without_group(), same);
        }
    }
}
