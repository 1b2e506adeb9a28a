//! Bytes that no process of ours wrote.

use super::{
    checks::{bytes, value},
    tests::{Part, Whole},
};
use crate::fuzzing::{Memory, Target};

const KEPT: Target = Target {
    name: "kept",
    words: &["\0\0\0\0", "\u{1}\0\0\0", "\u{7}"],
    inputs: 10_000,
    // What takes a byte where it is absent takes as much room in a list as where it is there.
    memory: Memory { fixed: 256 << 10, each: 64 },
};

fn whole() -> Whole {
    let parts = [Part::Nothing, Part::Something { first: 3, second: true }];
    Whole {
        counts: [1, u64::MAX],
        perhaps: [None, Some(7), None],
        text: "text".to_owned(),
        shared: "shared".into(),
        list: parts.to_vec(),
        several: [1, 2, 3].into(),
        map: [(1, None), (2, Some(parts[1].into()))].into(),
        ..Whole::default()
    }
}

#[test]
fn kept() {
    let made = [bytes(&whole()), bytes(&Whole::default())];
    KEPT.check(&made, |input| {
        if let Some(whole) = value::<Whole>(input) {
            assert_eq!(bytes(&whole), input, "the same value, and other bytes");
        }
    });
}
