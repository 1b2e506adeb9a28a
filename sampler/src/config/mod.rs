//! Configuration: defaults, then the TOML file, then the `OTEL_*` variables, then flags.
//!
//! An error names the place that has to be changed: file and line, variable, or flag.

mod error;
mod file;
mod values;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

pub use error::ConfigError;
pub use values::{DEFAULT_NICE, LogLevel, MIN_INTERVAL, StartDelay, interval as check_interval};

use self::file::ConfigFile;
use crate::{
    duration,
    export::settings::ExportSettings,
    model::{GuestSelection, Level, Levels},
};

/// The file that is read where no other is named; it need not exist.
pub const DEFAULT_PATH: &str = "/etc/hvsampler/config.toml";

/// What an operator can set. `otel-config/hvsampler.toml` shows every key with its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between snapshots; at least [`MIN_INTERVAL`].
    #[serde(deserialize_with = "values::deserialize_interval")]
    pub interval: Duration,
    /// Wait before the first snapshot, so that hosts that start together do not export together.
    pub start_delay: StartDelay,
    /// Time between full discoveries of guests; births and deaths are seen as they happen in between.
    #[serde(deserialize_with = "values::deserialize_positive")]
    pub discovery_interval: Duration,
    /// Time between readings of what changes slowly: a guest's memory.
    #[serde(deserialize_with = "values::deserialize_positive")]
    pub slow_interval: Duration,
    /// Bound of the final export when the service is stopped.
    #[serde(deserialize_with = "duration::deserialize")]
    pub shutdown_deadline: Duration,
    /// The most that is observed of any guest.
    pub level: Level,
    /// Exits of one vCPU in a second beyond which one in 16 of its guest's is timed; not 0.
    #[serde(deserialize_with = "values::deserialize_count")]
    pub max_exits_per_vcpu: u64,
    /// Nice value of the threads that load the programs and sample, from -20 to 19.
    #[serde(deserialize_with = "values::deserialize_nice")]
    pub nice: i32,
    /// Whether the sampler compares some of its numbers with the kernel's while it runs.
    pub audit: bool,
    /// Held while the service runs, so that a second one says so.
    pub lock_file: PathBuf,
    /// Which guests are shown.
    pub guests: GuestSelection,
    /// What is logged.
    pub log: LogSettings,
    /// Where metrics go.
    pub export: ExportSettings,
}

/// The `[log]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Level of the service's own messages.
    pub level: LogLevel,
    /// Level of messages from the eBPF programs, set when they are loaded. They cost time in the kernel.
    pub bpf_level: LogLevel,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LogLevel::Info, bpf_level: LogLevel::Off }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            start_delay: StartDelay::Random,
            discovery_interval: Duration::from_secs(10 * 60),
            slow_interval: Duration::from_secs(10),
            shutdown_deadline: Duration::from_secs(5),
            level: Levels::default().most,
            max_exits_per_vcpu: Levels::default().max_exits,
            nice: DEFAULT_NICE,
            audit: true,
            lock_file: PathBuf::from("/run/hvsampler/lock"),
            guests: GuestSelection::default(),
            log: LogSettings::default(),
            export: ExportSettings::default(),
        }
    }
}

/// What flags set, over everything else; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// [`Config::interval`], at least [`MIN_INTERVAL`].
    pub interval: Option<Duration>,
    /// [`Config::start_delay`].
    pub start_delay: Option<StartDelay>,
    /// [`ExportSettings::endpoint`]; it also switches the export on and lets no URL for metrics alone stand
    /// in its way.
    pub endpoint: Option<String>,
    /// [`ExportSettings::protocol`].
    pub protocol: Option<crate::export::settings::Protocol>,
    /// [`Config::level`].
    pub level: Option<Level>,
    /// [`LogSettings::level`].
    pub log_level: Option<LogLevel>,
    /// [`LogSettings::bpf_level`].
    pub bpf_log_level: Option<LogLevel>,
}

impl Config {
    /// Reads the configuration. Without a `path` it is [`DEFAULT_PATH`], which may be missing.
    ///
    /// # Errors
    /// A file that is named and cannot be read; a key that is unknown; a value that cannot be used. No error
    /// shows the value of a header.
    pub fn load(
        path: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let file = match path {
            Some(path) => Some(ConfigFile::read(path)?),
            None => ConfigFile::read_if_present(Path::new(DEFAULT_PATH))?,
        };
        Self::layer(file.as_ref(), env, flags)
    }

    /// How much is observed of guests.
    #[must_use]
    pub const fn levels(&self) -> Levels {
        Levels { most: self.level, max_exits: self.max_exits_per_vcpu }
    }

    fn layer(
        file: Option<&ConfigFile>,
        env: &dyn Fn(&str) -> Option<String>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let of_file = file.map_or_else(|| Ok(Self::default()), ConfigFile::parse)?;
        let mut config = of_file.clone();
        config.apply_env(env)?;
        config.apply_flags(flags);
        config.export.validate().map_err(|error| {
            // A layer above the file may be what is wrong: the file is to blame if it is wrong by itself.
            match file.filter(|_| of_file.export.validate().as_ref() == Err(&error)) {
                Some(file) => file.blame(error),
                None if flags.endpoint.is_some() && error.name == "export.endpoint" => ConfigError::Flag {
                    name: "--endpoint",
                    problem: format!("{}; {}", error.problem, error.fix),
                },
                None => error.into(),
            }
        })?;
        Ok(config)
    }

    fn apply_env(&mut self, env: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let refuse = |name, value: &str, accepts: &str| ConfigError::Variable {
            name,
            problem: format!("{value:?} is not {accepts}"),
        };
        let non_empty = |name| env(name).filter(|value| !value.is_empty());

        const INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";
        if let Some(value) = non_empty(INTERVAL) {
            let ms = value
                .trim()
                .parse()
                .map_err(|_| refuse(INTERVAL, &value, "a whole number of milliseconds"))?;
            self.interval = values::interval(Duration::from_millis(ms))
                .map_err(|problem| ConfigError::Variable { name: INTERVAL, problem })?;
        }
        const LEVEL: &str = "OTEL_LOG_LEVEL";
        if let Some(value) = non_empty(LEVEL) {
            self.log.level =
                LogLevel::from_otel(&value).ok_or_else(|| refuse(LEVEL, &value, LogLevel::ACCEPTED))?;
        }
        Ok(self.export.apply_env(env)?)
    }

    fn apply_flags(&mut self, flags: &Overrides) {
        if let Some(interval) = flags.interval {
            self.interval = interval;
        }
        if let Some(start_delay) = flags.start_delay {
            self.start_delay = start_delay;
        }
        if let Some(endpoint) = &flags.endpoint {
            self.export.endpoint = Some(endpoint.clone());
            self.export.metrics_endpoint = None;
            self.export.disabled = false;
        }
        if let Some(protocol) = flags.protocol {
            self.export.protocol = protocol;
        }
        if let Some(level) = flags.level {
            self.level = level;
        }
        if let Some(level) = flags.log_level {
            self.log.level = level;
        }
        if let Some(level) = flags.bpf_log_level {
            self.log.bpf_level = level;
        }
    }
}

#[cfg(test)]
mod tests;
