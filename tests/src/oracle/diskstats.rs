//! `/proc/diskstats`: what a disk has served since it is there.

use std::path::Path;

use super::error::{OracleError, read};

const PATH: &str = "/proc/diskstats";
/// Sectors are of this size, whatever those of the disk are.
const SECTOR: u64 = 512;

/// Counts of a kind of request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests that ended.
    pub operations: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Time that they took together, ms.
    pub ms: u64,
}

/// A disk's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Diskstats {
    /// Of reads.
    pub reads: Served,
    /// Of writes.
    pub writes: Served,
    /// Of discards.
    pub discards: Served,
}

impl Diskstats {
    /// Those of the disk with this name.
    ///
    /// # Errors
    /// When there is no such disk, or the file is not understood.
    pub fn of(name: &str) -> Result<Self, OracleError> {
        Self::parse(&read(Path::new(PATH))?, name)
    }

    /// What was added since an earlier reading.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        const fn since(now: Served, earlier: Served) -> Served {
            Served {
                operations: now.operations - earlier.operations,
                bytes: now.bytes - earlier.bytes,
                ms: now.ms - earlier.ms,
            }
        }
        Self {
            reads: since(self.reads, earlier.reads),
            writes: since(self.writes, earlier.writes),
            discards: since(self.discards, earlier.discards),
        }
    }

    fn parse(text: &str, name: &str) -> Result<Self, OracleError> {
        let format = |what| OracleError::format(Path::new(PATH), what, text);
        let fields = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let fields = fields.into_iter().find(|fields| fields.get(2) == Some(&name));
        let fields = fields.ok_or_else(|| format("expected a line of the disk"))?;
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let served = |at: usize| {
            // Behind the requests that ended are those that were merged into others.
            Some(Served { operations: number(at)?, bytes: number(at + 2)? * SECTOR, ms: number(at + 3)? })
        };
        let all = || Some(Self { reads: served(3)?, writes: served(7)?, discards: served(14)? });
        all().ok_or_else(|| format("expected counts of reads, writes and discards"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_s_line_is_read() {
        let text = " 254 0 vda 1 0 8 2 3 0 16 4 0 5 6 7 0 24 8 9 10\n 254 1 vda1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let expected = Diskstats {
            reads: Served { operations: 1, bytes: 4096, ms: 2 },
            writes: Served { operations: 3, bytes: 8192, ms: 4 },
            discards: Served { operations: 7, bytes: 12_288, ms: 8 },
        };
        assert_eq!(Diskstats::parse(text, "vda").unwrap(), expected);
        Diskstats::parse(text, "vdb").unwrap_err();
        Diskstats::parse("254 0 vda 1\n", "vda").unwrap_err();
    }
}
