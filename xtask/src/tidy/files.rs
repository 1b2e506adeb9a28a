//! The files of the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What no check reads: what git and cargo keep for themselves.
const SKIPPED: [&str; 2] = [".git", "target"];

/// A text file.
#[derive(Debug)]
pub(super) struct File {
    /// From the root of the checkout.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    pub(super) fn extension(&self) -> &str {
        self.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }

    /// Whether it lies in one of these folders, or is one of these files.
    pub(super) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// All files with one of these extensions, by name.
pub(super) fn with_extension(root: &Path, extensions: &[&str]) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    collect(root, Path::new(""), &mut paths)?;
    paths.sort();
    let wanted = |path: &PathBuf| {
        path.extension().and_then(|end| end.to_str()).is_some_and(|end| extensions.contains(&end))
    };
    paths.into_iter().filter(wanted).map(|path| read(root, path)).collect()
}

fn read(root: &Path, path: PathBuf) -> Result<File> {
    let text = fs::read_to_string(root.join(&path)).with_context(|| format!("reading {}", path.display()))?;
    Ok(File { path, text })
}

fn collect(root: &Path, relative: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(relative);
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let path = relative.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            collect(root, &path, paths)?;
        } else if kind.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}
