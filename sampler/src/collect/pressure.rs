//! Pressure (PSI) of the host or of a control group, from the files that the kernel has for it.

use std::{io, path::PathBuf};

use super::lines;
use crate::model::{Pressure, RESOURCES, Resource, STALLED, Stalled};

/// Bytes of such a file; it has two lines.
const MOST: usize = 4096;

const ALL: [Resource; RESOURCES.len()] = [Resource::Cpu, Resource::Memory, Resource::Io, Resource::Irq];

/// Reads the files of all resources; `path` has that of a resource by its key. What cannot be read is absent:
/// a kernel has no pressure of interrupts, or none at all.
///
/// # Errors
/// What the kernel said of the first file, where none of them can be read.
pub(super) fn read(path: impl Fn(&str) -> PathBuf) -> io::Result<Pressure> {
    let mut pressure = Pressure::default();
    let mut first = None;
    for resource in ALL {
        match lines::read(&path(RESOURCES[resource as usize].key), MOST) {
            Ok(text) => pressure.set(resource, parse(&text)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) if pressure.is_empty() => Err(error),
        _ => Ok(pressure),
    }
}

/// Of lines of the form `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`, in microseconds.
fn parse(text: &str) -> [Option<u64>; STALLED.len()] {
    let of = |stalled: Stalled| {
        let line = text.lines().find_map(|line| line.strip_prefix(STALLED[stalled as usize].key))?;
        let total = line.split(' ').find_map(|field| field.strip_prefix("total="))?;
        total.parse::<u64>().ok()?.checked_mul(1000)
    };
    [of(Stalled::AtLeastOne), of(Stalled::All)]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn totals_are_read_from_their_lines() {
        let some = "some avg10=13.17 avg60=11.23 avg300=11.24 total=14351990800\n";
        let full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(parse(&format!("{some}{full}")), [Some(14_351_990_800_000), Some(7_000)]);
        assert_eq!(parse(some), [Some(14_351_990_800_000), None], "Linux 5.10 has no full of a CPU");
        assert_eq!(parse(full), [None, Some(7_000)], "interrupts have nothing else");
    }

    #[test]
    fn what_is_no_total_is_absent() {
        for text in [
            "",
            "some",
            "some avg10=0.00",
            "some total=",
            "some total=-1",
            "some total=1.5",
            "some total=x",
            "some total=18446744073709551615",
            "some total=99999999999999999999999999",
            "none total=5",
            "\u{fffd}\u{fffd}",
        ] {
            assert_eq!(parse(text), [None; STALLED.len()], "{text:?}");
        }
    }

    #[test]
    fn a_resource_without_a_file_is_absent_and_none_at_all_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let of = |key: &str| dir.path().join(format!("{key}.pressure"));
        assert_eq!(read(of).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(of("memory"), "some avg10=0.00 total=2\nfull avg10=0.00 total=1\n").unwrap();
        fs::write(of("io"), "some avg10=0.00 total=2\nfull avg10=0.00 tot").unwrap();
        let pressure = read(of).unwrap();
        let get =
            |resource| [Stalled::AtLeastOne, Stalled::All].map(|stalled| pressure.get(resource, stalled));
        assert_eq!(get(Resource::Memory), [Some(2_000), Some(1_000)]);
        assert_eq!(get(Resource::Io), [Some(2_000), None], "a line that is cut off");
        assert_eq!(get(Resource::Cpu), [None, None]);
    }
}
