//! A document on one line that a terminal may print.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::export::terminal;

/// Renders any document on one line that ends with a newline. Characters that could do more to a terminal
/// than print are written as `\u` escapes.
pub(crate) fn render(document: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    render_to(document, &mut bytes)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// The same in place of what a buffer holds.
pub(super) fn render_to(document: &impl Serialize, to: &mut Vec<u8>) -> serde_json::Result<()> {
    to.clear();
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut *to, Plain))?;
    to.push(b'\n');
    Ok(())
}

/// JSON itself escapes what is below the space; a terminal obeys more than that.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !terminal::is_plain(c)) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(text: &str) -> String {
        render(&text).unwrap()
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(show("a\u{9b}31m\u{202e}\u{7f}\n"), "\"a\\u009b31m\\u202e\\u007f\\n\"\n");
        assert_eq!(show("\u{e0001}"), "\"\\udb40\\udc01\"\n");
        assert_eq!(show("plain ä 東 \"q\" \\"), "\"plain ä 東 \\\"q\\\" \\\\\"\n");
    }

    proptest! {
        #[test]
        fn escapes_are_read_back(text: String) {
            let rendered = show(&text);
            prop_assert!(rendered.trim_end_matches('\n').chars().all(terminal::is_plain));
            prop_assert_eq!(serde_json::from_str::<String>(&rendered).unwrap(), text);
        }
    }
}
