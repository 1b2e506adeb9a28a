//! Texts as the model carries them.

/// Bytes of a fact that are kept; a longer one is cut between characters.
pub const MAX_TEXT: usize = 4096;

/// A text: not empty, and bounded. Bytes that are not UTF-8 are replaced by U+FFFD, one for each maximal run
/// that begins a character and does not end it.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    (!text.is_empty()).then_some(text)
}

/// A UUID in its canonical form, lower case with hyphens. All zeros is how firmware says that there is none.
pub(super) fn uuid(bytes: &[u8]) -> Option<String> {
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
    fn texts_are_bounded_between_characters() {
        let long = "ä".repeat(MAX_TEXT);
        assert_eq!(text(&long.as_bytes()[..MAX_TEXT + 3]).unwrap().len(), MAX_TEXT);
        let odd = text(&long.as_bytes()[1..]).unwrap();
        assert!(odd.starts_with('\u{fffd}') && odd.len() <= MAX_TEXT && odd.len() > MAX_TEXT - 2);
        assert_eq!(text(b""), None);
    }
}
