//! kvmtool, whose program is called `lkvm` most often.

use super::{GuestIdentity, Look, ProcessFacts, options, program_is};
use crate::model::Fact;

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    let from = program_is(facts, |program| program.starts_with(b"lkvm") || program == b"kvmtool")?;
    let name = options::value(&facts.args, "--name");
    Some(GuestIdentity::of("kvmtool", from).with(Fact::Name, name, "command line, --name"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Host, assert_found};

    #[test]
    fn the_name_is_an_option() {
        let found = [("platform", "kvmtool", "program name"), ("name", "web", "command line, --name")];
        for args in [["lkvm", "run", "--name", "web"], ["lkvm", "run", "--name=web", "-c2"]] {
            assert_found(&Host::new(6, "lkvm-static", &args).identify(), &found);
        }
        assert_found(&Host::new(6, "lkvm", &["lkvm", "run", "-k", "bzImage"]).identify(), &found[..1]);
    }
}
