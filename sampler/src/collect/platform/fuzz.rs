//! Command lines, control groups and platforms' files, as somebody wrote them who owns a guest.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{
    Files, GuestIdentity, MAX_TEXT, cgroup, identify, uuid,
    xml::{Node, walk},
};
use crate::{
    collect::{attached::served_elsewhere, procfs::ProcFs},
    fuzzing::{Memory, Target, parts},
    kernel::Root,
    model::Fact,
};

const PROCESS: Target = Target {
    name: "process",
    words: &[
        "\n====\n",
        "\0-name\0",
        "guest=",
        ",debug-threads=on",
        "\0-uuid\0",
        "\0-smbios\0type=1,uuid=",
        "\0--id=",
        "\0--platform\0uuid=",
        "\0-qmp\0unix:/run/vc/vm/",
        "\0-device\0vhost-user-blk-pci,id=",
        "0::/machine.slice/machine-qemu\\x2d1\\x2dweb.scope\n",
        "0::/qemu.slice/100.scope\n",
        "/kubepods.slice/kubepods-pod",
        "/firecracker/",
        "/user.slice",
        "\\x2d",
        "\\x",
        "\u{1b}[2J",
        "\u{202e}",
        "qemu-system-x86_64",
        "cloud-hypervisor",
        "firecracker",
        "crosvm",
        "lkvm",
        "runsc",
        "containerd-shim-kata-v2",
    ],
    inputs: 1_200,
    // A status file and what is found in it, arguments with what is kept of each.
    memory: Memory { fixed: 1 << 20, each: 64 },
};

const PID: u32 = 7;
const START_NS: u64 = 50_000_000;
const SANDBOX: &str = "c0ffee";

/// The files of a host with one process: its program, its command line, its control groups, and what
/// platforms keep of it: libvirt's status file, a configuration of Proxmox VE, a bundle.
fn write(root: &Path, input: &[u8]) {
    let [exe, cmdline, groups, status, configuration, bundle] = parts(input);
    let put = |path: &str, content: &[u8]| fs::write(root.join(path), content).unwrap();
    put("proc/7/cmdline", cmdline);
    put("proc/7/cgroup", groups);
    put("run/libvirt/qemu/web.xml", status);
    put("etc/pve/qemu-server/100.conf", configuration);
    put(&format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{SANDBOX}/config.json"), bundle);
    let link = root.join("proc/7/exe");
    let _ = fs::remove_file(&link);
    // A path that is none, or longer than paths are, is no program.
    if let Ok(exe) = str::from_utf8(exe) {
        let _ = symlink(exe, link);
    }
}

fn prepared() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let bundle = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{SANDBOX}");
    for directory in ["proc/7", "run/libvirt/qemu", "etc/pve/qemu-server", &bundle] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let stat = "7 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0";
    fs::write(root.path().join("proc/7/stat"), stat).unwrap();
    root
}

fn judge(identity: &GuestIdentity) {
    assert!(identity.get(Fact::Platform).is_some());
    for (row, found) in identity.iter() {
        assert!(
            !found.value.is_empty() && found.value.len() <= MAX_TEXT,
            "{}: {}",
            row.key,
            found.value.len()
        );
    }
    if let Some(found) = identity.get(Fact::Uuid) {
        assert_eq!(uuid(found.value.as_bytes()).as_deref(), Some(&*found.value));
    }
}

#[test]
fn process() {
    let root = prepared();
    let proc = ProcFs::at(root.path().join("proc"));
    let files = Files::below(Root::at(root.path()));
    PROCESS.check(&[], |input| {
        write(root.path(), input);
        let facts = proc.facts(PID, START_NS).unwrap();
        let identity = identify(&facts, &files);
        judge(&identity);
        assert!(served_elsewhere(&facts.args).len() <= 256);
    });
}

const XML: Target = Target {
    name: "xml",
    words: &[
        "<domstatus pid='7'>",
        "<domain type='kvm'>",
        "<name>",
        "</name>",
        "<uuid>",
        "<metadata>",
        "<nova:owner>",
        "<a>",
        "</a>",
        "<a b='c'/>",
        "<!DOCTYPE a [",
        "<!ENTITY a \"&a;&a;\">",
        "&a;",
        "&#x1f600;",
        "&lt;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<?xml version='1.0'?>",
    ],
    inputs: 20_000,
    memory: Memory { fixed: 128 << 10, each: 16 },
};

#[test]
fn xml() {
    XML.check(&[], |input| {
        let document = String::from_utf8_lossy(input);
        let (mut begun, mut attributes) = (0, 0);
        let walked = walk(&document, |path, node| {
            assert!(!path.is_empty(), "an element has its own name");
            match node {
                Node::Begin(element) => {
                    begun += 1;
                    attributes += element.attribute("pid").map_or(0, |value| value.len());
                }
                Node::Text(text) => assert!(text.len() <= document.len(), "nothing is expanded"),
            }
        });
        assert!(begun <= document.len() / 2 && attributes <= document.len());
        assert!(walked.is_err() || !document.starts_with("<!DOCTYPE "), "it declares entities");
    });
}

const UNITS: Target =
    Target { name: "units", words: &["\\x2d", "\\x", "\\", "\\x5c"], inputs: 30_000, memory: Memory::SMALL };

/// A name as `systemd-escape` writes it.
fn escape(name: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.');
    let escaped = name.iter().map(|byte| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("\\x{byte:02x}"),
    });
    escaped.collect()
}

#[test]
fn units() {
    UNITS.check(&[], |input| {
        assert_eq!(*cgroup::unescape(&escape(input)), *input, "what was escaped is as it was");
        let unit = String::from_utf8_lossy(input);
        assert!(cgroup::unescape(&unit).len() <= unit.len(), "it grows");
    });
}
