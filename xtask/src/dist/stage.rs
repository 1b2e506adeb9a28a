//! The tree of files that a package installs.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use super::{Release, libraries, sbom};
use crate::shell;

const DOC: &str = "usr/share/doc/hvsampler";
const SHARE: &str = "usr/share/hvsampler";
/// What an administrator changes, and an upgrade keeps.
pub(super) const CONFIG: &str = "etc/hvsampler/config.toml";

/// Files of the checkout: where they are, where they go, and their mode.
const FILES: [(&str, &str, u32); 21] = [
    // It may hold an authorization header.
    ("otel-config/hvsampler.toml", CONFIG, 0o600),
    ("xtask/packaging/hvsampler.service", "usr/lib/systemd/system/hvsampler.service", 0o644),
    (
        "xtask/packaging/hvsampler-failure@.service",
        "usr/lib/systemd/system/hvsampler-failure@.service",
        0o644,
    ),
    ("otel-config/node.yaml", "usr/share/hvsampler/otel-config/node.yaml", 0o644),
    ("otel-config/builder.yaml", "usr/share/hvsampler/otel-config/builder.yaml", 0o644),
    ("otel-config/daemonset.yaml", "usr/share/hvsampler/otel-config/daemonset.yaml", 0o644),
    ("xtask/packaging/apparmor/hvsampler", "usr/share/hvsampler/apparmor/hvsampler", 0o644),
    ("docs/registry.yaml", "usr/share/hvsampler/registry.yaml", 0o644),
    ("LICENSE-APACHE", "usr/share/doc/hvsampler/LICENSE-APACHE", 0o644),
    ("LICENSE-GPL2", "usr/share/doc/hvsampler/LICENSE-GPL2", 0o644),
    ("LICENSE-MIT", "usr/share/doc/hvsampler/LICENSE-MIT", 0o644),
    ("xtask/packaging/deb/copyright", "usr/share/doc/hvsampler/copyright", 0o644),
    ("CHANGELOG.md", "usr/share/doc/hvsampler/CHANGELOG.md", 0o644),
    ("README.md", "usr/share/doc/hvsampler/README.md", 0o644),
    ("docs/cost.md", "usr/share/doc/hvsampler/cost.md", 0o644),
    ("docs/kernels.md", "usr/share/doc/hvsampler/kernels.md", 0o644),
    ("docs/meaning.md", "usr/share/doc/hvsampler/meaning.md", 0o644),
    ("docs/metrics.md", "usr/share/doc/hvsampler/metrics.md", 0o644),
    ("docs/operations.md", "usr/share/doc/hvsampler/operations.md", 0o644),
    ("docs/queries.md", "usr/share/doc/hvsampler/queries.md", 0o644),
    ("docs/security.md", "usr/share/doc/hvsampler/security.md", 0o644),
];

/// What the image has beside the binary: where it is in the checkout, and in the image.
const IN_IMAGE: [(&str, &str); 4] = [
    ("LICENSE-APACHE", "usr/share/doc/hvsampler/LICENSE-APACHE"),
    ("LICENSE-GPL2", "usr/share/doc/hvsampler/LICENSE-GPL2"),
    ("LICENSE-MIT", "usr/share/doc/hvsampler/LICENSE-MIT"),
    ("xtask/packaging/deb/copyright", "usr/share/doc/hvsampler/copyright"),
];
/// Whose libraries the binary runs with.
const OF_LIBRARIES: [&str; 2] = ["usr/share/doc/libc6/copyright", "usr/share/doc/libgcc-s1/copyright"];
/// Folders that others are mounted at, or that the service writes to.
const EMPTY: [&str; 5] = ["host", "proc", "sys", "run", "etc/hvsampler"];

/// Where a distribution's shell looks for completions of zsh.
#[derive(Clone, Copy)]
pub(super) enum Zsh {
    Debian,
    Others,
}

impl Zsh {
    const fn folder(self) -> &'static str {
        match self {
            Self::Debian => "usr/share/zsh/vendor-completions",
            Self::Others => "usr/share/zsh/site-functions",
        }
    }
}

/// A filled tree.
pub(super) struct Stage {
    pub(super) root: PathBuf,
}

impl Stage {
    /// Fills an empty folder. Modes and dates do not depend on this machine.
    pub(super) fn fill(release: &Release<'_>, zsh: Zsh, root: &Path) -> Result<Self> {
        let stage = Self { root: root.to_owned() };
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        for (from, to, mode) in FILES {
            stage.copy(&release.workspace.root.join(from), to, mode)?;
        }
        stage.schemas(release)?;
        stage.binary(release)?;
        stage.pages(release, zsh)?;
        stage.write(&format!("{DOC}/hvsampler.cdx.json"), &sbom::of(release)?, 0o644)?;
        stage.date(release)?;
        Ok(stage)
    }

    /// The same for a container: the binary, what it runs with, and licences.
    pub(super) fn image(release: &Release<'_>, tree: &Path, root: &Path) -> Result<Self> {
        let stage = Self { root: root.to_owned() };
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        for (from, to) in IN_IMAGE {
            stage.copy(&release.workspace.root.join(from), to, 0o644)?;
        }
        for path in OF_LIBRARIES {
            stage.copy(&tree.join(path), path, 0o644)?;
        }
        for (to, from) in libraries::of(release, &release.binary, tree)? {
            stage.copy(&from, &to, 0o755)?;
        }
        for folder in EMPTY {
            fs::create_dir_all(root.join(folder))?;
        }
        stage.binary(release)?;
        stage.write(&format!("{DOC}/hvsampler.cdx.json"), &sbom::of(release)?, 0o644)?;
        stage.date(release)?;
        Ok(stage)
    }

    /// The files by name, without the root.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let (mut files, _) = self.walk()?;
        files.sort();
        Ok(files)
    }

    /// Without debug information, which is most of it.
    fn binary(&self, release: &Release<'_>) -> Result<()> {
        let to = "usr/bin/hvsampler";
        self.copy(&release.binary, to, 0o755)?;
        shell::quiet(release.command("strip").arg("--strip-debug").arg(self.root.join(to)))?;
        Ok(())
    }

    fn schemas(&self, release: &Release<'_>) -> Result<()> {
        let folder = release.workspace.root.join("sampler/schema");
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().context("a schema without a name")?.to_string_lossy();
            self.copy(&path, &format!("{SHARE}/schema/{name}"), 0o644)?;
        }
        Ok(())
    }

    /// Manual pages and completions, as the binary writes them.
    fn pages(&self, release: &Release<'_>, zsh: Zsh) -> Result<()> {
        let folder = self.root.with_extension("pages");
        shell::quiet(release.command(&release.binary.to_string_lossy()).arg("pages").arg(&folder))?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().context("a page without a name")?.to_string_lossy();
            if name.ends_with(".8") {
                let packed = shell::quiet(release.command("gzip").args(["-9nc"]).arg(&path))?.stdout;
                self.write(&format!("usr/share/man/man8/{name}.gz"), &packed, 0o644)?;
            } else {
                let to = match &*name {
                    "_hvsampler" => format!("{}/_hvsampler", zsh.folder()),
                    "hvsampler.bash" => "usr/share/bash-completion/completions/hvsampler".to_owned(),
                    other => format!("usr/share/fish/vendor_completions.d/{other}"),
                };
                self.copy(&path, &to, 0o644)?;
            }
        }
        Ok(fs::remove_dir_all(folder)?)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        self.write(to, &fs::read(from).with_context(|| format!("reading {}", from.display()))?, mode)
    }

    fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.root.join(to);
        fs::create_dir_all(path.parent().context("a file without folder")?)?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(mode))?)
    }

    /// The same date for all, and the same mode for all folders.
    pub(super) fn date(&self, release: &Release<'_>) -> Result<()> {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(release.epoch);
        let (files, mut folders) = self.walk()?;
        // Deepest first: what is done inside a folder dates it anew.
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
        for folder in &folders {
            fs::set_permissions(self.root.join(folder), Permissions::from_mode(0o755))?;
        }
        for path in files.iter().chain(&folders) {
            File::open(self.root.join(path))?.set_modified(date)?;
        }
        Ok(())
    }

    /// Files and folders, without the root; the root itself is among the folders.
    fn walk(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            for entry in fs::read_dir(self.root.join(&folder))? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if entry.file_type()?.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        Ok((files, folders))
    }
}
