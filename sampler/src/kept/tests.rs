//! Values of all forms.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection, option, prelude::*};

use super::{
    checks::{bytes, bytes_by, is_as_it_was, value},
    *,
};

/// A row of a table.
struct Word {
    key: &'static str,
}

const WORDS: &[Word] = &[Word { key: "one" }, Word { key: "two" }];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) numbers: (u8, u16, u32, u64),
    pub(super) below: i64,
    pub(super) is_so: bool,
    pub(super) counts: [u64; WORDS.len()],
    pub(super) perhaps: [Option<u32>; 3],
    pub(super) text: String,
    pub(super) shared: Arc<str>,
    pub(super) list: Vec<Part>,
    pub(super) several: Arc<[u64]>,
    pub(super) map: BTreeMap<u16, Option<Arc<Part>>>,
    pub(super) passing: u32,
    pub(super) begins: u32,
}

kept! {
    Whole { numbers, below, is_so, counts in WORDS, perhaps, text, shared, list, several, map }
    anew { passing, begins = 9 }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    #[default]
    Nothing,
    Something {
        first: u32,
        second: bool,
    },
}

kept! { enum Part { 0 = Nothing, 7 = Something { first: u32, second: bool } } }

#[derive(Debug, PartialEq, Eq)]
struct Only([u16; 2]);

kept! { Only(only in WORDS) }

#[derive(Debug, PartialEq, Eq)]
struct Pair<A, B> {
    one: A,
    other: B,
}

kept! { <A, B> Pair { one, other } }

fn part() -> impl Strategy<Value = Part> {
    option::of(any::<(u32, bool)>())
        .prop_map(|part| part.map_or(Part::Nothing, |(first, second)| Part::Something { first, second }))
}

fn whole() -> impl Strategy<Value = Whole> {
    let numbers = any::<((u8, u16, u32, u64), i64, bool, [u64; 2], [Option<u32>; 3])>();
    let lists = (
        collection::vec(part(), 0..4),
        collection::vec(any::<u64>(), 0..20),
        collection::btree_map(any::<u16>(), option::of(part().prop_map(Arc::new)), 0..4),
    );
    (numbers, any::<[String; 2]>(), lists).prop_map(|(numbers, [text, shared], (list, several, map))| {
        let (numbers, below, is_so, counts, perhaps) = numbers;
        Whole {
            numbers,
            below,
            is_so,
            counts,
            perhaps,
            text,
            shared: shared.into(),
            list,
            several: several.into(),
            map,
            passing: 0,
            begins: 9,
        }
    })
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written(whole in whole()) {
        is_as_it_was(&whole);
    }

    #[test]
    fn chunks_of_any_length_make_the_same_bytes(whole in whole(), chunk in 1..100_usize) {
        prop_assert_eq!(bytes_by(chunk, &whole), bytes(&whole));
    }
}

#[test]
fn bytes_are_little_endian_and_describe_nothing() {
    assert_eq!(bytes(&0x0102_0304_u32), [4, 3, 2, 1]);
    assert_eq!(bytes(&Some(7_u16)), [1, 7, 0]);
    assert_eq!(bytes(&[1_u16, 2]), [1, 0, 2, 0]);
    assert_eq!(bytes(&vec![true]), [1, 0, 0, 0, 1]);
    assert_eq!(bytes(&"ab".to_owned()), [2, 0, b'a', b'b']);
    assert_eq!(bytes(&Part::Something { first: 3, second: true }), [7, 3, 0, 0, 0, 1]);
    assert_eq!(bytes(&Only([5, 6])), [5, 0, 6, 0]);
    assert_eq!(bytes(&Pair { one: 1_u8, other: Only([5, 6]) }), [1, 5, 0, 6, 0]);
}

#[test]
fn what_is_anew_begins_with_its_default() {
    let whole = Whole { passing: 7, is_so: true, ..Whole::default() };
    assert_eq!(value(&bytes(&whole)), Some(Whole { passing: 0, begins: 9, ..whole }));
}

#[test]
fn what_no_value_has_is_none() {
    assert_eq!(value::<bool>(&[2]), None);
    assert_eq!(value::<Option<u8>>(&[2, 0]), None);
    assert_eq!(value::<Part>(&[1, 0, 0, 0, 0, 0]), None);
    assert_eq!(value::<String>(&[1, 0, 0xff]), None, "no UTF-8");
    let map = |keys: [u8; 2]| value::<BTreeMap<u8, u8>>(&[2, 0, 0, 0, keys[0], 0, keys[1], 0]);
    assert!(map([1, 2]).is_some());
    assert_eq!((map([1, 1]), map([2, 1])), (None, None), "out of order");
    let set = |one, other| value::<BTreeSet<u8>>(&[2, 0, 0, 0, one, other]);
    assert_eq!((set(1, 2), set(1, 1)), (Some([1, 2].into()), None));
}

#[test]
fn of_a_text_that_is_too_long_the_begin_is_kept() {
    let text = value::<String>(&bytes(&"é".repeat(40_000))).unwrap();
    assert_eq!(text.chars().count(), usize::from(u16::MAX) / 2);
}

#[test]
fn a_length_beyond_the_end_takes_no_memory() {
    let hostile = [0xff; 8];
    let used = allocation_counter::measure(|| {
        assert_eq!(value::<Vec<u64>>(&hostile), None);
        assert_eq!(value::<Vec<Part>>(&hostile), None);
        assert_eq!(value::<Arc<[u64]>>(&hostile), None);
        assert_eq!(value::<BTreeMap<u64, u64>>(&hostile), None);
        assert_eq!(value::<String>(&hostile), None);
    });
    assert_eq!(used.count_total, 0);
}

#[test]
fn the_shape_follows_names_types_lengths_and_keys() {
    // Of a type called `Row`, each time another.
    macro_rules! shape {
        ($field:ident: $type:ty $(, $keys:expr)?) => {{
            struct Row {
                $field: $type,
            }
            shape!(@ $field $($keys)?)
        }};
        (@ $field:ident) => {{
            kept! { Row { $field } }
            Row::SHAPE
        }};
        (@ $field:ident $keys:expr) => {{
            const KEYS: &[Word] = &$keys;
            kept! { Row { $field in KEYS } }
            Row::SHAPE
        }};
    }
    let shapes = [
        shape!(a: u64),
        shape!(b: u64),
        shape!(a: u32),
        shape!(a: [u64; 2]),
        shape!(a: [u64; 3]),
        shape!(a: Option<u64>),
        shape!(a: Vec<u64>),
        shape!(a: [u64; 2], [Word { key: "x" }, Word { key: "y" }]),
        shape!(a: [u64; 2], [Word { key: "y" }, Word { key: "x" }]),
        Part::SHAPE,
    ];
    for (n, shape) in shapes.iter().enumerate() {
        assert!(!shapes[..n].contains(shape), "{n}");
    }
    assert_eq!(shape!(a: u64), shapes[0]);
    assert_eq!(shape!(a: Arc<u64>), shapes[0], "shared or not");
}
