//! Kata Containers: a guest for each pod, run by QEMU, Cloud Hypervisor, Firecracker, or by the shim itself.
//!
//! Each of them is given paths below a directory that has the sandbox's id for its name. The pod stands in
//! the bundle of the sandbox, which the container runtime wrote: only by a setting of Kata's the VMM is in
//! the pod's control group. The bundle names no process; so only the paths of Kata's own sockets are
//! believed, of programs that Kata starts, and no bundle of another pod than the control group's.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Area, FileError, GuestIdentity, Look, ProcessFacts, kubernetes, options, program_is};
use crate::model::Fact;

const PATH: &str = "command line, path of the sandbox";
const SHIM: &str = "command line, -id";
const BUNDLE: &str = "bundle of the sandbox";

/// Directories of Kata's that have one for each sandbox.
const SANDBOXES: [&[u8]; 3] = [b"/run/vc/vm/", b"/run/vc/firecracker/", b"/run/kata/"];

/// Options of its VMMs with the path of a socket of Kata's. Others, as the kernel's command line, have text
/// that whoever owns the guest chose.
const SOCKETS: [&[u8]; 4] = [b"-qmp", b"-chardev", b"--api-sock", b"--api-socket"];

/// What the container runtimes call what a pod is called.
const ANNOTATIONS: [(Fact, [&str; 2]); 3] = [
    (Fact::Namespace, ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
    (Fact::Pod, ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
    (Fact::PodUid, ["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
];

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

pub(super) fn identify(facts: &ProcessFacts, files: &Look<'_>) -> Option<GuestIdentity> {
    let by_path = || Some((sandbox_of_socket(facts)?, PATH));
    let (sandbox, from) = sandbox_of_shim(facts).map(|id| (id, SHIM)).or_else(by_path)?;
    let identity = GuestIdentity::of("kata", from).with(Fact::Sandbox, Some(&sandbox), from);
    let identity = match annotations(files, &sandbox) {
        Ok(Some(annotations)) if is_of_another_pod(&annotations, facts) => identity,
        Ok(Some(annotations)) => ANNOTATIONS.iter().fold(identity, |identity, (fact, keys)| {
            identity.with(*fact, keys.iter().find_map(|key| annotations.get(*key)), BUNDLE)
        }),
        // Not of Kubernetes: `ctr` or nerdctl started it.
        Ok(None) => identity,
        Err(trouble) => identity.with_trouble(trouble),
    };
    let pod = identity.get(Fact::Pod).map(|pod| pod.value.clone());
    let (name, from) = pod.as_deref().map_or((&*sandbox, from), |pod| (pod, BUNDLE));
    Some(identity.with(Fact::Name, Some(name), from))
}

/// Some VMMs are a library inside the shim.
fn sandbox_of_shim(facts: &ProcessFacts) -> Option<String> {
    program_is(facts, |program| program.starts_with(b"containerd-shim-kata"))?;
    plain(options::value(&facts.args, "-id")?)
}

/// Of a program that Kata starts.
fn sandbox_of_socket(facts: &ProcessFacts) -> Option<String> {
    let is_vmm = |program: &[u8]| {
        program.starts_with(b"qemu-")
            || [&b"cloud-hypervisor"[..], b"firecracker", b"stratovirt"].contains(&program)
    };
    program_is(facts, is_vmm)?;
    let args = facts.args.iter().map(Vec::as_slice);
    let mut values = args.clone().zip(args.skip(1)).filter(|(option, _)| SOCKETS.contains(option));
    values.find_map(|(_, value)| sandbox_of_path(value))
}

/// Whether a bundle is of another pod than the one that kubelet has put the process into.
fn is_of_another_pod(annotations: &BTreeMap<String, String>, facts: &ProcessFacts) -> bool {
    let [.., (_, uids)] = ANNOTATIONS;
    let said = uids.iter().find_map(|key| annotations.get(*key));
    kubernetes::uid_of(facts).is_some_and(|own| said.is_none_or(|said| *said != own))
}

fn sandbox_of_path(arg: &[u8]) -> Option<String> {
    SANDBOXES.iter().find_map(|dir| {
        let at = arg.windows(dir.len()).position(|window| window == *dir)? + dir.len();
        plain(arg[at..].split(|&byte| byte == b'/').next()?)
    })
}

/// An id as the container runtimes let through.
fn plain(id: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!id.is_empty() && id.len() <= 128 && id.iter().all(is_plain))
        .then(|| String::from_utf8_lossy(id).into_owned())
}

/// What the runtime noted of the sandbox: containerd, or CRI-O.
fn annotations(files: &Look<'_>, sandbox: &str) -> Result<Option<BTreeMap<String, String>>, String> {
    let words = |error: FileError| error.to_string();
    let bundle = match files.read(Area::Containerd, &[sandbox, "config.json"]).map_err(words)? {
        None => files.read(Area::Crio, &[sandbox, "userdata", "config.json"]).map_err(words)?,
        found => found,
    };
    let Some(bundle) = bundle else { return Ok(None) };
    let bundle: Bundle = serde_json::from_slice(&bundle)
        .map_err(|error| format!("config.json of sandbox {sandbox}: {error}"))?;
    Ok(Some(bundle.annotations))
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    const ID: &str = "2415e1bffd9fe0fe0ab088bd64c510572311393b21ddfa63e31f73ade7102ffe";
    const UID: &str = "2681cb7f-daa4-4620-bb60-1d449709181c";

    fn qemu() -> Host {
        let (name, qmp) = (
            format!("sandbox-{ID},debug-threads=on"),
            format!("unix:/run/vc/vm/{ID}/qmp.sock,server=on,wait=off"),
        );
        Host::new(
            5,
            "qemu-system-x86_64",
            &["/opt/kata/bin/qemu-system-x86_64", "-name", &name, "-qmp", &qmp],
        )
        .cgroup("/system.slice/containerd.service")
    }

    fn bundle(keys: [&str; 3]) -> String {
        let [namespace, pod, uid] = keys;
        format!(
            r#"{{"ociVersion":"1.1.0","process":{{"args":["/pause"]}},"annotations":
               {{"{namespace}":"shop","{pod}":"web-0","{uid}":"{UID}","other":"x"}}}}"#
        )
    }

    #[test]
    fn the_bundle_names_the_pod() {
        let keys = |n: usize| ANNOTATIONS.map(|(_, keys)| keys[n]);
        let containerd = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json");
        let crio = format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json");
        for host in [qemu().file(&containerd, bundle(keys(0))), qemu().file(&crio, bundle(keys(1)))] {
            assert_found(
                &host.identify(),
                &[
                    ("platform", "kata", PATH),
                    ("name", "web-0", BUNDLE),
                    ("namespace", "shop", BUNDLE),
                    ("pod", "web-0", BUNDLE),
                    ("pod_uid", UID, BUNDLE),
                    ("sandbox", ID, PATH),
                ],
            );
        }
        let hostile = qemu().file(&containerd, "[".repeat(100_000)).identify();
        assert_found(&hostile, &[("platform", "kata", PATH), ("name", ID, PATH), ("sandbox", ID, PATH)]);
        assert!(hostile.trouble().unwrap().starts_with(&format!("config.json of sandbox {ID}: ")));
    }

    #[test]
    fn each_vmm_of_kata_has_the_sandbox_in_its_paths() {
        let clh = format!("/run/vc/vm/{ID}/clh-api.sock");
        let jailed = format!("/run/vc/firecracker/{ID}/root/run/firecracker.socket");
        for (program, option, path) in [
            ("cloud-hypervisor", "--api-socket", &*clh),
            ("firecracker", "--api-sock", &jailed),
            ("qemu-system-x86_64", "-chardev", &format!("socket,path=/run/kata/{ID}/console.sock")),
        ] {
            let identity = Host::new(5, program, &[program, option, path]).identify();
            assert_found(&identity, &[("platform", "kata", PATH), ("name", ID, PATH), ("sandbox", ID, PATH)]);
        }
        let args = ["containerd-shim-kata-v2", "-namespace", "k8s.io", "-id", ID];
        let identity = Host::new(5, "containerd-shim-kata-v2", &args).identify();
        assert_found(&identity, &[("platform", "kata", SHIM), ("name", ID, SHIM), ("sandbox", ID, SHIM)]);
    }

    #[test]
    fn what_a_guests_owner_writes_makes_it_no_guest_of_kata() {
        let append = format!("console=ttyS0 /run/vc/vm/{ID}/x");
        let args = ["qemu-system-x86_64", "-name", "web", "-append", &append];
        let platform = |host: Host| host.identify().get(Fact::Platform).unwrap().value.to_string();
        assert_eq!(platform(Host::new(5, "qemu-system-x86_64", &args)), "qemu");
        let qmp = format!("unix:/run/vc/vm/{ID}/qmp.sock");
        assert_eq!(platform(Host::new(5, "my-vmm", &["my-vmm", "-qmp", &qmp])), "unknown");
    }

    #[test]
    fn a_bundle_of_another_pod_than_the_control_groups_is_not_believed() {
        let keys = ANNOTATIONS.map(|(_, keys)| keys[0]);
        let containerd = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json");
        let own = "5f0b2c1d-3a44-4f6e-8a5e-0d9c7b6a5e4f";
        let host = qemu().without_cgroups().cgroup(&format!("/kubepods/besteffort/pod{own}/0a1b"));
        let identity = host.file(&containerd, bundle(keys)).identify();
        assert_eq!(&*identity.get(Fact::PodUid).unwrap().value, own);
        assert_eq!(identity.get(Fact::Pod), None);
    }

    #[test]
    fn what_is_no_id_names_no_sandbox() {
        for path in
            ["/run/vc/vm/", "/run/vc/vm//x", "/run/vc/vm/a b/x", "/run/vc/vm", &"/run/vc/vm/a".repeat(99)]
        {
            let found = sandbox_of_path(path.as_bytes());
            assert!(found.as_deref().is_none_or(|id| id == "a"), "{path}: {found:?}");
        }
        assert_eq!(sandbox_of_path(&[b"/run/vc/vm/".as_slice(), &[b'x'; 129]].concat()), None);
    }
}
