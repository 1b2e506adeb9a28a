//! The devices of guests in the list: where each is seen, or why it is not.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use serde::Serialize;

use super::{Unknown, patiently};
use crate::{
    collect::{
        attached::{self, FoundDevices},
        procfs::{GuestProcess, ProcFs},
    },
    export::terminal,
    model::{ATTACHED_KINDS, Attached, AttachedKind, UNSEEN},
};

/// Which guests have a control group of the io controller to themselves.
pub(super) struct Owners(HashSet<u32>);

impl Owners {
    pub(super) fn of(proc: &ProcFs, guests: &[GuestProcess]) -> Self {
        let mut groups: HashMap<PathBuf, Vec<u32>> = HashMap::new();
        for GuestProcess { pid, .. } in guests {
            if let Some(group) = proc.io_group(*pid).filter(|group| group.is_of_one) {
                groups.entry(group.path).or_default().push(*pid);
            }
        }
        let alone = groups.into_values().filter_map(|pids| match *pids {
            [pid] => Some(pid),
            _ => None,
        });
        Self(alone.collect())
    }

    pub(super) fn is_alone(&self, pid: u32) -> bool {
        self.0.contains(&pid)
    }
}

/// The devices of a guest.
pub(super) fn of(
    proc: &ProcFs,
    pid: u32,
    args: Vec<Vec<u8>>,
    sys: PathBuf,
    has_group: bool,
) -> Result<FoundDevices, Unknown> {
    let (proc, asked) = (proc.clone(), format!("devices-{pid}"));
    let look = move || {
        let mut devices = proc.attached(pid, &proc.open_files(pid)?, &sys);
        devices.extend(attached::served_elsewhere(&args));
        if !has_group {
            devices = devices.into_iter().map(Attached::without_group).collect();
        }
        Ok::<_, std::io::Error>(FoundDevices::of(devices))
    };
    match patiently(asked, look) {
        Ok(Ok(devices)) => Ok(devices),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Err(Unknown::Gone),
        Ok(Err(error)) => Err(Unknown::Reason(format!("its descriptors cannot be listed: {error}"))),
        Err(reason) => Err(Unknown::Reason(reason)),
    }
}

/// Writes the devices of a guest, a line each.
pub(super) fn write_all(
    FoundDevices { all, left_out, .. }: &FoundDevices,
    line: &mut impl FnMut(&str, &str, &str),
) {
    all.iter().for_each(|device| write(device, line));
    if *left_out > 0 {
        line("devices", "…", &format!("{left_out} more"));
    }
}

/// Writes a device as a line with what it is, what it is called, and where it is seen.
fn write(device: &Attached, line: &mut impl FnMut(&str, &str, &str)) {
    let Attached { kind, path, seen_at, unseen } = device;
    let why = unseen.map(|why| UNSEEN[why as usize].help.trim_end_matches('.'));
    let seen = match (&**seen_at, why) {
        ([name], None) if *kind == AttachedKind::Network && name == path => "counted".to_owned(),
        ([], Some(why)) => format!("not counted. {why}"),
        ([], None) => "not counted".to_owned(),
        (disks, None) => format!("counted at {}", disks.join(", ")),
        (disks, Some(why)) => format!("counted at {}; a part is not. {why}", disks.join(", ")),
    };
    // A part of it is what the host calls its disks.
    let seen = terminal::printable(&seen);
    line(ATTACHED_KINDS[*kind as usize].key, path, &seen);
}

/// A device in JSON.
#[derive(Serialize)]
pub(super) struct DeviceJson<'a> {
    kind: &'static str,
    path: &'a str,
    seen_at: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<&'static str>,
}

impl<'a> DeviceJson<'a> {
    pub(super) fn of(device: &'a Attached) -> Self {
        let Attached { kind, path, seen_at, unseen } = device;
        Self {
            kind: ATTACHED_KINDS[*kind as usize].key,
            path,
            seen_at,
            unseen: unseen.map(|why| UNSEEN[why as usize].key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unseen;

    fn line(kind: AttachedKind, seen_at: &[&str], unseen: Option<Unseen>) -> String {
        let seen_at = seen_at.iter().map(ToString::to_string).collect();
        let mut text = String::new();
        write(&Attached { kind, path: "x".to_owned(), seen_at, unseen }, &mut |what, path, seen| {
            text = format!("{what} {path} ({seen})");
        });
        text
    }

    #[test]
    fn a_line_says_where_a_device_is_seen_or_why_not() {
        let disk = AttachedKind::Disk;
        assert_eq!(line(disk, &["sda", "sdb"], None), "disk x (counted at sda, sdb)");
        assert_eq!(line(AttachedKind::Network, &["x"], None), "network x (counted)");
        let passed = line(AttachedKind::Passthrough, &[], Some(Unseen::PassedThrough));
        assert_eq!(passed, "passthrough x (not counted. The guest drives it by itself (VFIO))");
        let part = line(disk, &["sda"], Some(Unseen::NoRequests));
        assert!(part.starts_with("disk x (counted at sda; a part is not. The device makes"), "{part}");
    }

    #[test]
    fn guests_in_one_control_group_have_none_to_themselves() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(std::process::id().to_string());
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("mountinfo"), "36 24 0:30 / /none rw - cgroup cgroup rw,blkio\n").unwrap();
        let guests =
            [(7, "/a.scope"), (8, "/b.scope"), (9, "/b.scope"), (10, "/c.slice")].map(|(pid, group)| {
                let process = root.path().join(pid.to_string());
                std::fs::create_dir_all(&process).unwrap();
                std::fs::write(process.join("cgroup"), format!("6:blkio:{group}\n")).unwrap();
                GuestProcess { pid, start_boottime_ns: 0, vcpu_ids: Vec::new() }
            });
        let owners = Owners::of(&ProcFs::at(root.path()), &guests);
        assert_eq!([7, 8, 9, 10, 11].map(|pid| owners.is_alone(pid)), [true, false, false, false, false]);
    }
}
