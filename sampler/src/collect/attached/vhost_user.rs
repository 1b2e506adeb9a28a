//! Devices that another process serves from the guest's memory. No descriptor says so: to the kernel they are
//! sockets. So the command line is asked, as far as the device was there when the guest began.

use crate::model::{Attached, AttachedKind, Unseen};

/// Devices that are taken from one command line.
const MAX: usize = 256;

/// Longest name of a device.
const MAX_NAME: usize = 64;

/// The devices that the options of a VMM call so: `-device vhost-user-blk-pci,...`, `-netdev vhost-user,...`,
/// `--disk path=... vhost_user=on,socket=...`. QEMU's may be JSON.
#[must_use]
pub fn devices(args: &[Vec<u8>]) -> Vec<Attached> {
    let (mut found, mut option) = (Vec::new(), String::new());
    for arg in args.iter().skip(1) {
        let text = String::from_utf8_lossy(arg);
        let value = if text.starts_with('-') {
            let (name, value) = text.split_once('=').unwrap_or((&*text, ""));
            name.trim_start_matches('-').clone_into(&mut option);
            value
        } else {
            &*text
        };
        found.extend(device(&option, value));
        if found.len() >= MAX {
            break;
        }
    }
    found
}

fn device(option: &str, value: &str) -> Option<Attached> {
    let words: Vec<&str> = value.split([',', '"', ':', '{', '}']).filter(|word| !word.is_empty()).collect();
    let is_ours = |word: &&&str| word.trim_start_matches("type=").starts_with("vhost-user");
    let is_served = words.iter().any(|word| matches!(*word, "vhost_user=on" | "vhost_user=true"));
    let name = match option {
        "device" | "netdev" => words.iter().find(is_ours)?.trim_start_matches("type="),
        "disk" if is_served => "vhost-user-blk",
        "net" if is_served => "vhost-user-net",
        "fs" if words.iter().any(|word| word.starts_with("socket=")) => "vhost-user-fs",
        _ => return None,
    };
    let kind = if name.starts_with("vhost-user-net") || name == "vhost-user" {
        AttachedKind::Network
    } else if ["blk", "scsi", "fs"]
        .iter()
        .any(|disk| name["vhost-user".len()..].starts_with(&format!("-{disk}")))
    {
        AttachedKind::Disk
    } else {
        // Sound, input and the like.
        return None;
    };
    let path = format!("{name} {}", called(&words).unwrap_or_default());
    let path = path.trim_end().chars().take(MAX_NAME).collect();
    Some(Attached { kind, path, seen_at: Vec::new(), unseen: Some(Unseen::VhostUser) })
}

/// What distinguishes a device from others of its kind: `id=...`, or in JSON the word after `id`; else its
/// socket.
fn called<'a>(words: &[&'a str]) -> Option<&'a str> {
    let of_key = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let after = || words.iter().position(|word| *word == "id").and_then(|at| words.get(at + 1)).copied();
    of_key("id=").or_else(after).or_else(|| of_key("socket="))
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
             -device {\"driver\":\"vhost-user-fs-pci\",\"id\":\"f1\"} -device vhost-user-snd -append vhost-user-blk");
        assert_eq!(
            found,
            [
                (AttachedKind::Disk, "vhost-user-blk-pci d1".to_owned()),
                (AttachedKind::Network, "vhost-user n1".to_owned()),
                (AttachedKind::Network, "vhost-user n2".to_owned()),
                (AttachedKind::Disk, "vhost-user-fs-pci f1".to_owned()),
            ]
        );
    }

    #[test]
    fn options_of_cloud_hypervisor() {
        let found = of("cloud-hypervisor --disk path=/a vhost_user=true,socket=/s vhost_user=on,socket=/t \
             --net=vhost_user=on --net tap=t --fs tag=a,socket=/b");
        let paths: Vec<_> = found.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["vhost-user-blk /s", "vhost-user-blk /t", "vhost-user-net", "vhost-user-fs /b"]);
    }

    #[test]
    fn names_that_never_end_are_cut() {
        let args = [b"q".to_vec(), b"-device".to_vec(), format!("vhost-user-blk{}", "x".repeat(9000)).into()];
        assert_eq!(devices(&args)[0].path.len(), MAX_NAME);
        assert!(devices(&[]).is_empty());
    }
}
