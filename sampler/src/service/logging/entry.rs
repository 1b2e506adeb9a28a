//! Entries of the journal, in systemd's native protocol: a name, a length and a value of each field
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use tracing::Level;

/// The field that has the line itself. It is the first of an entry.
const MESSAGE: &str = "MESSAGE";

/// Bytes of a length.
const LENGTH: usize = size_of::<u64>();

/// An entry of a line alone.
pub(super) fn entry(level: Level, line: &str) -> Vec<u8> {
    let mut entry = Vec::with_capacity(line.len() + 128);
    put(&mut entry, MESSAGE, line);
    put(&mut entry, "PRIORITY", priority(level));
    put(&mut entry, "SYSLOG_IDENTIFIER", "hvsampler");
    entry
}

/// As syslog(3) numbers them.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Adds a field in the form that takes any value.
pub(super) fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// The line of an entry as [`entry`] has made it.
pub(super) fn line_of(entry: &[u8]) -> &[u8] {
    let rest = entry.strip_prefix(MESSAGE.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
    let line = rest.and_then(|rest| {
        let (length, rest) = rest.split_first_chunk::<LENGTH>()?;
        rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)
    });
    line.unwrap_or(entry)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// As the journal reads it.
    pub(in crate::service::logging) fn read(mut entry: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(entry[..end].to_vec()).unwrap();
            let (length, rest) = entry[end + 1..].split_first_chunk::<LENGTH>().unwrap();
            let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            assert_eq!(rest.first(), Some(&b'\n'), "{name}");
            assert!(fields.insert(name, String::from_utf8(value.to_vec()).unwrap()).is_none());
            entry = &rest[1..];
        }
        assert!(entry.is_empty());
        fields
    }

    #[test]
    fn levels_are_the_journal_s() {
        let of = |level| read(&entry(level, "x"))["PRIORITY"].clone();
        let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE].map(of);
        assert_eq!(all, ["3", "4", "6", "7", "7"]);
    }

    #[test]
    fn the_line_of_an_entry_is_found_again() {
        assert_eq!(line_of(&entry(Level::INFO, "a\nb")), b"a\nb");
        for other in [&b"a line"[..], b"MESSAGE\n", b"MESSAGE\n\xff\0\0\0\0\0\0\0short\n"] {
            assert_eq!(line_of(other), other);
        }
    }
}
