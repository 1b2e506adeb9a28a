//! The package, under the machine's own package manager.

use std::fs;
use std::path::Path;

use super::systemd::{self, said};
use crate::runner::required_file;

/// Where the package puts the configuration.
pub(super) const CONFIG: &str = "/etc/hvsampler/config.toml";
/// Environment of the unit that reports a failure.
pub(super) const FAILURE_ENV: &str = "/etc/hvsampler/failure.env";

/// A version of the package.
#[derive(Clone, Copy, Debug)]
pub(super) enum Version {
    First,
    Next,
}

impl Version {
    /// Installs it over whatever is there.
    ///
    /// # Errors
    /// When dpkg does not.
    pub(super) fn install(self) -> anyhow::Result<()> {
        let variable = match self {
            Self::First => "HVS_DEB_FIRST",
            Self::Next => "HVS_DEB_NEXT",
        };
        let file = required_file(variable)?;
        dpkg(&["-i", &file.to_string_lossy()])
    }
}

/// The version that is installed.
///
/// # Errors
/// When none is.
pub(super) fn version() -> anyhow::Result<String> {
    said("dpkg-query", &["--showformat", "${Version} ${Status}", "--show", "hvsampler"])
}

/// Purges the package, if it is there.
///
/// # Errors
/// When dpkg does not.
pub(super) fn purge() -> anyhow::Result<()> {
    dpkg(&["-P", "hvsampler"])
}

/// Removes the package and keeps its configuration.
///
/// # Errors
/// When dpkg does not.
pub(super) fn remove() -> anyhow::Result<()> {
    dpkg(&["-r", "hvsampler"])
}

fn dpkg(arguments: &[&str]) -> anyhow::Result<()> {
    said("env", &[&["DEBIAN_FRONTEND=noninteractive", "dpkg"], arguments].concat()).map(drop)
}

/// The service as it was packaged but for a drop-in, at work, with the configuration as it was packaged.
///
/// # Errors
/// When it cannot be had.
pub(super) fn fresh(drop_in: Option<&str>) -> anyhow::Result<()> {
    systemd::set_drop_in(drop_in)?;
    if Path::new(CONFIG).exists() {
        purge()?;
    }
    // Starts of the test before count against the limit; systemd may have forgotten the unit with them.
    let _ = systemd::systemctl(&["reset-failed", systemd::UNIT]);
    Version::First.install()
}

/// Adds a line to the configuration. Returns what was there before.
///
/// # Errors
/// When it cannot be written.
pub(super) fn add_to_config(line: &str) -> anyhow::Result<String> {
    let before = fs::read_to_string(CONFIG)?;
    fs::write(CONFIG, format!("{line}\n{before}"))?;
    Ok(before)
}
