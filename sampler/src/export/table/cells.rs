//! How values are written in cells.

/// What is not known.
pub(super) const ABSENT: &str = "-";

/// A number with so many decimals.
pub(super) fn number(value: Option<f64>, decimals: usize) -> Option<String> {
    value.map(|value| format!("{value:.decimals$}"))
}

/// An upper bound in seconds, in the unit that leaves one to three digits before the point.
pub(super) fn bound(seconds: f64) -> String {
    let (value, unit) = match seconds {
        infinite if infinite.is_infinite() => return ">256 s".to_owned(),
        short if short < 1e-3 => (short * 1e6, "us"),
        medium if medium < 1.0 => (medium * 1e3, "ms"),
        long => (long, "s"),
    };
    format!("{value:.1} {unit}")
}

/// Bytes in the unit that leaves one to three digits before the point, with one decimal.
pub(super) fn bytes(value: f64) -> String {
    let (value, unit) = in_unit(value, 999.95);
    if unit == UNITS[0] { format!("{value:.0} B") } else { format!("{value:.1} {unit}") }
}

/// Bytes with two or three digits: at most six characters up to a thousand terabytes.
pub(super) fn short_bytes(value: f64) -> String {
    let (value, unit) = in_unit(value, 999.5);
    let decimals = usize::from(value < 9.95 && unit != UNITS[0]);
    format!("{value:.decimals$} {unit}")
}

const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];

/// In the first unit in which it is less than so much; whole bytes are rounded first.
fn in_unit(mut value: f64, most: f64) -> (f64, &'static str) {
    let mut unit = 0;
    while value >= (if unit == 0 { 999.5 } else { most }) && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    (value, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_is_read_at_once() {
        let shown = [0.0, 999.0, 999.6, 1536.0, 999_949.0, 999_960.0, 3e6, 7.25e12, 2e18].map(bytes);
        let expected =
            ["0 B", "999 B", "1.0 kB", "1.5 kB", "999.9 kB", "1.0 MB", "3.0 MB", "7.2 TB", "2000000.0 TB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn short_bytes_take_six_characters() {
        let shown = [0.0, 999.4, 999.6, 9_949.0, 9_951.0, 999_499.0, 999_501.0, 123e9].map(short_bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "123 GB"]);
        assert!((0..14).all(|power| short_bytes(9.999 * 10_f64.powi(power)).len() <= 6));
    }
}
