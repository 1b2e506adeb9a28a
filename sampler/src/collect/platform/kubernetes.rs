//! The Kubernetes pod that a VMM runs in, whichever VMM it is: kubelet's control group has the pod's UID, and
//! its directory of logs the namespace and the name.

use super::{Area, GuestIdentity, Look, ProcessFacts, cgroup, text::uuid};
use crate::model::Fact;

pub(super) const GROUP: &str = "control group of kubelet";
const LOGS: &str = "kubelet's directory of logs";

/// The identity with the pod, where the process runs in one and nobody has said which. Kubelet knows the
/// namespace better than a command line.
pub(super) fn add_pod(identity: GuestIdentity, facts: &ProcessFacts, files: &Look<'_>) -> GuestIdentity {
    let Some(uid) = uid_of(facts) else { return identity };
    let identity = identity.or(Fact::PodUid, Some(&uid), GROUP);
    if identity.get(Fact::Pod).is_some() {
        return identity;
    }
    match files.find(Area::PodLogs, format!("_{uid}")) {
        Ok(Some(entry)) => {
            // Neither a namespace nor a pod may have an underscore.
            let mut parts = entry.splitn(3, |&byte| byte == b'_');
            let (namespace, pod) = (parts.next(), parts.next());
            identity.with(Fact::Namespace, namespace, LOGS).with(Fact::Pod, pod, LOGS)
        }
        Ok(None) => identity.with_hint(format!("var/log/pods: has no directory of pod {uid}")),
        Err(trouble) => identity.with_hint(trouble.to_string()),
    }
}

/// UID of the pod that kubelet has put the process into.
pub(super) fn uid_of(facts: &ProcessFacts) -> Option<String> {
    cgroup::paths(facts).find_map(pod_uid)
}

/// Whether kubelet started the process.
pub(super) fn is_in_pod(facts: &ProcessFacts) -> bool {
    uid_of(facts).is_some()
}

/// The UID in `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/...`, where hyphens
/// are underscores, or in `/kubepods/burstable/podUID/...`.
fn pod_uid(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| !part.contains("kubepods")).peekable();
    parts.peek()?;
    parts.find_map(|part| {
        let uid = match part.strip_suffix(".slice") {
            Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
            None => part.strip_prefix("pod")?.to_owned(),
        };
        // A static pod has a hash in place of a UUID.
        let is_hash = uid.len() == 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hash { Some(uid) } else { uuid(uid.as_bytes()) }
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    const UID: &str = "2681cb7f-daa4-4620-bb60-1d449709181c";

    #[test]
    fn the_uid_of_a_pod_is_in_its_group() {
        let systemd = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2681cb7f_daa4_4620_bb60_\
                       1d449709181c.slice/cri-containerd-0a1b.scope";
        let nested = format!(
            "/system.slice/d.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{}.slice/x",
            UID.replace('-', "_")
        );
        for (path, uid) in [
            (systemd, Some(UID)),
            (&nested, Some(UID)),
            (&format!("/kubepods/besteffort/pod{UID}/0a1b"), Some(UID)),
            ("/kubepods/pod0123456789abcdef0123456789abcdef/x", Some("0123456789abcdef0123456789abcdef")),
            (&format!("/machine.slice/pod{UID}/x"), None),
            ("/kubepods/podman/x", None),
            ("/kubepods.slice/kubepods-besteffort.slice", None),
            ("/", None),
        ] {
            assert_eq!(pod_uid(path).as_deref(), uid, "{path}");
        }
    }

    #[test]
    fn a_vmm_in_a_pod_has_the_pods_facts() {
        let host = Host::new(7, "my-vmm", &["my-vmm"]).cgroup(&format!("/kubepods/besteffort/pod{UID}/0a1b"));
        let in_pod = [("platform", "unknown", "program name"), ("pod_uid", UID, GROUP)];
        let identity = host.identify();
        assert_found(&identity, &in_pod);
        assert!(!identity.is_partial(), "what its platform has is whole");
        assert_eq!(identity.trouble(), Some(&*format!("var/log/pods: has no directory of pod {UID}")));
        let host = host.dir(&format!("var/log/pods/shop_web-0_{UID}"));
        assert_found(
            &host.identify(),
            &[
                ("platform", "unknown", "program name"),
                ("namespace", "shop", LOGS),
                ("pod", "web-0", LOGS),
                ("pod_uid", UID, GROUP),
            ],
        );
    }
}
