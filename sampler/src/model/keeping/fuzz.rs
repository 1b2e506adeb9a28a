//! Bytes of the model that no process of ours wrote.

use std::fmt::Debug;

use super::*;
use crate::fuzzing::{Memory as Bound, Target};

const MODEL: Target = Target {
    name: "model",
    words: &["\0\0\0\0", "\u{1}\0\0\0", "\u{ff}\u{ff}"],
    inputs: 10_000,
    // Names that are absent take room in a list as well.
    memory: Bound { fixed: 256 << 10, each: 256 },
};

/// What is read is written as a value that is read again as the same.
fn read<T: Keep + PartialEq + Debug>(input: &[u8]) {
    if let Some(one) = value::<T>(input) {
        assert_eq!(value(&bytes(&one)), Some(one));
    }
}

const TYPES: [fn(&[u8]); 9] = [
    read::<Account>,
    read::<DiskCounts>,
    read::<HostState>,
    read::<Vec<Ended>>,
    read::<Vec<Attached>>,
    read::<Attributed>,
    read::<Helpers>,
    read::<Distributions>,
    read::<Origin>,
];

#[test]
fn model() {
    let dice = &mut Dice::new(1);
    let values = [
        bytes(&Account::follow(Reading::default())),
        bytes(&disk(dice)),
        bytes(&host_state(dice)),
        bytes(&vec![ended(dice), ended(dice)]),
        bytes(&vec![attached(dice), attached(dice)]),
        bytes(&attributed(dice)),
        bytes(&helpers(dice)),
        bytes(&Distributions::new(array::from_fn(|_| dice.histogram()))),
        bytes(&Origin::Process { pid: 7 }),
    ];
    // The first byte says of which type the others are.
    let made: Vec<Vec<u8>> = (0_u8..).zip(values).map(|(n, value)| [&[n][..], &value].concat()).collect();
    MODEL.check(&made, |input| {
        if let Some((first, rest)) = input.split_first() {
            TYPES[usize::from(*first) % TYPES.len()](rest);
        }
    });
}
