//! What the host's CPUs spent their time on.

use std::path::Path;

use super::error::{OracleError, read};

/// Times of all CPUs together in clock ticks (100 a second), in the order of `/proc/stat`: user, nice,
/// system, idle, iowait, irq, softirq, steal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTicks(pub [u64; 8]);

impl HostTicks {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn now() -> Result<Self, OracleError> {
        let path = Path::new("/proc/stat");
        let text = read(path)?;
        Self::parse(&text).ok_or_else(|| OracleError::format(path, "expected times of CPUs", &text))
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu  ")?;
        let fields: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        fields.first_chunk().copied().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_read() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(HostTicks::parse(text), Some(HostTicks([1, 2, 3, 4, 5, 6, 7, 8])));
        assert_eq!([HostTicks::parse(""), HostTicks::parse("cpu  1 2 3\n")], [None; 2]);
    }
}
