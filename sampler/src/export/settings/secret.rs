//! Values that nobody but the receiver is to read.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::HIDDEN;

/// The value of a header: in the settings themselves, or in a file of its own.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Secret {
    /// The value.
    Text(String),
    /// A file that has the value, read with the settings.
    File {
        /// Where it is; one that begins with `$CREDENTIALS_DIRECTORY/` is a credential of the service.
        file: PathBuf,
    },
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => formatter.write_str("…"),
            Self::File { file } => file.fmt(formatter),
        }
    }
}

/// Without the value: settings are serialized to be shown.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(_) => serializer.serialize_str(HIDDEN),
            Self::File { file } => serializer.collect_map([("file", file)]),
        }
    }
}
