//! Values of settings, checked alike wherever they come from.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tracing::level_filters::LevelFilter;

use crate::duration;

/// Shortest time between snapshots.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Nice value of the threads that load the programs and sample: above what runs guests by default, so that a
/// snapshot comes in time on a host whose CPUs are scarce.
pub const DEFAULT_NICE: i32 = -10;

/// What the kernel knows of nice values.
const NICE: RangeInclusive<i64> = -20..=19;

/// Wait before the first snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDelay {
    /// A random part of the interval.
    Random,
    /// So long; zero is no wait.
    Fixed(Duration),
}

impl StartDelay {
    /// Reads `random` or a duration.
    ///
    /// # Errors
    /// Says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "random" {
            return Ok(Self::Random);
        }
        duration::parse(text)
            .map(Self::Fixed)
            .map_err(|error| format!("neither \"random\" nor a duration: {error}"))
    }

    /// The wait itself, drawn anew at each call where it is random.
    #[must_use]
    pub fn draw(self, interval: Duration) -> Duration {
        match self {
            Self::Random => interval.mul_f64(fastrand::f64()),
            Self::Fixed(delay) => delay,
        }
    }
}

impl<'de> Deserialize<'de> for StartDelay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for StartDelay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Random => serializer.serialize_str("random"),
            Self::Fixed(delay) => duration::serialize(delay, serializer),
        }
    }
}

/// How much is logged; each level includes those before it, and the discriminant is the number that the `log`
/// crate and aya-log have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What keeps the sampler from its work.
    Error,
    /// What makes it show less.
    Warn,
    /// What an operator wants to know once.
    Info,
    /// What it does.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Values of `OTEL_LOG_LEVEL`, and two that are as common.
    pub(super) const OF_OTEL: [(&'static str, Self); 8] = [
        ("none", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
        ("off", Self::Off),
        ("warning", Self::Warn),
    ];

    /// As an operator writes it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level as `tracing` has it.
    #[must_use]
    pub const fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Lets an interval through that is long enough.
///
/// # Errors
/// Says what is accepted.
pub fn interval(interval: Duration) -> Result<Duration, String> {
    if interval < MIN_INTERVAL {
        return Err(format!(
            "{} is too short; the shortest interval is {}",
            duration::format(interval),
            duration::format(MIN_INTERVAL)
        ));
    }
    Ok(interval)
}

pub(super) fn deserialize_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    interval(duration::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn deserialize_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Deserialize::deserialize(deserializer)? {
        0 => Err(D::Error::custom("is 0; give at least 1, or level = \"basic\"")),
        count => Ok(count),
    }
}

pub(super) fn deserialize_nice<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let nice: i64 = Deserialize::deserialize(deserializer)?;
    i32::try_from(nice).ok().filter(|_| NICE.contains(&nice)).ok_or_else(|| {
        let (highest, lowest) = NICE.into_inner();
        D::Error::custom(format!("{nice} is no nice value; give {highest} (highest priority) to {lowest}"))
    })
}

/// The modules of this crate that have a log: a path of another one would change nothing.
const MODULES: [&str; 11] = [
    "agent", "audit", "collect", "command", "config", "export", "kernel", "load", "lock", "service", "source",
];

pub(super) fn deserialize_modules<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, LogLevel>, D::Error> {
    let levels = BTreeMap::<String, LogLevel>::deserialize(deserializer)?;
    match levels.keys().find(|path| !is_module(path)) {
        None => Ok(levels),
        Some(path) => Err(D::Error::custom(format!(
            "{path:?} is no module; give one of {}, or the path of one that is in it, as in \"export::client\"",
            MODULES.join(", ")
        ))),
    }
}

/// Whether it is a path that begins with a module of this crate. What is in that is not looked up.
fn is_module(path: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    path.split("::").all(is_name) && path.split("::").next().is_some_and(|first| MODULES.contains(&first))
}

pub(super) fn deserialize_positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration::deserialize(deserializer)?;
    if duration < Duration::from_secs(1) {
        return Err(D::Error::custom("is too short; give at least 1s"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATE: &str = include_str!("../lib.rs");

    #[test]
    fn modules_are_those_of_the_crate() {
        let declared: Vec<&str> =
            CRATE.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
        // What these have is no log: they read settings, and the model is pure.
        let silent = ["cli", "duration", "model"];
        let logging: Vec<&str> = declared.into_iter().filter(|module| !silent.contains(module)).collect();
        assert_eq!(logging, MODULES);
    }

    #[test]
    fn a_module_is_a_path_in_the_crate() {
        for path in ["export", "source::kvm", "collect::platform::cloud_hypervisor"] {
            assert!(is_module(path), "{path}");
        }
        for other in
            ["", "hyper", "export::", "::export", "export=debug,h2", "Export", "export client", "model"]
        {
            assert!(!is_module(other), "{other}");
        }
    }
}
