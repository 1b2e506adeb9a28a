//! KubeVirt: QEMU in a pod, under a name that is the guest's namespace and its own.

use super::{GuestIdentity, Look, ProcessFacts, kubernetes, qemu, qemu::Options};
use crate::model::Fact;

const FROM: &str = "command line, -name NAMESPACE_NAME";

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    qemu::is_program_of(facts)?;
    if !kubernetes::is_in_pod(facts) {
        return None;
    }
    let options = Options::parse(&facts.args);
    // Neither may have an underscore.
    let (namespace, name) = options.name.as_deref()?.split_once('_')?;
    if namespace.is_empty() || name.is_empty() || name.contains('_') {
        return None;
    }
    let identity = GuestIdentity::of("kubevirt", kubernetes::GROUP)
        .with(Fact::Namespace, Some(namespace), FROM)
        .with(Fact::Name, Some(name), FROM);
    Some(options.identity(identity))
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    const UUID: &str = "5d307ca9-b3ef-428c-8861-06e72d69f223";
    const POD: &str = "b0a1f9c3-7d55-4e0f-93a4-6a1f2c8d7e60";

    fn guest(name: &str) -> Host {
        Host::new(88, "qemu-kvm", &["/usr/libexec/qemu-kvm", "-name", name, "-uuid", UUID])
            .cgroup(&format!("/kubepods.slice/kubepods-pod{}.slice/crio-0a.scope", POD.replace('-', "_")))
            .dir(&format!("var/log/pods/shop_virt-launcher-web-x7k2p_{POD}"))
    }

    #[test]
    fn a_guest_has_its_namespace_and_its_pod() {
        assert_found(
            &guest("guest=shop_web,debug-threads=on").identify(),
            &[
                ("platform", "kubevirt", kubernetes::GROUP),
                ("name", "web", FROM),
                ("uuid", UUID, "command line, -uuid"),
                ("namespace", "shop", "kubelet's directory of logs"),
                ("pod", "virt-launcher-web-x7k2p", "kubelet's directory of logs"),
                ("pod_uid", POD, kubernetes::GROUP),
            ],
        );
    }

    #[test]
    fn kubelet_knows_the_namespace_better_than_the_command_line() {
        let identity = guest("billing_db").identify();
        assert_eq!(&*identity.get(Fact::Namespace).unwrap().value, "shop");
    }

    #[test]
    fn another_qemu_is_none_of_kubevirts() {
        for name in ["web", "_web", "shop_", "a_b_c"] {
            assert_eq!(&*guest(name).identify().get(Fact::Platform).unwrap().value, "qemu", "{name}");
        }
        let elsewhere = guest("shop_web").without_cgroups().identify();
        assert_eq!(&*elsewhere.get(Fact::Platform).unwrap().value, "qemu");
    }
}
