//! Where each setting comes from.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// A key with the tables that it is in, from the outermost on.
pub(super) type KeyPath = Vec<String>;

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// The keys that somebody set, in whichever layer did so last. It knows no key by itself: the layers name
/// those that they set, and all others have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<KeyPath, Origin>);

impl Origins {
    /// A layer sets a key, with all that is in it.
    pub(super) fn set(&mut self, key: KeyPath, origin: Origin) {
        self.0.retain(|known, _| !known.starts_with(&key));
        self.0.insert(key, origin);
    }

    /// Where a key's value comes from: who set it, or the innermost table that it is in.
    #[must_use]
    pub fn of(&self, key: &[String]) -> Origin {
        let tables = (1..=key.len()).rev().map(|length| &key[..length]);
        tables.into_iter().find_map(|table| self.0.get(table)).cloned().unwrap_or_default()
    }

    /// The keys that somebody set.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &KeyPath> {
        self.0.keys()
    }
}

/// The path of a key as it is written with dots. For keys that have none in them.
pub(super) fn path(key: &str) -> KeyPath {
    key.split('.').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_layer_takes_a_table_with_all_that_is_in_it() {
        let file = |line| Origin::File { path: "c.toml".into(), line };
        let mut origins = Origins::default();
        origins.set(path("export.headers"), file(3));
        origins.set(path("export.headers.a"), file(4));
        assert_eq!(origins.of(&path("export.headers.a")), file(4));
        assert_eq!(origins.of(&path("export.headers.b")), file(3));
        assert_eq!(origins.of(&path("export.timeout")), Origin::Default);
        origins.set(path("export.headers"), Origin::Flag("--x"));
        assert_eq!(origins.of(&path("export.headers.a")), Origin::Flag("--x"));
        assert_eq!(file(4).to_string(), "c.toml:4");
    }
}
