//! crosvm, of ChromeOS and Android's virtual devices.

use super::{GuestIdentity, Look, ProcessFacts, options, program_is};
use crate::model::Fact;

pub(super) fn identify(facts: &ProcessFacts, _: &Look<'_>) -> Option<GuestIdentity> {
    let from = program_is(facts, |program| program.starts_with(b"crosvm"))?;
    let name = options::value(&facts.args, "--name");
    Some(GuestIdentity::of("crosvm", from).with(Fact::Name, name, "command line, --name"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Host, assert_found};

    #[test]
    fn the_name_is_an_option() {
        let args = ["crosvm", "--log-level=info", "run", "--cpus", "4", "--name", "cvd-1", "vmlinux"];
        let found = [("platform", "crosvm", "program name"), ("name", "cvd-1", "command line, --name")];
        assert_found(&Host::new(6, "crosvm", &args).identify(), &found);
        assert_found(&Host::new(6, "crosvm", &args[..3]).identify(), &found[..1]);
    }
}
