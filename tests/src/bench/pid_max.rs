//! Room for more threads than the machine usually lets live.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(super) const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// A limit that was raised. It is put back when this goes; threads with larger ids live on.
pub(super) struct Raised {
    path: PathBuf,
    before: String,
}

impl Raised {
    /// Raises the limit to so many where it is lower.
    pub(super) fn to(path: impl AsRef<Path>, wanted: u32) -> Result<Option<Self>> {
        let path = path.as_ref();
        let before = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let before = before.trim().to_owned();
        if before.parse::<u32>().with_context(|| format!("{}: {before:?}", path.display()))? >= wanted {
            return Ok(None);
        }
        fs::write(path, wanted.to_string()).with_context(|| format!("raising {}", path.display()))?;
        println!("{} is {wanted} in place of {before} while this runs", path.display());
        Ok(Some(Self { path: path.to_owned(), before }))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            eprintln!("{} was {} before, and is not any more: {error}", self.path.display(), self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_put_back_and_never_lowered() {
        let path = std::env::temp_dir().join(format!("hvs-pid-max-{}", std::process::id()));
        let limit = || fs::read_to_string(&path).unwrap();
        fs::write(&path, "32768\n").unwrap();
        let raised = Raised::to(&path, 102_000).unwrap();
        assert_eq!(limit(), "102000");
        drop(raised);
        assert_eq!(limit(), "32768");
        assert!(Raised::to(&path, 32_768).unwrap().is_none());
        fs::write(&path, "none\n").unwrap();
        assert!(Raised::to(&path, 1).is_err());
        fs::remove_file(&path).unwrap();
    }
}
