//! The layers, one over the other.

use std::{path::Path, time::Duration};

use super::{
    Config, ConfigError, LogLevel, Overrides,
    file::ConfigFile,
    origin::{Origin, Origins, path},
    values,
};
use crate::{
    duration,
    export::settings::{Get, SettingError, Variables, Warning, one_of},
};

/// The file that is read where no other is named; it need not exist.
pub const DEFAULT_PATH: &str = "/etc/hvsampler/config.toml";

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

/// A configuration with all that there is to say of it.
#[derive(Debug, Default)]
pub struct Examined {
    /// The settings; those that have a problem are as they would be without it.
    pub config: Config,
    /// Where they come from.
    pub origins: Origins,
    /// What of the environment is not used.
    pub warnings: Vec<Warning>,
    /// Why the configuration cannot be used. It can where there are none.
    pub problems: Vec<ConfigError>,
}

impl Examined {
    /// The configuration, if it can be used.
    ///
    /// # Errors
    /// The first problem.
    pub fn usable(mut self) -> Result<Loaded, ConfigError> {
        match self.problems.is_empty() {
            true => Ok(Loaded { config: self.config, warnings: self.warnings }),
            false => Err(self.problems.swap_remove(0)),
        }
    }
}

impl Config {
    /// Reads the configuration. Without a `path` it is [`DEFAULT_PATH`], which may be missing.
    ///
    /// # Errors
    /// A file that is named and cannot be read; a key that is unknown; a value that cannot be used. No error
    /// shows the value of a header.
    pub fn load(path: Option<&Path>, env: Get<'_>, flags: &Overrides) -> Result<Loaded, ConfigError> {
        Self::examine(path, env, flags).usable()
    }

    /// The same, with every problem and with where each setting comes from.
    #[must_use]
    pub fn examine(path: Option<&Path>, env: Get<'_>, flags: &Overrides) -> Examined {
        let mut examined = Examined::default();
        let file = match path {
            Some(path) => ConfigFile::read(path).map(Some),
            None => ConfigFile::read_if_present(Path::new(DEFAULT_PATH)),
        };
        let file = file.unwrap_or_else(|problem| {
            examined.problems.push(problem);
            None
        });
        let mut of_file = Vec::new();
        if let Some(file) = &file {
            let parsed = file.parse();
            of_file = parsed.config.export.problems();
            examined.config = parsed.config;
            examined.origins = parsed.origins;
            examined.problems.extend(parsed.problems);
        }
        let mut variables = Variables::new(env);
        warn_of_config_file(&mut variables, path.unwrap_or(Path::new(DEFAULT_PATH)));
        examined.apply_env(variables);
        examined.apply_flags(flags);
        examined.validate(file.as_ref(), &of_file, flags);
        examined
    }
}

impl Examined {
    fn apply_env(&mut self, mut variables: Variables<'_>) {
        variables.set(
            &["OTEL_METRIC_EXPORT_INTERVAL".to_owned()],
            ("interval", &mut self.config.interval),
            |value| {
                let ms = value.parse().map_err(|_| "is no whole number of milliseconds".to_owned())?;
                values::interval(Duration::from_millis(ms)).map_err(|problem| format!("cannot be: {problem}"))
            },
            |interval| format!("{:?}", duration::format(*interval)),
        );
        variables.set(
            &["OTEL_LOG_LEVEL".to_owned()],
            ("log.level", &mut self.config.log.level),
            |value| one_of(value, &LogLevel::OF_OTEL),
            |level| format!("{:?}", level.key()),
        );
        self.config.export.apply_env(&mut variables);
        for (key, name) in variables.used {
            self.origins.set(key, Origin::Variable(name));
        }
        self.warnings.append(&mut variables.warnings);
        self.problems.extend(variables.problems.into_iter().map(ConfigError::from));
    }

    fn apply_flags(&mut self, flags: &Overrides) {
        let config = &mut self.config;
        let origins = &mut self.origins;
        over(&mut config.interval, flags.interval, ("interval", "--interval"), origins);
        over(&mut config.start_delay, flags.start_delay, ("start_delay", "--start-delay"), origins);
        if let Some(endpoint) = &flags.endpoint {
            const NAME: &str = "--endpoint";
            let export = &mut config.export;
            over(&mut export.endpoint, Some(Some(endpoint.clone())), ("export.endpoint", NAME), origins);
            over(&mut export.disabled, Some(false), ("export.disabled", NAME), origins);
            export.metrics_endpoint = None;
        }
        over(&mut config.export.protocol, flags.protocol, ("export.protocol", "--protocol"), origins);
        over(&mut config.level, flags.level, ("level", "--level"), origins);
        over(&mut config.log.level, flags.log_level, ("log.level", "--log-level"), origins);
        over(&mut config.log.bpf_level, flags.bpf_log_level, ("log.bpf_level", "--bpf-log-level"), origins);
    }

    /// Adds what is wrong with the settings as a whole. `of_file` is what is wrong with the file by itself: a
    /// layer above it may be what is wrong.
    fn validate(&mut self, file: Option<&ConfigFile>, of_file: &[SettingError], flags: &Overrides) {
        for error in self.config.export.problems() {
            if self.problems.iter().any(|known| known.is_in(&error.name)) {
                continue;
            }
            self.problems.push(match file.filter(|_| of_file.contains(&error)) {
                Some(file) => file.blame(error),
                None if flags.endpoint.is_some() && error.name == "export.endpoint" => ConfigError::Flag {
                    name: "--endpoint",
                    problem: format!("{}; {}", error.problem, error.fix),
                },
                None => error.into(),
            });
        }
    }
}

/// A flag sets a key.
fn over<T>(target: &mut T, value: Option<T>, (key, flag): (&str, &'static str), origins: &mut Origins) {
    if let Some(value) = value {
        *target = value;
        origins.set(path(key), Origin::Flag(flag));
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
