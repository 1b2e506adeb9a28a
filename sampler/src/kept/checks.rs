//! What is held of everything that is kept.

use std::fmt::Debug;

use super::{CHUNK, Keep, Reader, Writer};

/// The bytes of a value.
pub(crate) fn bytes(value: &impl Keep) -> Vec<u8> {
    bytes_by(CHUNK, value)
}

/// The same by chunks of this length.
pub(crate) fn bytes_by(chunk: usize, value: &impl Keep) -> Vec<u8> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; chunk]);
    let mut sink = |chunk: &[u8]| bytes.extend_from_slice(chunk);
    let mut writer = Writer::new(&mut chunk, &mut sink);
    value.put(&mut writer);
    writer.end();
    bytes
}

/// The value whose bytes these are, all of them.
pub(crate) fn value<T: Keep>(bytes: &[u8]) -> Option<T> {
    let mut reader = Reader::new(bytes);
    T::take(&mut reader).filter(|_| reader.left() == 0)
}

/// What is written and read again is as it was; of bytes that are cut off nothing is read.
#[track_caller]
pub(crate) fn is_as_it_was<T: Keep + PartialEq + Debug>(one: &T) {
    let bytes = bytes(one);
    assert_eq!(value::<T>(&bytes).as_ref(), Some(one));
    for length in 0..bytes.len() {
        let cut = T::take(&mut Reader::new(&bytes[..length]));
        assert_eq!(cut, None, "{length} of {} bytes", bytes.len());
    }
}
