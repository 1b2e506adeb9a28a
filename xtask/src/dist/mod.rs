//! `cargo xtask dist`: the packages. One tree of files is filled for each kind, and packed by the
//! distributions' own tools.

mod binary;
mod deb;
mod image;
mod libraries;
mod rpm;
mod sbom;
mod stage;
mod sysroot;
mod tarball;
pub(crate) mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    apt,
    setup::{self, Need, Purpose},
    shell,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package this binary in place of one that is built against Debian 11's libc.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Make the packages twice from the same binary, and fail when a byte differs.
    #[arg(long)]
    check: bool,
}

/// What is packaged.
#[derive(Debug)]
pub(crate) struct Release<'a> {
    workspace: &'a Workspace,
    binary: PathBuf,
    pub(crate) version: String,
    /// The moment of the last commit, Unix time in s: what every file and package is dated with.
    epoch: u64,
}

impl<'a> Release<'a> {
    pub(crate) fn of(workspace: &'a Workspace, binary: &Path) -> Result<Self> {
        let mut git = workspace.command("git");
        let epoch = shell::read(git.args(["log", "-1", "--format=%ct"])).context("dating the packages")?;
        let epoch = epoch.trim().parse().context("reading the moment of the last commit")?;
        Ok(Self { workspace, binary: binary.to_owned(), version: workspace.version()?, epoch })
    }

    /// The same with another version.
    pub(crate) fn called(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// A program whose output depends on this release alone.
    fn command(&self, program: &str) -> Command {
        let mut command = self.workspace.command(program);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::ensure(workspace, &[Purpose::Build])?;
    setup::install(needs())?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => binary::build(workspace)?,
    };
    let release = Release::of(workspace, &binary)?;
    let out = workspace.target.join("dist");
    let libraries = sysroot::fetch(workspace)?;
    let packages = make(&release, &libraries, &out)?;
    if args.check {
        let again = make(&release, &libraries, &workspace.target.join("dist-again"))?;
        for (one, other) in packages.iter().zip(&again) {
            ensure!(fs::read(one)? == fs::read(other)?, "{} and {} differ", one.display(), other.display());
        }
        println!("dist: made twice, the same bytes");
    }
    for package in &packages {
        println!("dist: {} ({} KiB)", package.display(), fs::metadata(package)?.len() >> 10);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes every package in an empty folder, in this order: Debian's, the tarball, the RPM, the image.
fn make(release: &Release<'_>, libraries: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("emptying {}", out.display()))?;
    }
    fs::create_dir_all(out)?;
    Ok(vec![
        deb::make(release, out)?,
        tarball::make(release, out)?,
        rpm::make(release, out)?,
        image::make(release, libraries, out)?,
    ])
}

/// What the packages are made with and this machine lacks.
pub(crate) fn needs() -> Vec<Need<'static>> {
    let rpm = shell::which("rpmbuild").is_none().then(|| Need {
        what: "Debian package rpm".to_owned(),
        why: "makes the RPM",
        install: Box::new(|| apt::install(&["rpm"])),
    });
    rpm.into_iter().collect()
}
