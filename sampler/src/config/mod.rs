//! Configuration: defaults, then the TOML file, then the `OTEL_*` variables, then flags.
//!
//! An error names the place that has to be changed: file and line, variable, or flag. A variable that is set
//! for all services of a host and that the sampler cannot use is a warning; logging begins after the
//! configuration is read, so warnings are handed out.

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
pub use crate::export::settings::Warning;
use crate::{
    duration,
    export::settings::{ExportSettings, Get, Variables, one_of},
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

/// A configuration that can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What of the environment is not used.
    pub warnings: Vec<Warning>,
}

impl From<Config> for Loaded {
    fn from(config: Config) -> Self {
        Self { config, warnings: Vec::new() }
    }
}

impl Config {
    /// Reads the configuration. Without a `path` it is [`DEFAULT_PATH`], which may be missing.
    ///
    /// # Errors
    /// A file that is named and cannot be read; a key that is unknown; a value that cannot be used. No error
    /// shows the value of a header.
    pub fn load(path: Option<&Path>, env: Get<'_>, flags: &Overrides) -> Result<Loaded, ConfigError> {
        let file = match path {
            Some(path) => Some(ConfigFile::read(path)?),
            None => ConfigFile::read_if_present(Path::new(DEFAULT_PATH))?,
        };
        let mut variables = Variables::new(env);
        warn_of_config_file(&mut variables, path.unwrap_or(Path::new(DEFAULT_PATH)));
        let config = Self::layer(file.as_ref(), &mut variables, flags)?;
        Ok(Loaded { config, warnings: variables.warnings })
    }

    /// How much is observed of guests.
    #[must_use]
    pub const fn levels(&self) -> Levels {
        Levels { most: self.level, max_exits: self.max_exits_per_vcpu }
    }

    fn layer(
        file: Option<&ConfigFile>,
        variables: &mut Variables<'_>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let of_file = file.map_or_else(|| Ok(Self::default()), ConfigFile::parse)?;
        let mut config = of_file.clone();
        config.apply_env(variables);
        if let Some(problem) = variables.problems.first() {
            return Err(problem.clone().into());
        }
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

    fn apply_env(&mut self, variables: &mut Variables<'_>) {
        variables.set(
            &["OTEL_METRIC_EXPORT_INTERVAL".to_owned()],
            ("interval", &mut self.interval),
            |value| {
                let ms = value.parse().map_err(|_| "is no whole number of milliseconds".to_owned())?;
                values::interval(Duration::from_millis(ms)).map_err(|problem| format!("cannot be: {problem}"))
            },
            |interval| format!("{:?}", duration::format(*interval)),
        );
        variables.set(
            &["OTEL_LOG_LEVEL".to_owned()],
            ("log.level", &mut self.log.level),
            |value| one_of(value, &LogLevel::OF_OTEL),
            |level| format!("{:?}", level.key()),
        );
        self.export.apply_env(variables);
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

/// The file of the specification's declarative configuration is not the sampler's.
fn warn_of_config_file(variables: &mut Variables<'_>, ours: &Path) {
    for name in ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"] {
        if let Some(value) = variables.text(name) {
            let instead = format!("{} and the other variables hold", ours.display());
            variables.warn(name, &value, "names a file of a form that is not supported", instead);
        }
    }
}

#[cfg(test)]
mod tests;
