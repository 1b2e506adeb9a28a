//! The TOML file, and where in it things are.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::{
    Config, ConfigError,
    origin::{KeyPath, Origin, Origins},
};
use crate::export::settings::SettingError;

/// Keys below which values are secrets.
const SECRET: &str = "export.headers";

/// A file's text.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    text: String,
}

/// What a file comes to.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The defaults with the file's keys over them, but for those that have a problem.
    pub(super) config: Config,
    /// Which keys it sets.
    pub(super) origins: Origins,
    /// What cannot be used.
    pub(super) problems: Vec<ConfigError>,
}

/// Where a key is.
struct Place {
    key: KeyPath,
    /// The key itself; what is said of a whole table points here.
    at: usize,
}

/// Problems of a file that are said at once.
const MOST_PROBLEMS: usize = 64;

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

    /// Reads all keys. One that has a problem is left out and the others are read again, for the parser stops
    /// at the first.
    pub(super) fn parse(&self) -> Parsed {
        let mut parsed = Parsed::default();
        let mut table = match self.table() {
            Ok(table) => table,
            Err(problem) => {
                parsed.problems.push(problem);
                return parsed;
            }
        };
        self.find_origins(table.get_ref(), &mut KeyPath::new(), &mut parsed.origins);
        while parsed.problems.len() < MOST_PROBLEMS {
            match Config::deserialize(Deserializer::from(table.clone())) {
                Ok(config) => {
                    parsed.config = config;
                    break;
                }
                Err(error) => {
                    let span = error.span().unwrap_or(0..0);
                    let place = find_span(table.get_ref(), &mut KeyPath::new(), &span);
                    parsed.problems.push(self.explain(place.as_ref(), span.start, error.message()));
                    if !place.is_some_and(|place| take_out(table.get_mut(), &place.key)) {
                        break;
                    }
                }
            }
        }
        parsed
    }

    /// Tables are looked into: values alone are set.
    fn find_origins(&self, table: &DeTable<'_>, path: &mut KeyPath, origins: &mut Origins) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            if let DeValue::Table(inner) = value.get_ref() {
                self.find_origins(inner, path, origins);
            } else {
                let origin = Origin::File { path: self.path.clone(), line: self.line(name.span().start) };
                origins.set(path.clone(), origin);
            }
            path.pop();
        }
    }

    /// Turns an error about a setting into one about the line that sets it.
    pub(super) fn blame(&self, error: SettingError) -> ConfigError {
        let place = self.table().ok().and_then(|table| find_key(table.get_ref(), "", &error.name));
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

    fn table(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        DeTable::parse(&self.text).map_err(|error| ConfigError::Syntax {
            path: self.path.clone(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })
    }

    /// The parser's own rendering quotes the line, which may hold a secret; its message may quote a value.
    fn explain(&self, place: Option<&Place>, start: usize, message: &str) -> ConfigError {
        let (key, at) = place.map_or_else(|| (String::new(), start), |place| (place.key.join("."), place.at));
        let problem = problem(&key, message);
        ConfigError::Key { path: self.path.clone(), line: self.line(at.max(start)), key, problem }
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
        return "has a value that cannot be used; give text, or { file = \"PATH\" }".to_owned();
    }
    message.to_owned()
}

/// The innermost key whose name or value takes in a span.
fn find_span(table: &DeTable<'_>, path: &mut KeyPath, span: &Range<usize>) -> Option<Place> {
    for (name, value) in table {
        path.push(name.get_ref().to_string());
        let inner = match value.get_ref() {
            DeValue::Table(table) => find_span(table, path, span),
            _ => None,
        };
        let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
        if inner.is_some() || within(name.span()) || within(value.span()) {
            return inner.or_else(|| Some(Place { key: path.clone(), at: name.span().start }));
        }
        path.pop();
    }
    None
}

/// Whether the key was there.
fn take_out(table: &mut DeTable<'_>, key: &[String]) -> bool {
    let Some((first, rest)) = key.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(first.as_str()).is_some();
    }
    match table.get_mut(first.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => take_out(inner, rest),
        _ => false,
    }
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
