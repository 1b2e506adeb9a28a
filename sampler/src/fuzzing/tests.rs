use std::{fs, panic::AssertUnwindSafe};

use super::*;

fn target(memory: Memory) -> Target {
    Target { name: "harness", words: &["magic"], inputs: 20_000, memory }
}

/// Runs a target over seeds of its own; how it failed, and what was kept.
fn failure(memory: Memory, run: impl FnMut(&[u8])) -> (Option<String>, Vec<Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("seed"), "a seed of 1 word").unwrap();
    let seeds = Seeds::at(directory.path());
    let limit = Limit::Inputs(20_000);
    let checked =
        panic::catch_unwind(AssertUnwindSafe(|| target(memory).check_with(&seeds, &[], limit, run)));
    let kept = seeds.read().into_iter().filter(|input| input != b"a seed of 1 word").collect();
    (checked.err().map(|panic| text_of(&*panic)), kept)
}

#[test]
fn an_input_that_panics_is_found_and_kept_without_what_it_does_not_take() {
    let (how, kept) = failure(Memory::SMALL, |input| {
        assert!(!input.windows(5).any(|window| window == b"magic"), "as the test asks");
    });
    let how = how.expect("no input has the word");
    assert!(how.contains("as the test asks") && how.contains("fuzzing/tests.rs:"), "{how}");
    assert_eq!(kept, [b"magic"]);
}

#[test]
fn an_input_that_takes_too_much_memory_is_found() {
    let memory = Memory { fixed: 4096, each: 1 };
    let (how, kept) = failure(memory, |input| {
        let length = if input.contains(&b'!') { 1 << 20 } else { input.len() };
        drop(std::hint::black_box(vec![0_u8; length]));
    });
    assert!(how.expect("no input has the character").contains("bytes of memory at once"));
    assert_eq!(kept, [b"!"]);
}

#[test]
fn what_reads_everything_passes() {
    let mut inputs = 0;
    assert_eq!(failure(Memory::SMALL, |_| inputs += 1), (None, vec![]));
    assert_eq!(inputs, 20_001, "the seed, and what is made of it");
}

#[test]
fn a_seed_that_fails_is_named_as_it_is() {
    let (how, kept) = failure(Memory::SMALL, |input| assert_ne!(input, b"a seed of 1 word"));
    assert!(how.expect("the seed fails").contains("a seed of 1 word"));
    assert!(kept.is_empty(), "it is there already");
}

#[test]
fn parts_that_are_missing_are_empty() {
    assert_eq!(parts::<3>(b"a\n====\nb"), [&b"a"[..], b"b", b""]);
    assert_eq!(parts::<2>(b"\n====\n\n====\nc"), [b"", b""]);
    assert_eq!(parts::<1>(b""), [b""]);
}
