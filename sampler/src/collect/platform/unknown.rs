//! A VMM that is not known. Many take the options that QEMU made common, so those are looked for.

use super::{GuestIdentity, ProcessFacts, Sourced, qemu::Options};

const FROM: &str = "command line, QEMU syntax";

pub(super) fn identify(facts: &ProcessFacts) -> GuestIdentity {
    let options = Options::parse(&facts.args);
    GuestIdentity {
        platform: Sourced { value: "unknown", from: "program name" },
        name: options.name.map(|value| Sourced { value, from: FROM }),
        uuid: options.uuid.map(|(value, _)| Sourced { value, from: FROM }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_name_and_says_that_it_is_a_guess() {
        let args =
            ["tiny-vmm", "--verbose", "--name", "guest=one"].map(|arg| arg.as_bytes().to_vec()).to_vec();
        let identity = identify(&ProcessFacts { exe: Some(b"tiny-vmm".to_vec()), args, cut: 0 });
        assert_eq!(identity.platform.value, "unknown");
        assert_eq!(identity.name, Some(Sourced { value: "one".to_owned(), from: FROM }));
        assert_eq!(identity.uuid, None);
    }
}
