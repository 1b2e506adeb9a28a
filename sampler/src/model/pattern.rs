//! Patterns of names, as operators write them.

use serde::{Deserialize, Serialize};

/// A pattern in which `*` stands for any characters, also none. All else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether a name is of this form. Takes no longer than the product of both lengths.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let (Some(name), (middle, last)) =
            (name.strip_prefix(first), rest.rsplit_once('*').unwrap_or(("", rest)))
        else {
            return false;
        };
        let Some(mut name) = name.strip_suffix(last) else { return false };
        // Each part at its first place leaves the most for those after it.
        for part in middle.split('*') {
            let Some(at) = name.find(part) else { return false };
            name = &name[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_characters() {
        for (pattern, yes, no) in [
            ("web", &["web"][..], &["", "web1", "Web"][..]),
            ("*", &["", "x", "*"], &[]),
            ("web-*", &["web-", "web-1"], &["web", "a-web-1"]),
            ("*.exit.*", &[".exit.", "vm.exit.time"], &["vm.exits", "exit"]),
            ("a*b*a", &["aba", "axbxa", "abba"], &["aa", "ab", "a"]),
            ("a**a", &["aa", "axa"], &["a"]),
            ("ä*ö", &["äö", "äüö"], &["ä", "ö"]),
            ("", &[""], &["x"]),
        ] {
            let pattern = Pattern::new(pattern);
            yes.iter().for_each(|name| assert!(pattern.matches(name), "{pattern:?} {name}"));
            no.iter().for_each(|name| assert!(!pattern.matches(name), "{pattern:?} {name}"));
        }
    }
}
