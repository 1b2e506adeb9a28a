//! A VMM that is not known. Many take the options that QEMU made common, so those are looked for.

use super::{GuestIdentity, ProcessFacts, qemu::Options};
use crate::model::{Fact, Facts};

const FROM: &str = "command line, QEMU syntax";

pub(super) fn identify(facts: &ProcessFacts) -> GuestIdentity {
    let options = Options::parse(&facts.args);
    GuestIdentity::of(Facts::UNKNOWN_PLATFORM, "program name").with(Fact::Name, options.name, FROM).with(
        Fact::Uuid,
        options.uuid.map(|(uuid, _)| uuid),
        FROM,
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{Host, assert_found},
        *,
    };

    #[test]
    fn takes_a_name_and_says_that_it_is_a_guess() {
        let host = Host::new(7, "tiny-vmm", &["tiny-vmm", "--verbose", "--name", "guest=one"]);
        let expected = [("platform", "unknown", "program name"), ("name", "one", FROM)];
        assert_found(&host.identify(), &expected);
    }
}
