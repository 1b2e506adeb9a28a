//! The folder of a target's seeds.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The seeds of one target.
#[derive(Clone)]
pub(super) struct Seeds(PathBuf);

impl Seeds {
    pub(super) fn of(name: &str) -> Self {
        Self::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name))
    }

    pub(super) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// All of them, by the names of their files.
    pub(super) fn read(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(&self.0).into_iter().flatten().flatten().collect();
        paths.sort_by_key(fs::DirEntry::file_name);
        paths.iter().map(|entry| fs::read(entry.path()).expect("a seed can be read")).collect()
    }

    /// Keeps an input that fails; one that is a seed already stays where it is. Returns where it is.
    pub(super) fn keep(&self, input: &[u8]) -> PathBuf {
        let known = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        if let Some(path) = known.into_iter().find(|path| fs::read(path).is_ok_and(|seed| seed == input)) {
            return path;
        }
        let path = self.0.join(format!("failed-{:016x}", hash(input)));
        fs::create_dir_all(&self.0).expect("the folder of seeds can be made");
        fs::write(&path, input).expect("a seed can be written");
        path
    }
}

/// FNV-1a: a name that is the same on every machine.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
