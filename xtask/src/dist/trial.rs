//! The packages under the real package managers: installed, upgraded, removed and purged, in a copy of this
//! machine's file system that is thrown away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{Release, deb, image, rpm};
use crate::{shell, tally::Tally, workspace::Workspace};

const NAMES: [&str; 2] = ["packages.deb", "packages.rpm"];
/// What the copy is made with, and what is done in it.
const SCRIPTS: [&str; 2] = [include_str!("trial-deb.sh"), include_str!("trial-rpm.sh")];
const ROOM: &str = include_str!("trial.sh");
/// The image, and what its container is to show of the host.
const IMAGE: &str = "packages.image";
const CONTAINER: &str = include_str!("trial-image.sh");
/// The version of the package that is upgraded to.
const NEXT: &str = "99.0.0";

/// Installs the binary of the release profile, which is built, in packages of two versions.
pub(crate) fn tests(workspace: &Workspace) -> Result<Tally> {
    let needed: [&[&str]; 2] = [&["dpkg-deb", "deb-systemd-helper"], &["rpmbuild", "rpm"]];
    let mut tally = Tally::default();
    for ((name, programs), script) in NAMES.iter().zip(needed).zip(SCRIPTS) {
        let missing = programs.iter().find(|program| shell::which(program).is_none());
        tally += match missing {
            Some(program) => Tally::skip(name, format_args!("{program} is not installed")),
            None => Tally::of(name, || try_out(workspace, name, script)),
        };
    }
    tally += match (!Path::new("/dev/kvm").exists()).then_some("/dev/kvm is missing") {
        Some(why) => Tally::skip(IMAGE, why),
        None => Tally::of(IMAGE, || try_image(workspace)),
    };
    Ok(tally)
}

/// Unpacks the image, with the libraries of this machine that its binary is linked against, and runs it in
/// namespaces of its own beside a guest of the host's.
fn try_image(workspace: &Workspace) -> Result<()> {
    let folder = emptied(workspace, IMAGE)?;
    let release = Release::of(workspace, &workspace.release_binary("hvsampler"))?;
    let package = image::make(&release, Path::new("/"), &made(&folder, "out")?)?;
    let mut trial = workspace.command("unshare");
    trial.args(["--mount", "--uts", "--fork", "--kill-child", "sh", "-euc", CONTAINER, "trial"]);
    let trial = trial.arg(&package).arg(workspace.release_binary("tiny-vmm")).arg(made(&folder, "room")?);
    judge(IMAGE, trial)
}

fn try_out(workspace: &Workspace, name: &str, script: &str) -> Result<()> {
    let folder = emptied(workspace, name)?;
    let binary = workspace.release_binary("hvsampler");
    let package = |release: &Release<'_>, out: &str| match name {
        "packages.deb" => deb::make(release, &made(&folder, out)?),
        _ => rpm::make(release, &made(&folder, out)?),
    };
    let release = Release::of(workspace, &binary)?;
    let (version, first) = (release.version.clone(), package(&release, "first")?);
    let next = package(&release.called(NEXT), "next")?;
    let room = folder.join("room");
    fs::create_dir(&room)?;
    let mut trial = workspace.command("unshare");
    trial.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc"]).arg(format!("{ROOM}\n{script}"));
    let trial = trial.arg("trial").args([&first, &next]).args([&version, NEXT]).arg(&room);
    judge(name, trial)
}

fn judge(name: &str, trial: &mut Command) -> Result<()> {
    let said = shell::read(trial).with_context(|| format!("trying {name} out"))?;
    ensure!(said.trim_end().ends_with("all is as it should be"), "{name} says {said:?}");
    Ok(())
}

fn emptied(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("trial").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    Ok(folder)
}

/// The Debian package of the binary of the release profile, which is built, in two versions.
pub(crate) fn two_debs(workspace: &Workspace, folder: &Path) -> Result<[PathBuf; 2]> {
    let release = Release::of(workspace, &workspace.release_binary("hvsampler"))?;
    let first = deb::make(&release, &made(folder, "first")?)?;
    Ok([first, deb::make(&release.called(NEXT), &made(folder, "next")?)?])
}

fn made(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// Why there can be no copy of the file system, with what the user does about it.
pub(crate) fn cannot_run() -> Option<&'static str> {
    (!shell::is_root()).then_some("needs root; run this command as root")
}
