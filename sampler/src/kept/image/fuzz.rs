//! Files that no process of ours wrote.

use super::*;
use crate::fuzzing::{Memory, Target, parts};

const IMAGE: Target = Target { name: "image", words: &["hvs-kept"], inputs: 10_000, memory: Memory::SMALL };

const IDENTITY: Identity = Identity { shape: 1, object: 2, token: 3, boot_id: [4; 16] };

/// Bytes of a header without its checksum.
const CONTENT: usize = HEADER - size_of::<u64>();

/// A file whose header always has the right checksum, so that what it says is believed.
struct File<'i> {
    header: [u8; HEADER],
    slow: &'i [u8],
}

impl<'i> File<'i> {
    fn of(input: &'i [u8]) -> Self {
        let (own, slow) = input.split_at(CONTENT.min(input.len()));
        let mut header = VOID;
        header[..own.len()].copy_from_slice(own);
        let checksum = Checksum::of(&header[..CONTENT]).to_le_bytes();
        header[CONTENT..].copy_from_slice(&checksum);
        Self { header, slow }
    }
}

impl Place for File<'_> {
    type Error = ();

    fn length(&self) -> Result<u64, ()> {
        Ok(SLOW_AT + self.slow.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), ()> {
        let own = if offset == 0 { &self.header[..] } else { self.slow };
        into.copy_from_slice(own.get(..into.len()).ok_or(())?);
        Ok(())
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> Result<(), ()> {
        Err(())
    }
}

/// A file with this section, of a state with this number.
fn file(sequence: u64, slow: &[u8]) -> Vec<u8> {
    let section = |bytes: &[u8]| Section { length: bytes.len() as u64, checksum: Checksum::of(bytes) };
    let header = Header {
        magic: MAGIC,
        format: FORMAT,
        identity: IDENTITY,
        sequence,
        taken_boottime_ns: 5,
        slow: section(slow),
        fast: section(&[]),
    };
    [&header.bytes()[..CONTENT], slow].concat()
}

#[test]
fn image() {
    let both = [&file(6, b"older")[..], &file(7, b"newer")].join(&b"\n====\n"[..]);
    let known = read(&parts::<2>(&both).map(File::of), &IDENTITY);
    assert_eq!(known.map(|kept| kept.slow), Some(b"newer".to_vec()));
    IMAGE.check(&[both, file(1, b"")], |input| {
        let files = parts::<2>(input).map(File::of);
        if let Some(kept) = read(&files, &IDENTITY) {
            assert!(files.iter().any(|file| file.slow.starts_with(&kept.slow)));
            assert!(kept.fast.is_empty(), "it has none");
        }
    });
}
