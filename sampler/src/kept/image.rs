//! Two files that hold a state in turn: while one is written, the other is whole.
//!
//! | at | what |
//! |---|---|
//! | 0 | [`Header`], and its checksum |
//! | [`SLOW_AT`] | what changes seldom: written only where it is not what the file has |
//! | [`FAST_AT`] | what each snapshot changes |
//!
//! The header of a file is voided before anything else of it is written, and comes back last. So a process
//! that is killed at any point leaves the state before, or the new one.

use std::ops::Range;

use super::{Keep, Reader, Writer, checksum::Checksum, rows::kept};

/// Bytes that are written at once.
pub const CHUNK: usize = 64 << 10;

/// Raised where bytes mean something else under the same shape.
const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"hvs-kept";

/// Bytes of a header, its checksum included.
const HEADER: usize = 108;
/// A header that is none.
const VOID: [u8; HEADER] = [0; HEADER];

const SLOW_AT: u64 = 4 << 10;
const FAST_AT: u64 = 64 << 20;
/// Where a file ends at the latest.
const END: u64 = 512 << 20;

/// Where a state can be: a file, or memory.
pub trait Place {
    /// Why it could not be read or written.
    type Error;

    /// Its length, bytes.
    ///
    /// # Errors
    /// When that cannot be asked.
    fn length(&self) -> Result<u64, Self::Error>;

    /// Reads all that there is room for, from this byte on.
    ///
    /// # Errors
    /// When there is less, or it cannot be read.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes bytes, from this one on. What lies between its end and that is zero.
    ///
    /// # Errors
    /// When they cannot all be written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why a state was not saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<E> {
    /// A place could not be written.
    Place(E),
    /// It is longer than a file may be.
    TooLong,
}

/// What a state belongs to: of another, none is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// [`Keep::SHAPE`] of all that is in it.
    pub shape: u64,
    /// What the programs are that count in the kernel.
    pub object: u64,
    /// Which load of them it is.
    pub token: u64,
    /// The host's boot.
    pub boot_id: [u8; 16],
}

kept! { Identity { shape, object, token, boot_id } }

/// Part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    length: u64,
    checksum: u64,
}

kept! { Section { length, checksum } }

/// What a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    magic: [u8; 8],
    format: u32,
    identity: Identity,
    sequence: u64,
    taken_boottime_ns: u64,
    slow: Section,
    fast: Section,
}

kept! { Header { magic, format, identity, sequence, taken_boottime_ns, slow, fast } }

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = VOID;
        let (content, checksum) = bytes.split_at_mut(HEADER - size_of::<u64>());
        self.put(&mut Writer::new(content, &mut |_| {}));
        checksum.copy_from_slice(&Checksum::of(content).to_le_bytes());
        bytes
    }

    /// The header that a file has, where it is one of this state.
    fn of(place: &impl Place, identity: &Identity) -> Option<Self> {
        let mut bytes = VOID;
        place.read_at(0, &mut bytes).ok()?;
        let (content, checksum) = bytes.split_at(HEADER - size_of::<u64>());
        let header = Self::take(&mut Reader::new(content))?;
        let is_whole = *checksum == Checksum::of(content).to_le_bytes();
        let is_ours = (header.magic, header.format, header.identity) == (MAGIC, FORMAT, *identity);
        (is_whole && is_ours).then_some(header)
    }
}

/// A state that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number: the next one is saved under the number after it.
    pub sequence: u64,
    /// When it was taken, `CLOCK_BOOTTIME` in ns.
    pub taken_boottime_ns: u64,
    /// What changes seldom.
    pub slow: Vec<u8>,
    /// What each snapshot changes.
    pub fast: Vec<u8>,
}

/// The newest state that is whole; `None` where neither file has one.
#[must_use]
pub fn read<P: Place>(places: &[P; 2], identity: &Identity) -> Option<Kept> {
    let headers = places.iter().map(|place| (place, Header::of(place, identity)));
    let mut found: Vec<_> = headers.filter_map(|(place, header)| Some((place, header?))).collect();
    found.sort_by_key(|(_, header)| header.sequence);
    found.into_iter().rev().find_map(|(place, header)| {
        Some(Kept {
            sequence: header.sequence,
            taken_boottime_ns: header.taken_boottime_ns,
            slow: read_section(place, SLOW_AT, header.slow)?,
            fast: read_section(place, FAST_AT, header.fast)?,
        })
    })
}

/// A section, where it is whole. No more memory is taken than the place has bytes.
fn read_section(place: &impl Place, at: u64, section: Section) -> Option<Vec<u8>> {
    let end = at.checked_add(section.length)?;
    let mut bytes = Vec::new();
    if section.length > 0 && end <= place.length().ok()?.min(END) {
        bytes.resize(usize::try_from(section.length).ok()?, 0);
        place.read_at(at, &mut bytes).ok()?;
    }
    let is_whole = (bytes.len() as u64, Checksum::of(&bytes)) == (section.length, section.checksum);
    is_whole.then_some(bytes)
}

/// Saves states into two places in turn.
#[derive(Debug)]
pub struct Image<P> {
    places: [P; 2],
    identity: Identity,
    /// Number of the state that was saved last.
    sequence: u64,
    /// What the places have at [`SLOW_AT`]; `None` where that is not known.
    slow: [Option<Section>; 2],
    /// A place may hold a state that is older than what was exported: voiding it failed.
    must_void: bool,
    chunk: Box<[u8]>,
}

impl<P: Place> Image<P> {
    /// Goes on after the state of this number; 0 where there is none.
    #[must_use]
    pub fn new(places: [P; 2], identity: Identity, sequence: u64) -> Self {
        let chunk = vec![0; CHUNK].into();
        Self { places, identity, sequence, slow: [None; 2], must_void: false, chunk }
    }

    /// The places.
    pub const fn places(&self) -> &[P; 2] {
        &self.places
    }

    /// Saves a state. Both parts may be asked twice for their bytes, which have to be the same.
    ///
    /// # Errors
    /// When a place cannot be written, or a part is too long. No state is left then: one that is older than
    /// what is exported next must not be read.
    pub fn save(
        &mut self,
        taken_boottime_ns: u64,
        slow: &dyn Fn(&mut Writer<'_>),
        fast: &dyn Fn(&mut Writer<'_>),
    ) -> Result<(), Fault<P::Error>> {
        if self.must_void {
            self.void().map_err(Fault::Place)?;
        }
        let saved = self.write(taken_boottime_ns, slow, fast);
        if saved.is_err() {
            // Why it was not saved says more than why it cannot be voided; that is tried again.
            let _ = self.void();
        }
        saved
    }

    /// Leaves no state in either place.
    ///
    /// # Errors
    /// When one of them cannot be written. The next state is not saved before both are void.
    pub fn void(&mut self) -> Result<(), P::Error> {
        self.must_void = true;
        let [one, other] = self.places.each_mut().map(|place| place.write_at(0, &VOID));
        one.and(other)?;
        self.must_void = false;
        Ok(())
    }

    fn write(
        &mut self,
        taken_boottime_ns: u64,
        slow: &dyn Fn(&mut Writer<'_>),
        fast: &dyn Fn(&mut Writer<'_>),
    ) -> Result<(), Fault<P::Error>> {
        let sequence = self.sequence + 1;
        let turn = (sequence % 2) as usize;
        self.places[turn].write_at(0, &VOID).map_err(Fault::Place)?;
        let header = Header {
            magic: MAGIC,
            format: FORMAT,
            identity: self.identity,
            sequence,
            taken_boottime_ns,
            slow: self.write_slow(turn, slow)?,
            fast: self.write_section(turn, FAST_AT..END, fast)?,
        };
        self.places[turn].write_at(0, &header.bytes()).map_err(Fault::Place)?;
        self.sequence = sequence;
        Ok(())
    }

    fn write_slow(
        &mut self,
        turn: usize,
        slow: &dyn Fn(&mut Writer<'_>),
    ) -> Result<Section, Fault<P::Error>> {
        let wanted = encode(&mut self.chunk, slow, &mut |_| {});
        if self.slow[turn] != Some(wanted) {
            self.slow[turn] = None;
            self.slow[turn] = Some(self.write_section(turn, SLOW_AT..FAST_AT, slow)?);
        }
        Ok(wanted)
    }

    fn write_section(
        &mut self,
        turn: usize,
        within: Range<u64>,
        content: &dyn Fn(&mut Writer<'_>),
    ) -> Result<Section, Fault<P::Error>> {
        let (place, mut at, mut written) = (&mut self.places[turn], within.start, Ok(()));
        let section = encode(&mut self.chunk, content, &mut |bytes| {
            let end = at + bytes.len() as u64;
            if written.is_ok() {
                let fits = if end <= within.end { Ok(()) } else { Err(Fault::TooLong) };
                written = fits.and_then(|()| place.write_at(at, bytes).map_err(Fault::Place));
            }
            at = end;
        });
        written.map(|()| section)
    }
}

/// Gives `sink` the bytes of a part, chunk by chunk.
fn encode(chunk: &mut [u8], content: &dyn Fn(&mut Writer<'_>), sink: &mut dyn FnMut(&[u8])) -> Section {
    let mut sum = Checksum::EMPTY;
    let mut both = |bytes: &[u8]| {
        sum.add(bytes);
        sink(bytes);
    };
    let mut writer = Writer::new(chunk, &mut both);
    content(&mut writer);
    writer.end();
    Section { length: sum.length(), checksum: sum.end() }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
