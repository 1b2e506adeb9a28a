//! What systemd says of the units.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use crate::{shell, tally::Tally, workspace::Workspace};

const FOLDER: &str = "xtask/packaging";
const SERVICE: &str = "hvsampler.service";
const FAILURE: &str = "hvsampler-failure@.service";
/// Where the service may be exposed at most, by `systemd-analyze security`, in tenths. What is left open has
/// its reason in the unit.
const MOST_EXPOSED: &str = "30";
/// The first systemd that judges a unit which is a file.
const JUDGES_FILES: u32 = 250;

/// Both tests; skipped where there is no systemd that could say anything.
pub(crate) fn tests(workspace: &Workspace) -> Tally {
    const NAMES: [&str; 2] = ["units.verify", "units.exposure"];
    if let Some(reason) = missing() {
        return NAMES.iter().fold(Tally::default(), |mut tally, name| {
            tally += Tally::skip(name, &reason);
            tally
        });
    }
    let mut tally = Tally::of(NAMES[0], || verify(workspace));
    tally += Tally::of(NAMES[1], || exposure(workspace));
    tally
}

fn missing() -> Option<String> {
    let Some(program) = shell::which("systemd-analyze") else {
        return Some("systemd-analyze is not installed".to_owned());
    };
    let said = shell::read(process::Command::new(program).arg("--version")).unwrap_or_default();
    let version = said.split_whitespace().nth(1).and_then(|version| version.parse::<u32>().ok());
    let is_old = version.is_none_or(|version| version < JUDGES_FILES);
    is_old.then(|| format!("systemd {JUDGES_FILES} is needed, this one says {version:?}"))
}

/// systemd understands every line.
fn verify(workspace: &Workspace) -> Result<()> {
    with_copies(workspace, |folder| {
        let mut verify = workspace.command("systemd-analyze");
        verify.args(["verify", "--man=no"]).args([SERVICE, "hvsampler-failure@x.service"]);
        let said = shell::quiet(verify.current_dir(folder).env("SYSTEMD_UNIT_PATH", unit_path(folder)))?;
        // What it does not know it ignores, and says so.
        let ignored = String::from_utf8_lossy(&said.stderr).into_owned();
        anyhow::ensure!(!ignored.contains(&*folder.to_string_lossy()), "{}", ignored.trim());
        Ok(())
    })
}

/// No directive was lost that closes something.
fn exposure(workspace: &Workspace) -> Result<()> {
    with_copies(workspace, |folder| {
        let mut security = workspace.command("systemd-analyze");
        security.args(["security", "--offline=yes", "--no-pager", "--threshold", MOST_EXPOSED]);
        shell::quiet(security.arg(folder.join(SERVICE))).map(drop)
    })
}

/// The machine's own units after ours.
fn unit_path(folder: &Path) -> String {
    format!("{}:", folder.display())
}

/// Runs with copies of the units whose programs are there: that the packages bring the service's is another
/// test's.
fn with_copies(workspace: &Workspace, test: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = env::temp_dir().join(format!("hvsampler-units-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let copied = [SERVICE, FAILURE].iter().try_for_each(|name| copy(workspace, &folder, name));
    let result = copied.and_then(|()| test(&folder));
    fs::remove_dir_all(&folder)?;
    result
}

fn copy(workspace: &Workspace, folder: &Path, name: &str) -> Result<()> {
    let path: PathBuf = workspace.root.join(FOLDER).join(name);
    let unit = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(fs::write(folder.join(name), unit.replace("/usr/bin/hvsampler", "/bin/true"))?)
}
