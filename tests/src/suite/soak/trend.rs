//! Whether a value grows.

/// Slope of values over time by least squares, per second; `None` of fewer than two moments.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (at, value) = (mean(|(at, _)| *at), mean(|(_, value)| *value));
    let together: f64 = points.iter().map(|point| (point.0 - at) * (point.1 - value)).sum();
    let spread: f64 = points.iter().map(|point| (point.0 - at).powi(2)).sum();
    (spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Option<f64> {
        slope(&(0..).map(f64::from).zip(values.iter().copied()).collect::<Vec<_>>())
    }

    #[test]
    fn what_grows_has_its_pace_and_what_swings_has_none() {
        assert_eq!(of(&[5.0, 7.0, 9.0, 11.0]), Some(2.0));
        assert_eq!(of(&[3.0, 3.0, 3.0]), Some(0.0));
        assert_eq!(of(&[4.0, 0.0, 0.0, 4.0]), Some(0.0));
        assert!(of(&[4.0, 3.0, 5.0, 2.0]).unwrap() < 0.0);
        assert_eq!([of(&[]), of(&[1.0])], [None, None]);
    }
}
