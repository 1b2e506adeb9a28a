//! Firecracker, started by hand or by its jailer.

use super::{GuestIdentity, Look, ProcessFacts, cgroup, options, program_is, text::uuid};
use crate::model::Fact;

const ID: &str = "command line, --id";
const JAIL: &str = "control group of the jailer";

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    let from = program_is(facts, |program| program.starts_with(b"firecracker"))?;
    let (id, id_from) = match options::value(&facts.args, "--id") {
        Some(id) => (Some(id), ID),
        None => (jail(facts).map(str::as_bytes), JAIL),
    };
    let identity = GuestIdentity::of("firecracker", from).with(Fact::Name, id, id_from);
    // Those who start many of them often take a UUID.
    Some(identity.with(Fact::Uuid, id.and_then(uuid), id_from))
}

/// The jailer makes a group for each guest below one that is called like the program.
fn jail(facts: &ProcessFacts) -> Option<&str> {
    let (_, id) = cgroup::paths(facts).find_map(|path| path.rsplit_once("/firecracker/"))?;
    id.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    const UUID: &str = "551e7604-e35c-42b3-b825-416853441234";

    #[test]
    fn the_id_names_a_guest() {
        let of = |args: &[&str]| Host::new(6, "firecracker", args);
        let found = [("platform", "firecracker", "program name"), ("name", "vm-7", ID)];
        assert_found(&of(&["/firecracker", "--id=vm-7", "--start-time-us", "1"]).identify(), &found);
        assert_found(&of(&["firecracker", "--api-sock", "/tmp/a", "--id", "vm-7"]).identify(), &found);
        let with_uuid = [found[0], ("name", UUID, ID), ("uuid", UUID, ID)];
        assert_found(&of(&["firecracker", "--id", UUID]).identify(), &with_uuid);
        assert_found(&of(&["firecracker", "--no-api"]).identify(), &found[..1]);
        let jailed = of(&["firecracker"]).cgroup("/firecracker/vm-8").identify();
        assert_found(&jailed, &[found[0], ("name", "vm-8", JAIL)]);
    }
}
