//! What a group of version 2 asked of a disk.

use std::path::Path;

use super::super::error::{OracleError, read};
use super::group::Group;

/// Counts of `io.stat`, cumulative since the group was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads, before what is next to each other is merged.
    pub reads: u64,
    /// Writes, flushes included.
    pub writes: u64,
    /// Bytes discarded.
    pub discarded_bytes: u64,
}

/// What a group of version 2 asked of a disk, `major:minor`. Nothing where the file has no line of it.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn io_counts(group: &Group, device: &str) -> Result<IoCounts, OracleError> {
    let path = group.path().join("io.stat");
    parse(&path, &read(&path)?, device)
}

fn parse(path: &Path, text: &str, device: &str) -> Result<IoCounts, OracleError> {
    let line = text.lines().find_map(|line| line.strip_prefix(device)?.strip_prefix(' '));
    let Some(line) = line else { return Ok(IoCounts::default()) };
    let value = |key: &str| {
        let pair = line.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        pair.and_then(|value| value.parse().ok())
            .ok_or_else(|| OracleError::format(path, "expected counts", text))
    };
    Ok(IoCounts {
        read_bytes: value("rbytes")?,
        written_bytes: value("wbytes")?,
        reads: value("rios")?,
        writes: value("wios")?,
        discarded_bytes: value("dbytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_disk_is_read() {
        // Rows without a device or without counts, as some kernels write them, are of no disk.
        let text = "(unknown) rbytes=1 wbytes=1\n8:32\n8:1 rbytes=1 wbytes=1 rios=1 wios=1 dbytes=1 dios=1\n\
                    8:16 rbytes=4096 wbytes=512 rios=2 wios=3 dbytes=7 dios=1\n";
        let of = |device| parse(Path::new("io.stat"), text, device).unwrap();
        let expected =
            IoCounts { read_bytes: 4096, written_bytes: 512, reads: 2, writes: 3, discarded_bytes: 7 };
        assert_eq!(of("8:16"), expected);
        assert_eq!([of("8:17"), of("8:32")], [IoCounts::default(); 2]);
        let error = parse(Path::new("/x/io.stat"), "8:16 rbytes=x\n", "8:16").unwrap_err();
        assert!(error.to_string().starts_with("/x/io.stat is not understood"), "{error}");
    }
}
