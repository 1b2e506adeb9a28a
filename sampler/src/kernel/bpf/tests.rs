use std::{os::fd::AsFd as _, path::Path};

use aya::maps::IterableMap as _;

use super::*;

#[test]
fn a_map_is_what_it_was_made_as() {
    let Some(map) = fixture::map() else { return };
    let expected = fixture::info(&map);
    assert_ne!(expected.id, 0);
    assert_eq!(info(map.map().fd().as_fd()).unwrap(), Info::Map(expected));
}

#[test]
fn a_copy_of_a_descriptor_is_the_same_and_another_map_is_not() {
    let (Some(one), Some(other)) = (fixture::map(), fixture::map()) else { return };
    let copy = one.map().fd().as_fd().try_clone_to_owned().unwrap();
    let of = |fd: BorrowedFd<'_>| info(fd).unwrap();
    assert_eq!(of(copy.as_fd()), of(one.map().fd().as_fd()));
    assert_ne!(of(other.map().fd().as_fd()), of(one.map().fd().as_fd()));
}

#[test]
fn what_is_nothing_of_ebpf_is_said() {
    let null = File::open("/dev/null").unwrap();
    let error = info(null.as_fd()).unwrap_err();
    assert!(matches!(&error, InfoError::Foreign(file) if file == Path::new("/dev/null")), "{error}");
    assert!(error.to_string().starts_with("it is /dev/null, and neither a map"), "{error}");
    let (pipe, _) = io::pipe().unwrap();
    let error = info(pipe.as_fd()).unwrap_err().to_string();
    assert!(error.starts_with("it is pipe:["), "{error}");
}

#[test]
fn the_bytes_of_words_are_as_they_are_in_memory() {
    let words = [u32::from_ne_bytes([1, 2, 3, 4]), u32::from_ne_bytes([5, 6, 7, 8])];
    assert_eq!(bytes(words), [1, 2, 3, 4, 5, 6, 7, 8]);
}
