//! What outlives the process: values as bytes, and the files that hold them.
//!
//! Pure: who uses it hands over the places that bytes go to, and every moment.
//!
//! A process writes what it has summed up after each snapshot. The next one takes it over only where both
//! have the same [`Keep::SHAPE`]. So bytes describe nothing of themselves: no names, no types, no versions.
//! Numbers are little-endian. An option is a byte and the value, a text has a length of two bytes, a list one
//! of four.
//!
//! Why it is neither serde nor a format that others know: numbers of variable length alone would take longer
//! than all else that a snapshot writes, and a field that a derive takes in would be misread in older bytes.

mod checksum;
mod groups;
mod image;
mod numbers;
mod reader;
mod rows;
mod shape;
mod texts;
mod writer;

pub(crate) use self::rows::{kept, keys};
pub use self::{
    image::{CHUNK, Fault, Identity, Image, Kept, Place, read},
    reader::Reader,
    shape::{Shape, of_field},
    writer::Writer,
};

/// A value that outlives the process.
pub trait Keep: Sized {
    /// What its bytes look like: over names of types and fields, lengths of arrays and keys of tables. Bytes
    /// of another shape are not read.
    const SHAPE: u64;

    /// Writes it.
    fn put(&self, to: &mut Writer<'_>);

    /// Reads one. `None` where bytes end too early, or are no such value.
    fn take(from: &mut Reader<'_>) -> Option<Self>;

    /// Writes several, one after the other. Numbers are copied as they are in memory.
    fn put_all(all: &[Self], to: &mut Writer<'_>) {
        all.iter().for_each(|one| one.put(to));
    }

    /// Reads as many as the array has room for.
    fn take_all<const N: usize>(from: &mut Reader<'_>) -> Option<[Self; N]> {
        let all: Option<Vec<Self>> = (0..N).map(|_| Self::take(from)).collect();
        all?.try_into().ok()
    }
}

#[cfg(test)]
pub(crate) mod checks;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
