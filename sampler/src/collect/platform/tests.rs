use proptest::prelude::*;

use super::{fixture::Host, *};

#[test]
fn a_name_may_have_any_characters_and_is_bounded() {
    let long = "x".repeat(128 << 10);
    let hostile = ["a\nb\u{1b}[2J\u{202e}", &long, "guest=\u{0},,\"'<>&"];
    for name in hostile {
        let host = Host::new(7, "qemu-system-x86_64", &["qemu", "-name", name, "-uuid", name]);
        let identity = host.identify();
        let value = &identity.get(Fact::Name).unwrap().value;
        assert!(!value.is_empty() && value.len() <= MAX_TEXT, "{}", value.len());
        assert_eq!(identity.get(Fact::Uuid), None);
    }
    let mut host = Host::new(7, "qemu", &["qemu", "-name", ""]);
    host.facts.args[2] = b"\xff\xfe\x80ok\xc3".to_vec();
    assert_eq!(&*host.identify().get(Fact::Name).unwrap().value, "\u{fffd}\u{fffd}\u{fffd}ok\u{fffd}");
}

#[test]
fn the_program_is_a_fact() {
    let program = |host: &Host| host.identify().facts().get(Fact::Program).cloned();
    let mut host = Host::new(7, "my-vmm", &["x"]);
    assert_eq!(program(&host).as_deref(), Some("my-vmm"));
    host.facts.exe = None;
    assert_eq!(program(&host), None);
}

proptest! {
    #[test]
    fn any_process_has_a_bounded_identity(
        exe in proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            "(qemu|kvm|firecracker|cloud-hypervisor|crosvm|lkvm|runsc|containerd-shim-kata-v2)"
                .prop_map(String::into_bytes),
        ]),
        args in proptest::collection::vec(
            prop_oneof![
                Just(b"-name".to_vec()),
                Just(b"--uuid".to_vec()),
                Just(b"-smbios".to_vec()),
                Just(b"-id".to_vec()),
                Just(b"--platform".to_vec()),
                Just(b"boot".to_vec()),
                Just(b"qemu-system-x86_64".to_vec()),
                proptest::collection::vec(
                    prop_oneof![Just(b','), Just(b'='), Just(b'-'), Just(0xff), any::<u8>()], 0..60),
                (any::<[u8; 3]>(), 0..4_000_usize).prop_map(|(unit, times)| unit.repeat(times)),
                "(guest=|type=1,uuid=|debug-threads=on,|/run/vc/vm/|--id=)[,=a-f0-9_/-]{0,50}"
                    .prop_map(String::into_bytes),
            ],
            0..12,
        ),
        cgroups in proptest::collection::vec(
            "(/machine-qemu\\\\x2d|/qemu.slice/|/kubepods.slice/kubepods-pod|/firecracker/)[a-f0-9_./\\\\x-]{0,40}",
            0..4,
        ),
    ) {
        let mut host = Host::new(7, "", &[]);
        host.facts = ProcessFacts { pid: 7, exe, args, cut: 0, cgroups };
        let identity = host.identify();
        prop_assert!(identity.get(Fact::Platform).is_some());
        for (row, found) in identity.iter() {
            prop_assert!(!found.value.is_empty() && found.value.len() <= MAX_TEXT, "{}", row.key);
        }
        if let Some(found) = identity.get(Fact::Uuid) {
            prop_assert_eq!(uuid(found.value.as_bytes()), Some(found.value.to_string()));
        }
    }
}
