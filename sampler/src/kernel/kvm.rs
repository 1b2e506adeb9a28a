//! Whether KVM is there.

use super::{Root, check::CheckItem};

/// The module that knows the processor, where KVM is modular.
const VENDORS: [&str; 2] = ["kvm_intel", "kvm_amd"];

/// Can guests run here?
#[must_use]
pub fn check(root: &Root) -> CheckItem {
    const NAME: &str = "kvm";
    let vendors: Vec<_> =
        VENDORS.into_iter().filter(|module| root.path("sys/module").join(module).exists()).collect();
    match (root.path("dev/kvm").exists(), vendors.as_slice()) {
        (true, []) => CheckItem::ok(NAME, "/dev/kvm"),
        (true, vendors) => CheckItem::ok(NAME, format!("/dev/kvm, {}", vendors.join(", "))),
        (false, _) => CheckItem::warn(
            NAME,
            "no /dev/kvm: no KVM guest can be started here",
            "load kvm_intel or kvm_amd; where that fails, switch virtualisation on in the firmware",
        ),
    }
}

/// Whether KVM's own module is there, or built in: its tracepoints exist only then.
#[must_use]
pub fn is_loaded(root: &Root) -> bool {
    root.path("sys/module/kvm").exists()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::CheckStatus, fixture::FakeRoot},
        *,
    };

    #[test]
    fn kvm_is_loaded_where_its_module_is() {
        assert!(!is_loaded(&FakeRoot::new().root()));
        assert!(is_loaded(&FakeRoot::new().file("sys/module/kvm/refcnt", "0").root()));
    }

    #[test]
    fn kvm_is_its_device_node() {
        assert_eq!(check(&FakeRoot::new().root()).status, CheckStatus::Warn);
        let fake = FakeRoot::new().file("dev/kvm", "").file("sys/module/kvm_amd/refcnt", "0");
        assert_eq!(check(&fake.root()).detail, "/dev/kvm, kvm_amd");
    }
}
