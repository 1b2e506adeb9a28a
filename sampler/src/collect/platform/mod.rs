//! Who started a guest, and what they call it. One file for each platform, and one row in [`PLATFORMS`].

mod qemu;
mod unknown;

use super::procfs::ProcessFacts;

/// Bytes of a guest's name that are kept; a longer one is cut between characters.
pub const MAX_NAME: usize = 4096;

/// A fact with the place it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The fact.
    pub value: T,
    /// Where it is from, for people.
    pub from: &'static str,
}

/// What is known of a guest beyond its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestIdentity {
    /// Who started it: `qemu`, or `unknown`.
    pub platform: Sourced<&'static str>,
    /// The name that the platform gave it: never empty, at most [`MAX_NAME`] bytes, any characters. Bytes
    /// that are not UTF-8 were replaced by U+FFFD, one for each maximal run that begins a character and does
    /// not end it.
    pub name: Option<Sourced<String>>,
    /// The UUID that the platform gave it, lower case with hyphens; never all zeros.
    pub uuid: Option<Sourced<String>>,
}

/// Says who a process's guest is, or `None` where the process is of another platform.
type Platform = fn(&ProcessFacts) -> Option<GuestIdentity>;

/// In order of preference: the first that knows the process is believed.
const PLATFORMS: &[Platform] = &[qemu::identify];

/// Says who a guest is, as far as its process tells.
#[must_use]
pub fn identify(facts: &ProcessFacts) -> GuestIdentity {
    PLATFORMS.iter().find_map(|platform| platform(facts)).unwrap_or_else(|| unknown::identify(facts))
}

/// A name as the model carries it.
fn name(bytes: &[u8]) -> Option<String> {
    let mut name = String::from_utf8_lossy(bytes).into_owned();
    name.truncate(name.floor_char_boundary(MAX_NAME));
    (!name.is_empty()).then_some(name)
}

/// A UUID in its canonical form. All zeros is how firmware says that there is none.
fn uuid(bytes: &[u8]) -> Option<String> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if bytes.len() != 36 {
        return None;
    }
    let well_formed = bytes.iter().enumerate().all(|(at, byte)| match HYPHENS.contains(&at) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    });
    let all_zero = bytes.iter().all(|byte| matches!(byte, b'0' | b'-'));
    (well_formed && !all_zero).then(|| String::from_utf8_lossy(bytes).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uuids_are_lower_case_and_real() {
        assert_eq!(
            uuid(b"ABCDEF01-2345-6789-abcd-EF0123456789").as_deref(),
            Some("abcdef01-2345-6789-abcd-ef0123456789")
        );
        for wrong in [
            "00000000-0000-0000-0000-000000000000",
            "abcdef012-345-6789-abcd-ef0123456789",
            "abcdef01-2345-6789-abcd-ef012345678",
            "abcdef01-2345-6789-abcd-ef012345678g",
            "abcdef01234567890abcdef0123456789012",
            "",
        ] {
            assert_eq!(uuid(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_bounded_between_characters() {
        let long = "ä".repeat(MAX_NAME);
        let name = name(&long.as_bytes()[..MAX_NAME + 3]).unwrap();
        assert_eq!(name.len(), MAX_NAME);
        let odd = super::name(&long.as_bytes()[1..]).unwrap();
        assert!(odd.starts_with('\u{fffd}') && odd.len() <= MAX_NAME && odd.len() > MAX_NAME - 2);
        assert_eq!(super::name(b""), None);
    }

    proptest! {
        #[test]
        fn any_process_has_a_bounded_identity(
            exe in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            args in proptest::collection::vec(
                prop_oneof![
                    Just(b"-name".to_vec()),
                    Just(b"--uuid".to_vec()),
                    Just(b"-smbios".to_vec()),
                    Just(b"qemu-system-x86_64".to_vec()),
                    proptest::collection::vec(
                        prop_oneof![Just(b','), Just(b'='), Just(b'-'), Just(0xff), any::<u8>()], 0..60),
                    (any::<[u8; 3]>(), 0..4_000_usize).prop_map(|(unit, times)| unit.repeat(times)),
                    "(guest=|type=1,uuid=|debug-threads=on,)[,=a-f0-9-]{0,50}".prop_map(String::into_bytes),
                ],
                0..12,
            ),
        ) {
            let identity = identify(&ProcessFacts { exe, args, cut: 0 });
            if let Some(name) = identity.name {
                prop_assert!(!name.value.is_empty() && name.value.len() <= MAX_NAME);
            }
            if let Some(found) = identity.uuid {
                prop_assert_eq!(uuid(found.value.as_bytes()), Some(found.value));
            }
        }
    }
}
