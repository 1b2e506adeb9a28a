//! libvirt: the scope that it puts QEMU into, and the status file that it keeps of each domain that runs.
//! libvirtd itself is not asked: it may hang, and its answer costs it work.
//!
//! The status file is believed where it names the very process. Its name is the domain's, which QEMU has on
//! its command line; so a process that borrows a name finds a file that is not its own.

use super::{
    Area, GuestIdentity, Look, ProcessFacts, cgroup,
    openstack::Instance,
    qemu::{self, Options},
    text::{text, uuid},
    xml::{self, Node},
};
use crate::model::Fact;

const STATUS: &str = "libvirt's status file";
const SCOPE: &str = "control group of libvirt";

pub(super) fn identify(facts: &ProcessFacts, files: &Look<'_>) -> Option<GuestIdentity> {
    let scope = cgroup::components(facts).find_map(domain_of_scope);
    if scope.is_none() && qemu::is_program_of(facts).is_none() {
        return None;
    }
    let options = Options::parse(&facts.args);
    let name = options.name.clone().or_else(|| text(scope.as_deref()?));
    let trouble = match name.map_or(Ok(None), |name| Status::read(files, &name, facts.pid)) {
        Ok(Some(status)) => return Some(options.identity(status.identity())),
        Ok(None) => "run/libvirt/qemu: has no status file of this process".to_owned(),
        Err(trouble) => trouble,
    };
    // Without the scope this is no guest of libvirt's, whoever else has its name.
    let scope = scope?;
    let identity = options.identity(GuestIdentity::of("libvirt", SCOPE));
    Some(identity.or(Fact::Name, Some(scope), SCOPE).with_trouble(trouble))
}

/// The domain of a scope's name, as in `machine-qemu\x2d3\x2dweb.scope`. It may lack characters, and its end:
/// names of machines are plain and short. Without systemd a group has the name `qemu-3-web.libvirt-qemu`.
fn domain_of_scope(group: &str) -> Option<Vec<u8>> {
    let scope = group.strip_prefix("machine-").and_then(|machine| machine.strip_suffix(".scope"));
    let machine = cgroup::unescape(scope.or_else(|| group.strip_suffix(".libvirt-qemu"))?);
    let domain = match (machine.strip_prefix(b"qemu-"), scope) {
        (Some(domain), _) => domain,
        // Up to version 1.2 libvirt put no driver before it.
        (None, None) => &machine,
        (None, Some(_)) => return None,
    };
    let number = domain.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let name = domain[number..].strip_prefix(b"-").filter(|_| number > 0).unwrap_or(domain);
    (!name.is_empty()).then(|| name.to_vec())
}

/// What the status file says.
#[derive(Default)]
struct Status {
    pid: Option<String>,
    name: Option<String>,
    uuid: Option<String>,
    instance: Instance,
}

impl Status {
    /// The status of the domain with this name, where this process runs it.
    fn read(files: &Look<'_>, name: &str, pid: u32) -> Result<Option<Self>, String> {
        let file = format!("{name}.xml");
        let content = files.read(Area::Libvirt, &[&file]).map_err(|error| error.to_string())?;
        let Some(content) = content else { return Ok(None) };
        let status = Self::parse(&String::from_utf8_lossy(&content));
        let status = status.map_err(|error| format!("run/libvirt/qemu/{file}: {error}"))?;
        Ok(Some(status).filter(|status| status.pid.as_deref() == Some(&pid.to_string())))
    }

    fn parse(document: &str) -> Result<Self, xml::XmlError> {
        let mut status = Self::default();
        xml::walk(document, |path, node| match (path, &node) {
            (["domstatus"], Node::Begin(domstatus)) => status.pid = domstatus.attribute("pid"),
            (["domstatus", "domain", "name"], Node::Text(name)) => status.name = Some((*name).to_owned()),
            (["domstatus", "domain", "uuid"], Node::Text(found)) => status.uuid = uuid(found.as_bytes()),
            (["domstatus", "domain", "metadata", path @ ..], node) => status.instance.visit(path, node),
            _ => {}
        })?;
        Ok(status)
    }

    fn identity(self) -> GuestIdentity {
        let Self { name, uuid, instance, .. } = self;
        let plain = || GuestIdentity::of("libvirt", STATUS).with(Fact::Name, name.as_deref(), STATUS);
        instance.identity(name.as_deref(), STATUS).unwrap_or_else(plain).with(Fact::Uuid, uuid, STATUS)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    const NAME: &str = "command line, -name";
    const UUID: &str = "9c3d7e0a-4f1b-4d2c-8a57-1f0e6b2d9c41";

    #[test]
    fn scopes_name_their_domain() {
        for (group, domain) in [
            ("machine-qemu\\x2d12\\x2dweb\\x2d01.scope", Some("web-01")),
            ("machine-qemu\\x2d1\\x2d2\\x2dweb.scope", Some("2-web")),
            ("machine-qemu\\x2dweb.scope", Some("web")),
            ("machine-qemu\\x2d7.scope", Some("7")),
            ("machine-lxc\\x2d7\\x2dweb.scope", None),
            ("machine-.scope", None),
            ("qemu-3-web.libvirt-qemu", Some("web")),
            ("web.libvirt-qemu", Some("web")),
            ("web.libvirt-lxc", None),
            ("libvirt", None),
        ] {
            let found = domain_of_scope(group);
            assert_eq!(found.as_deref().map(String::from_utf8_lossy).as_deref(), domain, "{group}");
        }
    }

    fn libvirt(pid: u32) -> Host {
        let status = format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n\
             <domstatus state='running' reason='booted' pid='{pid}'>\n  <vcpus><vcpu id='0' pid='7'/></vcpus>\n  \
             <domain type='kvm' id='3'>\n    <name>a &amp; b</name>\n    <uuid>{UUID}</uuid>\n    <title>x</title>\n    \
             <devices><disk><name>no</name></disk></devices>\n  </domain>\n</domstatus>\n"
        );
        let scope = "/machine.slice/machine-qemu\\x2d3\\x2dab.scope/libvirt/emulator";
        Host::new(
            4711,
            "qemu-system-x86_64",
            &["/usr/bin/qemu-system-x86_64", "-name", "guest=a & b,debug-threads=on"],
        )
        .cgroup(scope)
        .file("run/libvirt/qemu/a & b.xml", status)
    }

    #[test]
    fn the_status_file_names_a_domain() {
        assert_found(
            &libvirt(4711).identify(),
            &[("platform", "libvirt", STATUS), ("name", "a & b", STATUS), ("uuid", UUID, STATUS)],
        );
    }

    #[test]
    fn the_status_file_of_another_process_is_not_believed() {
        let identity = libvirt(4712).identify();
        assert_found(&identity, &[("platform", "libvirt", SCOPE), ("name", "a & b", NAME)]);
        assert_eq!(identity.trouble(), Some("run/libvirt/qemu: has no status file of this process"));
        let by_hand = libvirt(4712).without_cgroups().identify();
        assert_found(&by_hand, &[("platform", "qemu", "program name"), ("name", "a & b", NAME)]);
        assert_eq!(by_hand.trouble(), None);
    }

    #[test]
    fn without_a_readable_status_file_the_command_line_and_the_scope_speak() {
        for hostile in [
            "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><domstatus pid='4711'>&a;</domstatus>".to_owned(),
            "<domstatus pid='4711'><domain>".to_owned() + &"<a>".repeat(100_000),
            "<domstatus pid='4711'></domain>".to_owned(),
            "x".repeat(10 << 20),
        ] {
            let identity = libvirt(4711).file("run/libvirt/qemu/a & b.xml", &hostile).identify();
            assert_found(&identity, &[("platform", "libvirt", SCOPE), ("name", "a & b", NAME)]);
            assert!(identity.trouble().unwrap().contains("a & b.xml: "), "{:?}", identity.trouble());
        }
        let fifo = libvirt(4711).fifo("run/libvirt/qemu/a & b.xml").identify();
        assert!(fifo.trouble().unwrap().ends_with("is no regular file"));
        let nameless = libvirt(4711).args(&["/usr/bin/qemu-system-x86_64"]).identify();
        assert_found(&nameless, &[("platform", "libvirt", SCOPE), ("name", "ab", SCOPE)]);
    }

    #[test]
    fn names_stay_what_they_are() {
        let status = "<domstatus pid='4711'><domain><name>\u{1b}[2J&#10;</name></domain></domstatus>";
        let identity = libvirt(4711).file("run/libvirt/qemu/a & b.xml", status).identify();
        assert_eq!(&*identity.get(Fact::Name).unwrap().value, "\u{1b}[2J\n");
        let invalid =
            [b"<domstatus pid='4711'><domain><name>\xff</name></domain></domstatus>".as_slice()].concat();
        let identity = libvirt(4711).file("run/libvirt/qemu/a & b.xml", invalid).identify();
        assert_eq!(&*identity.get(Fact::Name).unwrap().value, "\u{fffd}");
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_directory() {
        let host = libvirt(4711).args(&["qemu-system-x86_64", "-name", "../../../etc/x"]);
        let status = "<domstatus pid='4711'><domain><name>evil</name></domain></domstatus>";
        let identity = host.file("etc/x.xml", status).identify();
        assert_eq!(&*identity.get(Fact::Name).unwrap().value, "../../../etc/x");
    }

    #[test]
    fn nova_names_an_instance() {
        let metadata = "<metadata>\n<nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\">\n\
                        <nova:package version=\"29.2.1\"/>\n<nova:name>shop &lt;1&gt;</nova:name>\n\
                        <nova:creationTime>2026-03-01 10:11:12</nova:creationTime>\n\
                        <nova:flavor name=\"m1.small\" id=\"2\"><nova:memory>2048</nova:memory></nova:flavor>\n\
                        <nova:owner><nova:user uuid=\"1\">eve</nova:user>\n\
                        <nova:project uuid=\"c0ffee00c0ffee00c0ffee00c0ffee00\">shop</nova:project></nova:owner>\n\
                        <nova:ports><nova:port uuid=\"3\"/></nova:ports></nova:instance></metadata>";
        let status = format!(
            "<domstatus state='running' reason='booted' pid='4711'><domain type='kvm' id='3'>\
             <name>instance-0000001a</name><uuid>{UUID}</uuid>{metadata}</domain></domstatus>"
        );
        let host = libvirt(4711).args(&["qemu-kvm", "-name", "guest=instance-0000001a"]);
        let nova = "nova's metadata in libvirt's status file";
        assert_found(
            &host.file("run/libvirt/qemu/instance-0000001a.xml", status).identify(),
            &[
                ("platform", "openstack", nova),
                ("name", "shop <1>", nova),
                ("uuid", UUID, STATUS),
                ("domain", "instance-0000001a", STATUS),
                ("project", "shop", nova),
                ("project_id", "c0ffee00c0ffee00c0ffee00c0ffee00", nova),
                ("flavor", "m1.small", nova),
            ],
        );
    }
}
