//! Configuration: defaults, then the TOML file, then the `OTEL_*` variables, then flags.
//!
//! An error names the place that has to be changed: file and line, variable, or flag. A variable that is set
//! for all services of a host and that the sampler cannot use is a warning; logging begins after the
//! configuration is read, so warnings are handed out.

mod error;
mod file;
mod load;
mod origin;
mod print;
mod service;
mod values;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use load::{DEFAULT_PATH, Examined, Loaded};
pub use origin::{Origin, Origins};
pub use service::{Sandbox, ServiceSettings};
pub use values::{DEFAULT_NICE, LogLevel, MIN_INTERVAL, StartDelay, interval as check_interval};

pub use crate::export::settings::Warning;
use crate::{
    duration,
    export::settings::ExportSettings,
    model::{GuestSelection, HostParts, Level, Levels},
};

/// Where the service says how it is, and where it is asked.
pub const DEFAULT_STATUS_SOCKET: &str = "/run/hvsampler/status";

/// What an operator can set: the one definition of the keys. `otel-config/hvsampler.toml` shows every key
/// with its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between snapshots; at least [`MIN_INTERVAL`].
    #[serde(deserialize_with = "values::deserialize_interval", serialize_with = "duration::serialize")]
    pub interval: Duration,
    /// Wait before the first snapshot, so that hosts that start together do not export together.
    pub start_delay: StartDelay,
    /// Time between full discoveries of guests; births and deaths are seen as they happen in between.
    #[serde(deserialize_with = "values::deserialize_positive", serialize_with = "duration::serialize")]
    pub discovery_interval: Duration,
    /// Time between readings of what changes slowly: the memory of guests, the host.
    #[serde(deserialize_with = "values::deserialize_positive", serialize_with = "duration::serialize")]
    pub slow_interval: Duration,
    /// Bound of the final export when the service is stopped.
    #[serde(with = "duration")]
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
    /// The unix socket on which the service says how it is; empty is none.
    pub status_socket: PathBuf,
    /// Which guests are shown.
    pub guests: GuestSelection,
    /// What is read of the host beside its guests.
    pub host: HostParts,
    /// What the service may do.
    pub service: ServiceSettings,
    /// What is logged.
    pub log: LogSettings,
    /// Where metrics go.
    pub export: ExportSettings,
}

/// The `[log]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Level of the service's own messages.
    pub level: LogLevel,
    /// Levels of the messages of single modules, by their paths in the crate, with all that is in them.
    #[serde(deserialize_with = "values::deserialize_modules")]
    pub modules: BTreeMap<String, LogLevel>,
    /// Level of messages from the eBPF programs, set when they are loaded. They cost time in the kernel.
    pub bpf_level: LogLevel,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LogLevel::Info, modules: BTreeMap::new(), bpf_level: LogLevel::Off }
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
            status_socket: PathBuf::from(DEFAULT_STATUS_SOCKET),
            guests: GuestSelection::default(),
            host: HostParts::default(),
            service: ServiceSettings::default(),
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
    /// How much is observed of guests.
    #[must_use]
    pub const fn levels(&self) -> Levels {
        Levels { most: self.level, max_exits: self.max_exits_per_vcpu }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
