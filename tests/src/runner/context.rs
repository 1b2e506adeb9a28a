//! What a test is given.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::host;

/// A test's surroundings.
#[derive(Debug)]
pub struct Context {
    directory: PathBuf,
}

impl Context {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// An empty directory of the test's own; it is removed when the test is over.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Path of one of the workspace's binaries, built beside the running one.
    ///
    /// # Errors
    /// When it was not built.
    pub fn binary(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = host::sibling(name).context("the path of the running binary cannot be read")?;
        ensure!(
            path.is_file(),
            "{} is missing; build the workspace first (cargo xtask build)",
            path.display()
        );
        Ok(path)
    }

    /// Prints something worth knowing above the test's line.
    pub fn detail(&self, text: impl fmt::Display) {
        println!("  {text}");
    }

    /// Whether the test runs inside a lab kernel: everything there is emulated and slow.
    #[must_use]
    pub fn in_lab(&self) -> bool {
        host::in_lab()
    }
}
