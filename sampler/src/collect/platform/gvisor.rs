//! gVisor on KVM: a kernel in user space that runs its containers in a VM of its own making.

use super::{GuestIdentity, Look, ProcessFacts, program_is};
use crate::model::Fact;

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    let from = program_is(facts, |program| program.starts_with(b"runsc"))?;
    // `runsc-sandbox [flags] boot [flags] ID`.
    let is_sandbox = facts.args.iter().any(|arg| arg == b"boot");
    let id = facts.args.last().filter(|arg| is_sandbox && !arg.starts_with(b"-"));
    Some(GuestIdentity::of("gvisor", from).with(Fact::Name, id, "command line, id of the sandbox"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Host, assert_found};

    #[test]
    fn the_sandbox_has_an_id() {
        let args = ["runsc-sandbox", "--root=/run/runsc", "--platform=kvm", "boot", "--bundle=/b", "c0ffee"];
        let found = [
            ("platform", "gvisor", "command line, argument 0"),
            ("name", "c0ffee", "command line, id of the sandbox"),
        ];
        assert_found(&Host::new(6, "exe", &args).identify(), &found);
        assert_found(&Host::new(6, "exe", &args[..3]).identify(), &found[..1]);
    }
}
