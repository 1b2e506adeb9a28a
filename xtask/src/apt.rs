//! Debian packages: of any suite, fetched and unpacked without touching the machine's own apt state; and
//! installed on the machine, where they cannot be used otherwise.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{shell, workspace::Workspace};

/// Signs every suite from bullseye on; part of Debian's base system.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite with package lists of its own.
pub(crate) struct Suite {
    name: String,
    state: PathBuf,
}

impl Suite {
    /// Fetches the suite's package lists from the mirror that the machine's apt uses.
    pub(crate) fn open(workspace: &Workspace, name: &str) -> Result<Self> {
        let state = workspace.cache.path("apt").join(name);
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(folder))
                .with_context(|| format!("creating {}", state.join(folder).display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {name} main\n", mirror()?);
        fs::write(state.join("sources.list"), source)?;
        let suite = Self { name: name.to_owned(), state };
        shell::quiet(suite.apt("apt-get").args(["-qq", "update"]))
            .with_context(|| format!("Debian's {name} cannot be had; check the network and apt's mirror"))?;
        Ok(suite)
    }

    /// Packages that the package depends on, alternatives left out.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let record = shell::read(self.apt("apt-cache").args(["show", "--no-all-versions", package]))
            .with_context(|| format!("looking for {package} in Debian's {}", self.name))?;
        Ok(parse_depends(&record))
    }

    /// Downloads the packages and unpacks them into `tree`.
    pub(crate) fn unpack(&self, packages: &[String], tree: &Path) -> Result<()> {
        let debs = tree.with_extension("debs");
        fs::create_dir_all(&debs)?;
        let mut download = self.apt("apt-get");
        shell::quiet(download.arg("-qq").arg("download").args(packages).current_dir(&debs))
            .with_context(|| format!("downloading from Debian's {}", self.name))?;
        for deb in fs::read_dir(&debs)? {
            shell::quiet(Command::new("dpkg").arg("-x").arg(deb?.path()).arg(tree))?;
        }
        fs::remove_dir_all(&debs)?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, value) in [
            ("Dir::Etc::sourcelist", self.state.join("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::lists", self.state.join("lists")),
            // What this machine has installed is of another suite, and apt would rather have that version.
            ("Dir::State::status", "/dev/null".into()),
            ("Dir::Cache::archives", self.state.join("archives")),
            ("Dir::Cache::pkgcache", PathBuf::new()),
            ("Dir::Cache::srcpkgcache", PathBuf::new()),
            // apt's own user cannot write into a home directory.
            ("APT::Sandbox::User", "root".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
            ("APT::Architecture", "amd64".into()),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command
    }
}

/// Installs packages on this machine.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if shell::which("apt-get").is_none() || !shell::is_root() {
        bail!(
            "run `sudo apt-get install --no-install-recommends {list}`, or install what is called so elsewhere"
        );
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::quiet(apt().arg("update")).context("apt-get cannot reach its mirror")?;
    shell::quiet(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
        .with_context(|| format!("Debian packages {list} cannot be had; check apt's sources"))?;
    Ok(())
}

/// The archive that this machine's apt takes Debian itself from.
fn mirror() -> Result<String> {
    let targets = shell::read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let Some(mirror) = parse_mirror(&targets) else {
        bail!("apt has no source of Debian's main archive; add one to /etc/apt/sources.list");
    };
    Ok(mirror.to_owned())
}

/// The main archive is the one whose path ends in `debian`, which no companion archive does.
fn parse_mirror(targets: &str) -> Option<&str> {
    targets
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .find(|(uri, component)| *component == "main" && uri.trim_end_matches('/').ends_with("/debian"))
        .map(|(uri, _)| uri)
}

fn parse_depends(record: &str) -> Vec<String> {
    let Some(list) = record.lines().find_map(|line| line.strip_prefix("Depends: ")) else {
        return Vec::new();
    };
    list.split(", ")
        .filter(|entry| !entry.contains('|'))
        .filter_map(|entry| Some(entry.split([' ', ':']).next()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_not_taken_for_its_companions() {
        let targets = "http://mirror.example/debian-security/ main\n\
                       https://vendor.example/apt/ main\n\
                       http://mirror.example/debian/ contrib\n\
                       http://mirror.example/debian/ main\n";
        assert_eq!(parse_mirror(targets), Some("http://mirror.example/debian/"));
        assert_eq!(parse_mirror("https://vendor.example/apt/ main\n"), None);
    }

    #[test]
    fn versions_and_alternatives_are_dropped() {
        let record = "Package: a\nDepends: dracut | initramfs-tools (>= 1), linux-binary-7 (= 7-1), kmod:any\nSize: 1\n";
        assert_eq!(parse_depends(record), ["linux-binary-7", "kmod"]);
        assert!(parse_depends("Package: a\n").is_empty());
    }
}
