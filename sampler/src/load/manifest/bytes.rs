//! A manifest as bytes. Numbers are little-endian; a text has its length before it, and so has a list.

use sampler_ebpf::abi::{MEMBERS, Offsets};

use super::{HookRow, Manifest, Origin};
use crate::kernel::{
    bpf::{LinkInfo, MapInfo, ProgramInfo},
    descriptors::Token,
};

/// Bytes that a manifest takes at most: what follows in its file begins there.
pub const MOST_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"hvs-set\0";
/// Raised when bytes mean something else.
const FORMAT: u32 = 1;
/// Of magic, format and length.
const HEADER: usize = 16;

pub(super) fn write(manifest: &Manifest) -> Vec<u8> {
    let body = body(manifest);
    let mut writer = Writer(MAGIC.to_vec());
    writer.u32(FORMAT);
    writer.u32(body.len() as u32);
    writer.0.extend(body);
    let checksum = hash(&writer.0);
    writer.u64(checksum);
    writer.0
}

pub(super) fn read(bytes: &[u8]) -> Option<Manifest> {
    let mut reader = Reader(bytes);
    if reader.array::<8>()? != *MAGIC || reader.u32()? != FORMAT {
        return None;
    }
    let length = reader.u32()? as usize;
    let mut body = Reader(reader.take(length)?);
    if reader.u64()? != hash(bytes.get(..HEADER + length)?) {
        return None;
    }
    let manifest = Manifest {
        token: Token::from_number(body.u64()?),
        origin: body.origin()?,
        maps: body.list(|body| Some((body.text()?, body.map()?)))?,
        programs: body.list(|body| Some((body.text()?, body.program()?)))?,
        hooks: body.list(Reader::hook)?,
    };
    body.0.is_empty().then_some(manifest)
}

/// FNV-1a: what it is of is not chosen by anybody who would gain by a collision.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn body(manifest: &Manifest) -> Vec<u8> {
    let Manifest { token, origin, maps, programs, hooks } = manifest;
    let mut writer = Writer(Vec::new());
    writer.u64(token.number());
    writer.origin(origin);
    writer.list(maps, |writer, (name, info)| {
        writer.text(name);
        writer.map(info);
    });
    writer.list(programs, |writer, (name, info)| {
        writer.text(name);
        writer.program(info);
    });
    writer.list(hooks, Writer::hook);
    writer.0
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.u32(*word));
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
    }

    fn list<I>(&mut self, items: I, write: impl Fn(&mut Self, I::Item))
    where
        I: IntoIterator<IntoIter: ExactSizeIterator>,
    {
        let items = items.into_iter();
        self.u32(items.len() as u32);
        items.for_each(|item| write(self, item));
    }

    fn origin(&mut self, origin: &Origin) {
        let Origin { object, boot_id, offsets, switches_report, flush_sequence, possible_cpus } = origin;
        self.u64(*object);
        self.0.extend(boot_id);
        self.words(&[offsets.at.len() as u32]);
        self.words(&offsets.at);
        self.words(&[u32::from(*switches_report), *flush_sequence, *possible_cpus]);
    }

    fn map(&mut self, info: &MapInfo) {
        let MapInfo { kind, id, key_size, value_size, entries, flags } = *info;
        self.words(&[kind, id, key_size, value_size, entries, flags]);
    }

    fn program(&mut self, info: &ProgramInfo) {
        let ProgramInfo { kind, id, tag } = info;
        self.words(&[*kind, *id]);
        self.0.extend(tag);
    }

    fn hook(&mut self, row: &HookRow) {
        let HookRow { hook, program, link } = row;
        self.text(hook);
        self.text(program);
        self.list(link, |writer, LinkInfo { kind, id, program }| writer.words(&[*kind, *id, *program]));
    }
}

/// What is left to be read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    /// No room is made before there is something to put into it: the length may be anything.
    fn list<T, L: FromIterator<T>>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<L> {
        (0..self.u32()?).map(|_| read(self)).collect()
    }

    fn origin(&mut self) -> Option<Origin> {
        let (object, boot_id) = (self.u64()?, self.array()?);
        let mut offsets = Offsets::UNKNOWN;
        if self.u32()? as usize != MEMBERS.len() {
            return None;
        }
        for at in &mut offsets.at {
            *at = self.u32()?;
        }
        let (switches_report, flush_sequence, possible_cpus) = (self.flag()?, self.u32()?, self.u32()?);
        Some(Origin { object, boot_id, offsets, switches_report, flush_sequence, possible_cpus })
    }

    fn map(&mut self) -> Option<MapInfo> {
        let mut next = || self.u32();
        Some(MapInfo {
            kind: next()?,
            id: next()?,
            key_size: next()?,
            value_size: next()?,
            entries: next()?,
            flags: next()?,
        })
    }

    fn program(&mut self) -> Option<ProgramInfo> {
        Some(ProgramInfo { kind: self.u32()?, id: self.u32()?, tag: self.array()? })
    }

    fn hook(&mut self) -> Option<HookRow> {
        let (hook, program) = (self.text()?, self.text()?);
        let link = match self.flag()? {
            true => Some(LinkInfo { kind: self.u32()?, id: self.u32()?, program: self.u32()? }),
            false => None,
        };
        Some(HookRow { hook, program, link })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::manifest, *};

    #[test]
    fn bytes_are_the_manifest_that_they_were_made_of() {
        let manifest = manifest();
        let mut bytes = write(&manifest);
        assert_eq!(read(&bytes), Some(manifest.clone()));
        bytes.resize(2 * MOST_BYTES, 7);
        assert_eq!(read(&bytes), Some(manifest), "what follows in the file is somebody else's");
    }

    #[test]
    fn a_manifest_of_all_that_is_loaded_has_room() {
        let bytes = write(&manifest());
        assert!(bytes.len() <= MOST_BYTES, "{} bytes", bytes.len());
    }

    #[test]
    fn bytes_that_are_cut_off_or_changed_are_none() {
        let bytes = write(&manifest());
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), None, "{length}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert_eq!(read(&changed), None, "{place}");
        }
    }

    #[test]
    fn a_checksum_that_fits_makes_no_sense_of_nonsense() {
        let good = write(&manifest());
        let whole = good.len() - 8;
        // Each number of the body in turn is as great as it can be.
        for place in HEADER..whole - 4 {
            let mut bytes = good[..whole].to_vec();
            bytes[place..place + 4].fill(0xff);
            let checksum = hash(&bytes);
            bytes.extend(checksum.to_le_bytes());
            if let Some(read) = read(&bytes) {
                assert_eq!(write(&read), bytes, "{place}");
            }
        }
    }

    #[test]
    fn bytes_of_another_version_are_none() {
        let mut bytes = write(&manifest());
        bytes.truncate(bytes.len() - 8);
        bytes[MAGIC.len()] += 1;
        let checksum = hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn the_hash_is_that_of_its_authors() {
        assert_eq!(
            [&b""[..], b"a", b"foobar"].map(hash),
            [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]
        );
    }
}
