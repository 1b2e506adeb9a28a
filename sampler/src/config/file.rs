//! The TOML file, and where in it things are.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError};
use crate::export::settings::SettingError;

/// Keys below which values are secrets.
const SECRET: &str = "export.headers";

/// A file's text.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    text: String,
}

/// Where a key is.
struct Place {
    key: String,
    /// The key itself; what is said of a whole table points here.
    at: usize,
}

impl ConfigFile {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    pub(super) fn read_if_present(path: &Path) -> Result<Option<Self>, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }

    /// The defaults with the file's keys over them.
    pub(super) fn parse(&self) -> Result<Config, ConfigError> {
        let table = self.table()?;
        toml::from_str(&self.text).map_err(|error| self.explain(&table, &error))
    }

    /// Turns an error about a setting into one about the line that sets it.
    pub(super) fn blame(&self, error: SettingError) -> ConfigError {
        let place = self.table().ok().and_then(|table| find_key(&table, "", &error.name));
        match place {
            Some(at) => ConfigError::Key {
                path: self.path.clone(),
                line: self.line(at),
                key: error.name,
                problem: format!("{}; {}", error.problem, error.fix),
            },
            None => error.into(),
        }
    }

    fn table(&self) -> Result<DeTable<'_>, ConfigError> {
        DeTable::parse(&self.text).map(toml::Spanned::into_inner).map_err(|error| ConfigError::Syntax {
            path: self.path.clone(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })
    }

    /// The parser's own rendering quotes the line, which may hold a secret; its message may quote a value.
    fn explain(&self, table: &DeTable<'_>, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let place = find_span(table, "", &span);
        let (key, at) = place.map_or_else(|| (String::new(), span.start), |place| (place.key, place.at));
        let problem = problem(&key, error.message());
        ConfigError::Key { path: self.path.clone(), line: self.line(at.max(span.start)), key, problem }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|&byte| byte == b'\n').count()
    }
}

/// serde's words, as an operator would put them.
fn problem(key: &str, message: &str) -> String {
    if let Some((_, accepted)) =
        message.split_once("unknown field ").and_then(|(_, rest)| rest.split_once(", "))
    {
        return format!("no such key; {accepted}");
    }
    if let Some((_, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("has the wrong type; expected {expected}");
    }
    if key.starts_with(SECRET) {
        return "has a value that cannot be used".to_owned();
    }
    message.to_owned()
}

/// The innermost key whose name or value takes in a span.
fn find_span(table: &DeTable<'_>, prefix: &str, span: &Range<usize>) -> Option<Place> {
    for (name, value) in table {
        let key = join(prefix, name.get_ref());
        let inner = match value.get_ref() {
            DeValue::Table(table) => find_span(table, &key, span),
            _ => None,
        };
        let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
        if inner.is_some() || within(name.span()) || within(value.span()) {
            return inner.or_else(|| Some(Place { key, at: name.span().start }));
        }
    }
    None
}

/// Where a key is, by its path.
fn find_key(table: &DeTable<'_>, prefix: &str, wanted: &str) -> Option<usize> {
    table.iter().find_map(|(name, value)| {
        let key = join(prefix, name.get_ref());
        match value.get_ref() {
            _ if key == wanted => Some(name.span().start),
            DeValue::Table(table) if wanted.starts_with(&key) => find_key(table, &key, wanted),
            _ => None,
        }
    })
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}
