//! Why a configuration cannot be used.

use std::{io, path::PathBuf};

use crate::export::settings::SettingError;

/// Names the place to change. Never shows the value of a header.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: the configuration cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A key is unknown, or its value cannot be used.
    #[error("{}:{line}: {key}: {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key with the tables it is in, as in `export.timeout`.
        key: String,
        /// What is wrong, and what is accepted.
        problem: String,
    },
    /// A flag cannot be used.
    #[error("{name}: {problem}")]
    Flag {
        /// The flag.
        name: &'static str,
        /// What is wrong, and what is accepted.
        problem: String,
    },
    /// A setting of the export cannot be used, from whichever place.
    #[error(transparent)]
    Export(#[from] SettingError),
}

impl ConfigError {
    /// Whether it is about a key in this table, or about the table itself.
    pub(super) fn is_in(&self, table: &str) -> bool {
        matches!(self, Self::Key { key, .. } if key.strip_prefix(table).is_some_and(
            |rest| rest.is_empty() || rest.starts_with('.')
        ))
    }
}
