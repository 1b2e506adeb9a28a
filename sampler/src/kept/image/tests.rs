//! Whatever happens to the two files, a state is whole or not there.

use std::{cell::Cell, rc::Rc};

use super::*;
use crate::kept::checks::bytes;

/// Bytes that a process still writes before it is killed.
type Budget = Rc<Cell<usize>>;

/// A file, as the writes to it; what lies between them takes no memory.
#[derive(Clone, Debug, Default)]
struct Memory {
    writes: Vec<(u64, Vec<u8>)>,
    budget: Option<Budget>,
    /// Writes of so many bytes fail, if they are no headers.
    refuses: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused;

impl Place for Memory {
    type Error = Refused;

    fn length(&self) -> Result<u64, Refused> {
        Ok(self.writes.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap_or(0))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Refused> {
        if self.length()? < offset + into.len() as u64 {
            return Err(Refused);
        }
        into.fill(0);
        for (at, bytes) in &self.writes {
            for (place, byte) in (*at..).zip(bytes) {
                let own = place.checked_sub(offset).and_then(|place| into.get_mut(place as usize));
                own.into_iter().for_each(|own| *own = *byte);
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        if self.refuses.is_some_and(|length| bytes.len() >= length && offset != 0) {
            return Err(Refused);
        }
        let mut done = bytes.len();
        if let Some(budget) = &self.budget {
            done = done.min(budget.get());
            budget.set(budget.get() - done);
        }
        if done > 0 {
            self.writes.push((offset, bytes[..done].to_vec()));
        }
        Ok(())
    }
}

const IDENTITY: Identity = Identity { shape: 1, object: 2, token: 3, boot_id: [4; 16] };

/// The parts of the state of this number: the first changes with every third one alone.
fn parts(sequence: u64) -> (Vec<u64>, Vec<u64>) {
    (vec![sequence / 3; 3], (0..=sequence).map(|n| n << 32 | sequence).collect())
}

fn save(image: &mut Image<Memory>, sequence: u64) -> Result<(), Fault<Refused>> {
    let (slow, fast) = parts(sequence);
    image.save(sequence * 1_000, &|writer| slow.put(writer), &|writer| fast.put(writer))
}

fn state(sequence: u64) -> Kept {
    let (slow, fast) = parts(sequence);
    let taken_boottime_ns = sequence * 1_000;
    Kept { sequence, taken_boottime_ns, slow: bytes(&slow), fast: bytes(&fast) }
}

/// Two files with the states up to this number.
fn saved(sequence: u64) -> Image<Memory> {
    let mut image = Image::new([Memory::default(), Memory::default()], IDENTITY, 0);
    (1..=sequence).for_each(|sequence| save(&mut image, sequence).unwrap());
    image
}

fn read_from(image: &Image<Memory>) -> Option<Kept> {
    read(image.places(), &IDENTITY)
}

#[test]
fn the_newest_state_is_read() {
    assert_eq!(read_from(&saved(0)), None);
    for sequence in 1..8 {
        assert_eq!(read_from(&saved(sequence)), Some(state(sequence)));
    }
}

#[test]
fn a_header_has_the_length_that_it_is_given() {
    let empty = Section { length: 0, checksum: 0 };
    let header = Header {
        magic: MAGIC,
        format: FORMAT,
        identity: IDENTITY,
        sequence: u64::MAX,
        taken_boottime_ns: 7,
        slow: empty,
        fast: empty,
    };
    let bytes = header.bytes();
    let mut reader = Reader::new(&bytes);
    assert_eq!((Header::take(&mut reader), reader.left()), (Some(header), size_of::<u64>()));
}

#[test]
fn a_process_that_is_killed_at_any_byte_leaves_the_state_before_or_the_new_one() {
    for sequence in 1..6 {
        let before = (sequence > 1).then(|| state(sequence - 1));
        for budget in 0.. {
            let mut image = saved(sequence - 1);
            let budget = Rc::new(Cell::new(budget));
            image.places.iter_mut().for_each(|place| place.budget = Some(budget.clone()));
            save(&mut image, sequence).unwrap();
            let found = read_from(&image);
            if budget.get() > 0 {
                assert_eq!(found, Some(state(sequence)), "nothing was cut off");
                break;
            }
            assert!(found == before || found == Some(state(sequence)), "a mix: {found:?}");
        }
    }
}

#[test]
fn who_goes_on_writes_into_the_file_that_was_not_read() {
    for sequence in 1..4 {
        let Image { mut places, .. } = saved(sequence);
        let killed = Rc::new(Cell::new(HEADER));
        places.iter_mut().for_each(|place| place.budget = Some(killed.clone()));
        let mut next = Image::new(places, IDENTITY, sequence);
        save(&mut next, sequence + 1).unwrap();
        assert_eq!(read_from(&next), Some(state(sequence)));
        next.places.iter_mut().for_each(|place| place.budget = None);
        let mut third = Image::new(next.places, IDENTITY, sequence);
        save(&mut third, sequence + 1).unwrap();
        assert_eq!(read_from(&third), Some(state(sequence + 1)));
    }
}

#[test]
fn what_changes_seldom_is_written_when_it_changes() {
    let writes = |sequence| {
        let [one, other] = saved(sequence).places;
        let at = |offset| one.writes.iter().chain(&other.writes).filter(|(at, _)| *at == offset).count();
        (at(SLOW_AT), at(FAST_AT))
    };
    assert_eq!(writes(2), (2, 2), "once into each file");
    assert_eq!(writes(5), (4, 5), "and again after the third");
    assert_eq!(writes(6), (5, 6));
}

#[test]
fn a_bit_that_is_another_is_found() {
    let image = saved(4);
    let newest = &image.places[0];
    let ends = [SLOW_AT, FAST_AT].map(|at| {
        let written = newest.writes.iter().rev().find(|(offset, _)| *offset == at);
        (at, written.map_or(0, |(_, bytes)| bytes.len()))
    });
    for (at, length) in [(0, HEADER)].into_iter().chain(ends) {
        for bit in 0..8 * length as u64 {
            let mut broken = saved(4);
            let mut byte = [0];
            newest.read_at(at + bit / 8, &mut byte).unwrap();
            byte[0] ^= 1 << (bit % 8);
            broken.places[0].write_at(at + bit / 8, &byte).unwrap();
            assert_eq!(read_from(&broken), Some(state(3)), "bit {bit} from {at} on");
        }
    }
}

#[test]
fn a_state_of_another_is_none() {
    let places = saved(3).places;
    let others = [
        Identity { shape: 9, ..IDENTITY },
        Identity { object: 9, ..IDENTITY },
        Identity { token: 9, ..IDENTITY },
        Identity { boot_id: [9; 16], ..IDENTITY },
    ];
    for other in others {
        assert_eq!(read(&places, &other), None);
    }
    let mut mixed = saved(3).places;
    let mut other = Image::new([Memory::default(), Memory::default()], others[2], 8);
    save(&mut other, 9).unwrap();
    mixed[0] = other.places[1].clone();
    assert_eq!(read(&mixed, &IDENTITY), Some(state(3)), "the newer one is of another set");
}

#[test]
fn after_a_write_that_fails_no_state_is_left_and_the_next_one_is_saved() {
    for refused in [1, 30] {
        let mut image = saved(4);
        image.places.iter_mut().for_each(|place| place.refuses = Some(refused));
        assert_eq!(save(&mut image, 5), Err(Fault::Place(Refused)));
        assert_eq!(read_from(&image), None, "an old state would be behind what is exported");
        image.places.iter_mut().for_each(|place| place.refuses = None);
        save(&mut image, 5).unwrap();
        assert_eq!(read_from(&image), Some(state(5)));
    }
}

#[test]
fn void_leaves_nothing() {
    let mut image = saved(4);
    image.void().unwrap();
    assert_eq!(read_from(&image), None);
    save(&mut image, 5).unwrap();
    assert_eq!(read_from(&image), Some(state(5)));
}

#[test]
fn a_part_that_is_too_long_is_refused() {
    /// A file that keeps nothing.
    struct Nowhere;
    impl Place for Nowhere {
        type Error = Refused;
        fn length(&self) -> Result<u64, Refused> {
            Ok(0)
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), Refused> {
            Err(Refused)
        }
        fn write_at(&mut self, _: u64, _: &[u8]) -> Result<(), Refused> {
            Ok(())
        }
    }
    let mut image = Image::new([Nowhere, Nowhere], IDENTITY, 0);
    let long = |writer: &mut Writer<'_>| (0..=FAST_AT >> 16).for_each(|_| writer.bytes(&[0; CHUNK]));
    assert_eq!(image.save(0, &long, &|_| {}), Err(Fault::TooLong));
}

#[test]
fn a_length_beyond_the_end_takes_no_memory() {
    let mut image = saved(1);
    let far = Section { length: END - FAST_AT, checksum: 0 };
    for (slow, fast) in [(None, Some(far)), (Some(Section { length: u64::MAX, ..far }), None)] {
        let header = Header::of(&image.places[1], &IDENTITY).unwrap();
        let header =
            Header { slow: slow.unwrap_or(header.slow), fast: fast.unwrap_or(header.fast), ..header };
        image.places[1].write_at(0, &header.bytes()).unwrap();
        let used = allocation_counter::measure(|| assert_eq!(read_from(&image), None));
        assert!(used.bytes_max < 1 << 10, "{} bytes", used.bytes_max);
    }
}
