//! The service under AppArmor's profile, which an administrator has loaded.

use std::fs;
use std::path::Path;

use anyhow::ensure;

use super::systemd::{UNIT, journal, number, said, systemctl, wait_until};
use super::{GUEST, guest, package};
use crate::runner::{Context, Outcome};

/// Where the package puts the profile.
const PROFILE: &str = "/usr/share/hvsampler/apparmor/hvsampler";
/// What the kernel calls it.
const NAME: &str = "hvsampler";

/// The profile, taken out of the kernel again at the end.
struct Loaded;

impl Loaded {
    fn load() -> anyhow::Result<Self> {
        said("apparmor_parser", &["--replace", "--skip-cache", PROFILE])?;
        Ok(Self)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Err(error) = said("apparmor_parser", &["--remove", PROFILE]) {
            eprintln!("the profile stays: {error:#}");
        }
    }
}

/// The profile takes nothing that the service needs: it starts, names a guest, reads its configuration again,
/// answers and stops, and the kernel has refused nothing. What it does not need is refused.
pub(super) fn confined(context: &Context) -> anyhow::Result<Outcome> {
    package::fresh(None)?;
    systemctl(&["stop", UNIT])?;
    let before = refused()?.len();
    let _profile = Loaded::load()?;
    systemctl(&["start", UNIT])?;
    let under = fs::read_to_string(format!("/proc/{}/attr/current", number("MainPID")?))?;
    ensure!(under.trim() == format!("{NAME} (enforce)"), "it runs under {under:?}");
    let _guest = guest(context)?;
    let is_named =
        || Ok(journal()?.lines().any(|line| line.contains("guest appeared") && line.contains(GUEST)));
    wait_until("the guest is seen by its name", is_named)?;
    systemctl(&["reload", UNIT])?;
    wait_until("it is read again", || Ok(journal()?.contains("configuration read again")))?;
    said("hvsampler", &["status"])?;
    systemctl(&["stop", UNIT])?;
    ensure!(super::property("Result")? == "success", "it ended with {}", super::property("Result")?);
    let refusals = refused()?.split_off(before);
    ensure!(refusals.is_empty(), "the kernel has refused: {refusals:#?}");

    const PAGES: &str = "/etc/hvs-pages";
    let written = said("aa-exec", &["--profile", NAME, "--", "/usr/bin/hvsampler", "pages", PAGES]);
    ensure!(written.is_err() && !Path::new(PAGES).exists(), "under the profile it writes to {PAGES}");
    // So refusals are seen, above too.
    let is_seen = || Ok(refused()?.iter().any(|line| line.contains(PAGES)));
    wait_until("that is among what the kernel has refused", is_seen)?;
    Ok(Outcome::Passed(format!("it ran as {}", under.trim())))
}

/// What the kernel has refused to whatever runs under the profile.
fn refused() -> anyhow::Result<Vec<String>> {
    let log = said(
        "journalctl",
        &["--boot", "--no-pager", "--output=cat", "_TRANSPORT=kernel", "+", "_TRANSPORT=audit"],
    )?;
    let ours = |line: &&str| line.contains("DENIED") && line.contains(&format!("profile=\"{NAME}\""));
    Ok(log.lines().filter(ours).map(str::to_owned).collect())
}
