//! The settings as a configuration file, with where each comes from.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::{
    load::Examined,
    origin::{KeyPath, Origins},
};

impl Examined {
    /// The settings as TOML, each with where it comes from in a comment behind it. Keys without a value are
    /// left out. What it prints can be read again, once the secrets are filled in that it does not show.
    ///
    /// # Errors
    /// None that a configuration can cause.
    pub fn print(&self) -> Result<String, toml::ser::Error> {
        let mut text = String::new();
        for warning in &self.warnings {
            let _ = writeln!(text, "# {}", one_line(&warning.to_string()));
        }
        write_table(&mut text, &mut KeyPath::new(), &Table::try_from(&self.config)?, &self.origins);
        Ok(text)
    }
}

/// In a table its values come first: behind the head of an inner one they would be in that.
fn write_table(text: &mut String, path: &mut KeyPath, table: &Table, origins: &Origins) {
    let is_table = |value: &Value| value.as_table().is_some_and(|table| !table.is_empty());
    for (key, value) in table.iter().filter(|(_, value)| !is_table(value)) {
        path.push(key.clone());
        let origin = one_line(&origins.of(path).to_string());
        let _ = writeln!(text, "{} = {value}  # {origin}", quoted(key));
        path.pop();
    }
    for (key, inner) in table.iter().filter_map(|(key, value)| Some((key, value.as_table()?))) {
        if inner.is_empty() {
            continue;
        }
        path.push(key.clone());
        let name: Vec<_> = path.iter().map(|key| quoted(key)).collect();
        let _ = writeln!(text, "\n[{}]", name.join("."));
        write_table(text, path, inner, origins);
        path.pop();
    }
}

/// A key as TOML has it.
fn quoted(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(is_bare) {
        return key.to_owned();
    }
    let escaped = |character: char| match character {
        '"' | '\\' => format!("\\{character}"),
        _ if character.is_control() => format!("\\u{:04X}", u32::from(character)),
        _ => character.to_string(),
    };
    format!("\"{}\"", key.chars().map(escaped).collect::<String>())
}

/// Fit for a comment, which a line break would end.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
