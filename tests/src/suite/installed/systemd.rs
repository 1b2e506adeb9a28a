//! What the service manager and its journal say of the service, and what is asked of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// The service.
pub(super) const UNIT: &str = "hvsampler.service";
/// Drop-ins that a boot forgets.
const DROP_INS: &str = "/run/systemd/system/hvsampler.service.d";

/// How long anything may take that is expected to happen: an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(200);

/// Runs a program and returns what it printed.
///
/// # Errors
/// When it cannot be run, or does not succeed.
pub(super) fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let done =
        Command::new(program).args(arguments).output().with_context(|| format!("{program} cannot be run"))?;
    let [out, complaints] =
        [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(
        done.status.success(),
        "{program} {}: {}: {}",
        arguments.join(" "),
        done.status,
        complaints.trim()
    );
    Ok(out)
}

/// Has systemd do something.
///
/// # Errors
/// When it does not.
pub(super) fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    said("systemctl", arguments).map(drop)
}

/// A property of the service.
///
/// # Errors
/// When systemd does not say.
pub(super) fn property(name: &str) -> anyhow::Result<String> {
    Ok(said("systemctl", &["show", "--value", "--property", name, UNIT])?.trim().to_owned())
}

/// The same as a number.
///
/// # Errors
/// When it is none.
pub(super) fn number(name: &str) -> anyhow::Result<u64> {
    let value = property(name)?;
    value.parse().with_context(|| format!("{name} is {value:?}"))
}

/// What the service has logged since this boot, and what systemd has of it.
///
/// # Errors
/// When the journal cannot be read.
pub(super) fn journal() -> anyhow::Result<String> {
    said("journalctl", &["--boot", "--no-pager", "--output=cat", "--unit", UNIT])
}

/// Waits until something is so.
///
/// # Errors
/// When it does not become so, with the last of the journal.
pub(super) fn wait_until(
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while !holds().with_context(|| format!("waiting until {what}"))? {
        if begun.elapsed() > PATIENCE {
            let journal = journal().unwrap_or_default();
            let last: Vec<_> = journal.lines().rev().take(8).collect();
            bail!(
                "after {} s it is not so that {what}; the journal, backwards: {last:#?}",
                PATIENCE.as_secs()
            );
        }
        thread::sleep(STEP);
    }
    Ok(begun.elapsed())
}

/// Lets the unit be as a drop-in has it, or as it was packaged. It holds from the next start on.
///
/// # Errors
/// When that cannot be written.
pub(super) fn set_drop_in(text: Option<&str>) -> anyhow::Result<()> {
    let file = Path::new(DROP_INS).join("test.conf");
    if let Some(text) = text {
        fs::create_dir_all(DROP_INS)?;
        fs::write(file, text)?;
    } else if file.exists() {
        fs::remove_file(file)?;
    }
    systemctl(&["daemon-reload"])
}
