//! Devices that another process serves from the guest's memory. No descriptor says so: to the kernel they are
//! sockets. So the command line is asked, as far as the device was there when the guest began.

use crate::model::{Attached, AttachedKind, Unseen};

/// Devices that are taken from one command line.
const MAX: usize = 256;

/// Longest name of a device.
const MAX_NAME: usize = 64;

/// The devices that the options of a VMM call so: `-device vhost-user-blk-pci,...`, `-netdev vhost-user,...`,
/// `--disk vhost_user=on,socket=...`.
#[must_use]
pub fn devices(args: &[Vec<u8>]) -> Vec<Attached> {
    let pairs = args.windows(2).skip(1);
    pairs.filter_map(|pair| device(&pair[0], &String::from_utf8_lossy(&pair[1]))).take(MAX).collect()
}

fn device(option: &[u8], value: &str) -> Option<Attached> {
    let option = String::from_utf8_lossy(option);
    let words = value.split([',', '"']);
    let is_ours = |word: &str| word.starts_with("vhost-user") || word.starts_with("type=vhost-user");
    let name =
        match option.trim_start_matches('-') {
            "device" | "netdev" => words.clone().find(|word| is_ours(word))?.trim_start_matches("type="),
            "disk" | "net"
                if words.clone().any(|word| matches!(word, "vhost_user=on" | "vhost_user=true")) =>
            {
                if option.ends_with("net") { "vhost-user-net" } else { "vhost-user-blk" }
            }
            "fs" if words.clone().any(|word| word.starts_with("socket=")) => "vhost-user-fs",
            _ => return None,
        };
    let kind = if name.starts_with("vhost-user-net") || name == "vhost-user" {
        AttachedKind::Network
    } else if ["vhost-user-blk", "vhost-user-scsi", "vhost-user-fs"].iter().any(|disk| name.starts_with(disk))
    {
        AttachedKind::Disk
    } else {
        // Sound, input and the like.
        return None;
    };
    let id = words.clone().find_map(|word| word.strip_prefix("id=")).unwrap_or_default();
    let path: String = format!("{name} {id}").trim_end().chars().take(MAX_NAME).collect();
    Some(Attached { kind, path, seen_at: Vec::new(), unseen: Some(Unseen::VhostUser) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<(AttachedKind, String)> {
        let args: Vec<_> = line.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
        devices(&args).into_iter().map(|device| (device.kind, device.path)).collect()
    }

    #[test]
    fn options_of_qemu() {
        let found = of("qemu -chardev socket,id=c,path=/s -device vhost-user-blk-pci,chardev=c,id=d1 \
             -netdev type=vhost-user,id=n1,chardev=x -netdev vhost-user,id=n2 -netdev tap,id=n3 \
             -device {\"driver\":\"vhost-user-fs-pci\"} -device vhost-user-snd -append vhost-user-blk");
        assert_eq!(
            found,
            [
                (AttachedKind::Disk, "vhost-user-blk-pci d1".to_owned()),
                (AttachedKind::Network, "vhost-user n1".to_owned()),
                (AttachedKind::Network, "vhost-user n2".to_owned()),
                (AttachedKind::Disk, "vhost-user-fs-pci".to_owned()),
            ]
        );
    }

    #[test]
    fn options_of_cloud_hypervisor() {
        let found =
            of("cloud-hypervisor --disk path=/a --disk vhost_user=true,socket=/s --net vhost_user=on \
             --net tap=t --fs tag=a,socket=/b");
        let paths: Vec<_> = found.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["vhost-user-blk", "vhost-user-net", "vhost-user-fs"]);
    }

    #[test]
    fn names_that_never_end_are_cut() {
        let args = [b"q".to_vec(), b"-device".to_vec(), format!("vhost-user-blk{}", "x".repeat(9000)).into()];
        assert_eq!(devices(&args)[0].path.len(), MAX_NAME);
        assert!(devices(&[]).is_empty());
    }
}
