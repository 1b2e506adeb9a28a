//! Small text files of the kernel's, read with a bound.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Reads the whole lines among so many first bytes of a file: what is cut off would be a wrong number.
pub(super) fn read(path: &Path, most: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.truncate(whole);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes of the line `KEY:   123 kB`.
pub(super) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| *name == key)?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_cut_off_is_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"one 1\ntwo \xff 22\nthree 333").unwrap();
        assert_eq!(read(&path, 100).unwrap(), "one 1\ntwo \u{fffd} 22\n");
        assert_eq!(read(&path, 8).unwrap(), "one 1\n");
        assert_eq!(read(&path, 5).unwrap(), "");
        assert!(read(&dir.path().join("none"), 5).is_err());
    }

    #[test]
    fn sizes_are_read_from_their_lines() {
        let text = "A: 1 kB\nAB:\t  12 kB\nB: 5\nC: 18446744073709551615 kB\nD: x kB\n";
        let of = |key| kilobytes(text, key);
        assert_eq!((of("A"), of("AB")), (Some(1024), Some(12 * 1024)));
        assert_eq!([of("B"), of("C"), of("D"), of("E"), of("")], [None; 5]);
    }
}
