//! Reading environment variables by the rules of the OpenTelemetry specification, and what there is to say of
//! those that cannot be used.
//!
//! A variable is often set for all services of a host, so one that the sampler cannot use does not stop it:
//! there is a [`Warning`], and the setting stays as it is. What would make the sampler send to a wrong place,
//! or less securely than was asked for, is a [`SettingError`].

use std::{ffi::OsString, fmt};

use super::SettingError;

/// Reads one environment variable, as the process has it.
pub type Get<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Characters of a variable's value that are shown.
const SHOWN: usize = 64;

/// A variable, or a part of it, that is not used. It keeps the sampler from nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The variable.
    pub name: String,
    /// Its value, cut to 64 characters; absent where it may hold a secret.
    pub value: Option<String>,
    /// Why it is not used.
    pub problem: String,
    /// What is used in its place.
    pub instead: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)?;
        if let Some(value) = &self.value {
            write!(formatter, "={value:?}")?;
        }
        write!(formatter, " {}: {}", self.problem, self.instead)
    }
}

/// The environment, with what was found out about it.
pub struct Variables<'a> {
    get: Get<'a>,
    /// Keys of settings, with the tables that they are in, and the variable that set each.
    pub used: Vec<(Vec<String>, String)>,
    /// What is not used.
    pub warnings: Vec<Warning>,
    /// What cannot be used and must not be left out either.
    pub problems: Vec<SettingError>,
}

impl<'a> Variables<'a> {
    /// Of an environment of which nothing is read yet.
    #[must_use]
    pub const fn new(get: Get<'a>) -> Self {
        Self { get, used: Vec::new(), warnings: Vec::new(), problems: Vec::new() }
    }

    /// The value, without blanks around it; an empty one counts as unset. One that is not UTF-8 is a problem:
    /// nobody can say what it was meant to be.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match (self.get)(name)?.into_string() {
            Ok(value) => Some(value.trim().to_owned()).filter(|value| !value.is_empty()),
            Err(_) => {
                self.problems.push(SettingError::new(name, "is not UTF-8", "set it to text, or unset it"));
                None
            }
        }
    }

    /// The value of the first of these variables that is set, with its name.
    pub(super) fn first(&mut self, names: &[String]) -> Option<(String, String)> {
        names.iter().find_map(|name| self.text(name).map(|value| (name.clone(), value)))
    }

    /// Sets the setting `key` by the first of these variables that can be used; `parse` says why one cannot.
    pub fn set<T>(
        &mut self,
        names: &[String],
        (key, target): (&'static str, &mut T),
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) {
        let mut unused = Vec::new();
        for name in names {
            let Some(value) = self.text(name) else { continue };
            match parse(&value) {
                Ok(parsed) => {
                    *target = parsed;
                    self.sets(key, name);
                    break;
                }
                Err(problem) => unused.push((name, value, problem)),
            }
        }
        for (name, value, problem) in unused {
            self.warn(name, &value, problem, format!("{key} stays {}", show(target)));
        }
    }

    /// A boolean: what is neither `true` nor `false`, in any case, is false.
    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.text(name)?;
        let is = |word| value.eq_ignore_ascii_case(word);
        if !is("true") && !is("false") {
            self.warn(name, &value, "is neither true nor false", "it counts as false");
        }
        Some(is("true"))
    }

    /// Notes that a variable sets a key, which is written with dots.
    pub(super) fn sets(&mut self, key: &str, name: &str) {
        self.used.push((key.split('.').map(str::to_owned).collect(), name.to_owned()));
    }

    /// The same of a key in the table `table`, which may have any characters in it.
    pub(super) fn sets_in(&mut self, table: &str, key: &str, name: &str) {
        self.sets(table, name);
        if let Some((path, _)) = self.used.last_mut() {
            path.push(key.to_owned());
        }
    }

    /// Says that a variable is not used.
    pub fn warn(&mut self, name: &str, value: &str, problem: impl Into<String>, instead: impl Into<String>) {
        self.warnings.push(Warning {
            name: name.to_owned(),
            value: Some(value.chars().take(SHOWN).collect()),
            problem: problem.into(),
            instead: instead.into(),
        });
    }
}

/// One of some words, in any case.
///
/// # Errors
/// Lists the words.
pub fn one_of<T: Copy>(value: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| value.eq_ignore_ascii_case(word));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("is none of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn what_is_not_utf_8_is_named() {
        let get = |_: &str| Some(OsString::from_vec(b"caf\xe9".to_vec()));
        let mut variables = Variables::new(&get);
        assert_eq!(variables.text("OTEL_X"), None);
        assert_eq!(variables.problems[0].to_string(), "OTEL_X: is not UTF-8; set it to text, or unset it");
    }

    #[test]
    fn a_warning_is_one_short_line() {
        let long = format!("a\n{}", "x".repeat(1000));
        let get = |_: &str| Some(OsString::from(&long));
        let mut variables = Variables::new(&get);
        assert_eq!(variables.boolean("OTEL_X"), Some(false));
        let said = variables.warnings[0].to_string();
        assert!(said.starts_with("OTEL_X=\"a\\nxxx") && said.ends_with(": it counts as false"), "{said}");
        assert!(said.len() < 150 && !said.contains('\n'), "{said}");
    }

    #[test]
    fn the_first_that_can_be_used_sets_and_those_before_it_are_named() {
        let get = |name: &str| Some(OsString::from(if name == "A" { "three" } else { "2" }));
        let mut variables = Variables::new(&get);
        let mut target = 1;
        let names = ["A", "B"].map(str::to_owned);
        let parse = |value: &str| value.parse::<u8>().map_err(|_| "is no number".to_owned());
        variables.set(&names, ("key", &mut target), parse, u8::to_string);
        assert_eq!(target, 2);
        let said: Vec<String> = variables.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["A=\"three\" is no number: key stays 2"]);
    }
}
