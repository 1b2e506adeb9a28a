//! Which file system a descriptor's file is on, as its process sees them.

use std::collections::HashMap;

use crate::model::Device;

/// A file system that is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Of its files; the major number is 0 where it is on no block device, or on several.
    pub(super) device: Device,
    /// Its kind, as `ext4`.
    pub(super) kind: String,
    /// What was mounted.
    pub(super) source: String,
}

/// Mounts by their ids.
#[derive(Debug, Default)]
pub(super) struct Mounts(HashMap<u64, Mount>);

impl Mounts {
    /// From `/proc/PID/mountinfo`. A line that is not understood is left out.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(line).collect())
    }

    pub(super) fn get(&self, id: u64) -> Option<&Mount> {
        self.0.get(&id)
    }
}

fn line(line: &str) -> Option<(u64, Mount)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let device = device(left.nth(1)?)?;
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?.to_owned(), right.next()?.to_owned());
    Some((id, Mount { device, kind, source }))
}

/// From `8:16`.
pub(super) fn device(text: &str) -> Option<Device> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_ids() {
        let mounts = Mounts::parse(
            "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
             37 35 0:52 / /nfs rw - nfs4 host:/export rw\nnonsense\n38 35 x:1 / /a rw - ext4 /dev/a rw\n39 1 1:1 / / rw\n",
        );
        let root = Device { major: 98, minor: 0 };
        let expected = Mount { device: root, kind: "ext3".into(), source: "/dev/root".into() };
        assert_eq!(mounts.get(36), Some(&expected));
        assert_eq!(mounts.get(37).unwrap().kind, "nfs4");
        assert_eq!((mounts.get(38), mounts.get(39), mounts.0.len()), (None, None, 2));
    }
}
