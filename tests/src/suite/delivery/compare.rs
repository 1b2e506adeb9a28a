//! The comparison of what was counted with what was received, point by point.

use std::collections::BTreeMap;
use std::fmt;

use super::point::{Point, Series};

/// A difference between what was counted and what was received.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deviation {
    /// Counted and not received.
    Missing(Point),
    /// Received and not counted.
    Extra(Point),
    /// Received more than once.
    Twice(Point),
    /// Received with another time.
    Time { counted: Point, received: Point },
    /// Received with another start of its series.
    Start { counted: Point, received: Point },
    /// One has a value and the other ends its series.
    End { counted: Point, received: Point },
    /// Received with another value.
    Value { counted: Point, received: Point },
}

impl Deviation {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Extra(_) => "extra",
            Self::Twice(_) => "twice",
            Self::Time { .. } => "of another time",
            Self::Start { .. } => "of another start",
            Self::End { .. } => "ended on one side only",
            Self::Value { .. } => "of another value",
        }
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(point) | Self::Extra(point) | Self::Twice(point) => {
                write!(out, "{}: {point}", self.kind())
            }
            Self::Time { counted, received }
            | Self::Start { counted, received }
            | Self::End { counted, received }
            | Self::Value { counted, received } => {
                write!(out, "{}: counted {counted}; received {received}", self.kind())
            }
        }
    }
}

/// Every deviation between the two sides. The order of points does not matter here.
pub(super) fn compare(counted: &[Point], received: &[Point]) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    let mut open: BTreeMap<Key, &Point> = counted.iter().map(|point| (key(point), point)).collect();
    let mut settled: BTreeMap<Key, ()> = BTreeMap::new();
    let mut extra = Vec::new();
    for point in received {
        if let Some(counted) = open.remove(&key(point)) {
            deviations.extend(deviation(counted, point));
            settled.insert(key(point), ());
        } else if settled.contains_key(&key(point)) {
            deviations.push(Deviation::Twice(point.clone()));
        } else {
            extra.push(point);
        }
    }
    for point in extra {
        let same = |other: &Point| {
            other.series == point.series
                && other.start_unix_ns == point.start_unix_ns
                && other.value == point.value
        };
        let moved = open.iter().find(|(_, other)| same(other)).map(|(key, _)| *key);
        deviations.push(match moved.and_then(|key| open.remove(&key)) {
            Some(counted) => Deviation::Time { counted: counted.clone(), received: point.clone() },
            None => Deviation::Extra(point.clone()),
        });
    }
    deviations.extend(open.into_values().map(|point| Deviation::Missing(point.clone())));
    deviations
}

/// How many deviations there are of each kind, and the first of them in full.
pub(super) fn summary(deviations: &[Deviation]) -> String {
    const SHOWN: usize = 3;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for deviation in deviations {
        *kinds.entry(deviation.kind()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let shown: Vec<String> = deviations.iter().take(SHOWN).map(ToString::to_string).collect();
    format!("points {}; first {}", kinds.join(", "), shown.join(" | "))
}

type Key<'a> = (u64, &'a Series);

const fn key(point: &Point) -> Key<'_> {
    (point.at_unix_ns, &point.series)
}

fn deviation(counted: &Point, received: &Point) -> Option<Deviation> {
    let pair = || (counted.clone(), received.clone());
    if counted.is_end() != received.is_end() {
        let (counted, received) = pair();
        Some(Deviation::End { counted, received })
    } else if counted.value != received.value {
        let (counted, received) = pair();
        Some(Deviation::Value { counted, received })
    } else if counted.start_unix_ns != received.start_unix_ns {
        let (counted, received) = pair();
        Some(Deviation::Start { counted, received })
    } else {
        None
    }
}
