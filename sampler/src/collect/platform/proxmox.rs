//! Proxmox VE: the scope that it puts QEMU into has the guest's number, and its configuration the name.
//!
//! The configuration has the name of now, where the command line has that of the guest's start. It lies on a
//! file system in user space that waits for the cluster at times; see [`super::Files`].

use super::{Area, GuestIdentity, Look, ProcessFacts, cgroup, qemu::Options};
use crate::model::Fact;

const SCOPE: &str = "control group of Proxmox VE";
const CONFIGURATION: &str = "configuration of Proxmox VE";

pub(super) fn identify(facts: &ProcessFacts, files: &Look<'_>) -> Option<GuestIdentity> {
    let vmid = cgroup::paths(facts).find_map(vmid)?;
    let identity = GuestIdentity::of("proxmox", SCOPE).with(Fact::Vmid, Some(vmid), SCOPE);
    let identity = match files.read(Area::Proxmox, &[&format!("{vmid}.conf")]) {
        Ok(Some(configuration)) => identity.with(Fact::Name, name(&configuration), CONFIGURATION),
        Ok(None) => identity.with_trouble(format!("etc/pve/qemu-server: has no {vmid}.conf")),
        Err(trouble) => identity.with_trouble(trouble.to_string()),
    };
    Some(Options::parse(&facts.args).identity(identity))
}

/// The number in `/qemu.slice/100.scope`. The slice is the host's: whoever has a group may make one of that
/// name below it. From inside of a group the host's paths begin with `/..`.
fn vmid(path: &str) -> Option<&str> {
    let scope = path.trim_start_matches("/..").strip_prefix("/qemu.slice/")?;
    let vmid = scope.split('/').next()?.strip_suffix(".scope")?;
    (!vmid.is_empty() && vmid.bytes().all(|byte| byte.is_ascii_digit())).then_some(vmid)
}

/// The name of now: what stands below a heading in brackets is of a snapshot, or pending.
fn name(configuration: &[u8]) -> Option<&[u8]> {
    let lines = configuration.split(|&byte| byte == b'\n').take_while(|line| !line.starts_with(b"["));
    lines.filter_map(|line| line.strip_prefix(b"name:")).next().map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    const UUID: &str = "0d4f6c1e-52a7-4c39-9b80-7e6a5d3c2b19";

    fn guest() -> Host {
        let smbios = format!("type=1,uuid={UUID}");
        let args = [
            "/usr/bin/kvm",
            "-id",
            "104",
            "-name",
            "old,debug-threads=on",
            "-no-shutdown",
            "-smbios",
            &smbios,
        ];
        Host::new(99, "qemu-system-x86_64", &args).cgroup("/qemu.slice/104.scope")
    }

    #[test]
    fn the_configuration_names_a_guest() {
        let configuration =
            "#a note\nagent: 1\ncores: 2\nname: web.example \nmemory: 2048\n\n[before]\nname: older\n";
        assert_found(
            &guest().file("etc/pve/qemu-server/104.conf", configuration).identify(),
            &[
                ("platform", "proxmox", SCOPE),
                ("name", "web.example", CONFIGURATION),
                ("uuid", UUID, "command line, -smbios type=1"),
                ("vmid", "104", SCOPE),
            ],
        );
    }

    #[test]
    fn without_it_the_command_line_does() {
        for (configuration, trouble) in
            [(None, Some("etc/pve/qemu-server: has no 104.conf")), (Some("[before]\nname: older"), None)]
        {
            let guest = match configuration {
                Some(configuration) => guest().file("etc/pve/qemu-server/104.conf", configuration),
                None => guest(),
            };
            let identity = guest.identify();
            assert_eq!(identity.get(Fact::Name).unwrap().from, "command line, -name");
            assert_eq!(identity.trouble(), trouble);
        }
    }

    #[test]
    fn only_the_slice_of_the_system_is_believed() {
        for path in [
            "/user.slice/qemu.slice/104.scope",
            "/system.slice/a.service/qemu.slice/104.scope",
            "/lxc/101/ns/qemu.slice/104.scope",
            "/qemu.slice/x.scope",
            "/qemu.slice",
            "/a/104.scope",
        ] {
            let identity = guest().without_cgroups().cgroup(path).identify();
            assert_eq!(&*identity.get(Fact::Platform).unwrap().value, "qemu", "{path}");
        }
        let from_inside = guest().without_cgroups().cgroup("/../../qemu.slice/104.scope").identify();
        assert_eq!(&*from_inside.get(Fact::Vmid).unwrap().value, "104");
    }
}
