//! Cloud Hypervisor. It knows no name of its guest.

use super::{GuestIdentity, Look, ProcessFacts, options, program_is, text::uuid};
use crate::model::Fact;

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    let from = program_is(facts, |program| program.starts_with(b"cloud-hypervisor"))?;
    let platform = options::value(&facts.args, "--platform").unwrap_or_default();
    let uuid = options::key(platform, "uuid").and_then(uuid);
    Some(GuestIdentity::of("cloud-hypervisor", from).with(Fact::Uuid, uuid, "command line, --platform uuid="))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Host, assert_found};

    const UUID: &str = "7b3e9c52-6d0a-4b1f-a2c8-5f4e3d2c1b0a";

    #[test]
    fn the_platform_has_a_uuid() {
        let platform = format!("num_pci_segments=2,uuid={UUID},serial_number=1");
        let args = ["cloud-hypervisor", "--api-socket", "/run/ch.sock", "--platform", &platform];
        let found = [
            ("platform", "cloud-hypervisor", "program name"),
            ("uuid", UUID, "command line, --platform uuid="),
        ];
        assert_found(&Host::new(6, "cloud-hypervisor-static", &args).identify(), &found);
        let odd = ["cloud-hypervisor", "--platform=uuid=x"];
        assert_found(&Host::new(6, "cloud-hypervisor", &odd).identify(), &found[..1]);
    }
}
