//! Durations as people write them: `250ms`, `10s`, `1m 30s`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not a duration ({reason}); write a number with its unit, for example \"250ms\", \"10s\" or \"5m\""
)]
pub struct DurationError {
    /// What was written.
    text: String,
    /// What the parser stumbled over.
    reason: humantime::DurationError,
}

/// Reads a duration with its unit. A bare number is refused, for its unit would be a guess; only `0` needs
/// none.
///
/// # Errors
/// The text is not a duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    humantime::parse_duration(text)
        .map_err(|reason| DurationError { text: text.chars().take(64).collect(), reason })
}

/// Writes a duration so that [`parse`] reads the same value back.
#[must_use]
pub fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// For `#[serde(with = "crate::duration")]`: a duration is a string in configuration files.
///
/// # Errors
/// The value is not a string, or its text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// For `#[serde(with = "crate::duration")]`.
///
/// # Errors
/// What the serializer says.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_operators_write() {
        for (text, ms) in [
            ("250ms", 250),
            ("10s", 10_000),
            (" 2m ", 120_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("0", 0),
            ("0s", 0),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
    }

    #[test]
    fn refuses_guesses_and_names_the_text() {
        for text in ["", "10", "ten seconds", "-1s", "10 parsecs", "99999999999999999999s"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("250ms"), "{error}");
        }
    }

    #[test]
    fn format_is_read_back() {
        for duration in [
            Duration::ZERO,
            Duration::from_millis(1),
            Duration::from_nanos(1_000_000_001),
            Duration::from_secs(86_399),
        ] {
            assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }

    #[test]
    fn configuration_files_hold_strings() {
        #[derive(serde::Deserialize)]
        struct Config {
            #[serde(deserialize_with = "deserialize")]
            every: Duration,
        }
        assert_eq!(toml::from_str::<Config>("every = '1s'").unwrap().every, Duration::from_secs(1));
        assert!(toml::from_str::<Config>("every = 1").is_err());
    }
}
