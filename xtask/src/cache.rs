//! Downloads and tools outside the repository, each folder sealed by a list of digests.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::shell;

/// Name of the digest list in a sealed folder, in the format of `sha256sum`.
const SEAL: &str = "SHA256SUMS";

/// `$XDG_CACHE_HOME/hvsampler`, or `~/.cache/hvsampler`.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(crate) fn of_user() -> Result<Self> {
        let base = env::var_os("XDG_CACHE_HOME")
            .filter(|path| Path::new(path).is_absolute())
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set; set one of them")?;
        Ok(Self { root: base.join("hvsampler") })
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the sealed folder is there and holds what was sealed.
    pub(crate) fn holds(folder: &Path) -> bool {
        folder.join(SEAL).exists()
            && Command::new("sha256sum")
                .args(["--check", "--status", "--strict", SEAL])
                .current_dir(folder)
                .stdin(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }

    /// Makes sure that the sealed folder is there, calling `fill` with an empty one when it is
    /// missing or damaged. Nothing half-filled is ever seen under the final name, also when two
    /// runs fill at once.
    pub(crate) fn filled(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if Self::holds(folder) {
            return Ok(());
        }
        if folder.exists() {
            eprintln!("xtask: {} does not match its digests: fetching it again", folder.display());
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        let name = folder.file_name().context("a cache folder needs a name")?.to_string_lossy();
        let staging = folder.with_file_name(format!(".{name}.{}", process::id()));
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging).with_context(|| format!("creating {}", staging.display()))?;
        let result = fill(&staging).and_then(|()| seal(&staging)).and_then(|()| publish(&staging, folder));
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        result
    }
}

fn publish(staging: &Path, folder: &Path) -> Result<()> {
    match fs::rename(staging, folder) {
        Err(_) if Cache::holds(folder) => Ok(()),
        result => result.with_context(|| format!("moving {} into place", folder.display())),
    }
}

fn seal(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect_files(folder, Path::new("."), &mut files)?;
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{} is empty: nothing to seal", folder.display());
    let digests = shell::read(Command::new("sha256sum").arg("--").args(&files).current_dir(folder))?;
    fs::write(folder.join(SEAL), digests)
        .with_context(|| format!("writing the digests of {}", folder.display()))
}

fn collect_files(root: &Path, relative: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(relative);
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let path = relative.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect_files(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("xtask-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_damaged_folder_is_filled_again_and_a_whole_one_is_not() {
        let scratch = Scratch::new("cache");
        let folder = scratch.0.join("tool");
        let mut fills = 0;
        let mut fill = |dir: &Path| {
            fills += 1;
            fs::create_dir(dir.join("bin"))?;
            Ok(fs::write(dir.join("bin/tool"), "content")?)
        };
        Cache::filled(&folder, &mut fill).unwrap();
        Cache::filled(&folder, &mut fill).unwrap();
        fs::write(folder.join("bin/tool"), "contents").unwrap();
        assert!(!Cache::holds(&folder));
        Cache::filled(&folder, &mut fill).unwrap();
        assert_eq!(fs::read_to_string(folder.join("bin/tool")).unwrap(), "content");
        assert_eq!(fills, 2);
    }

    #[test]
    fn a_failed_fill_leaves_nothing() {
        let scratch = Scratch::new("failed-fill");
        let folder = scratch.0.join("tool");
        Cache::filled(&folder, |_| anyhow::bail!("no network")).unwrap_err();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }
}
