//! Pressure (PSI) of the host, or of a group of version 2.

use std::path::Path;

use super::error::{OracleError, read};

/// Totals of a file of pressure, µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StallTotals {
    /// Time in which some task stood still; absent of interrupts.
    pub some: Option<u64>,
    /// Time in which all did; absent of CPUs up to Linux 5.12.
    pub full: Option<u64>,
}

impl StallTotals {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, as where the kernel measures no pressure, or understood.
    pub fn of(path: &Path) -> Result<Self, OracleError> {
        Self::parse(path, &read(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, OracleError> {
        let total = |word: &str| {
            let line = text.lines().find(|line| line.starts_with(word))?;
            line.rsplit_once("total=")?.1.parse().ok()
        };
        let totals = Self { some: total("some "), full: total("full ") };
        let is_known = totals.some.or(totals.full).is_some();
        if is_known { Ok(totals) } else { Err(OracleError::format(path, "expected totals", text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_and_a_file_without_any_is_an_error() {
        let of = |text| StallTotals::parse(Path::new("/x/io.pressure"), text);
        let (some, full) =
            ("some avg10=0.00 avg300=0.00 total=12\n", "full avg10=0.00 avg300=0.00 total=7\n");
        let both = format!("{some}{full}");
        assert_eq!(of(&both).unwrap(), StallTotals { some: Some(12), full: Some(7) });
        assert_eq!(of(full).unwrap(), StallTotals { some: None, full: Some(7) });
        let error = of("some avg10=0.00\n").unwrap_err();
        assert!(error.to_string().starts_with("/x/io.pressure is not understood"), "{error}");
    }
}
