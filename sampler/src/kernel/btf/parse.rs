//! The raw format: header, type records, strings.

use std::ops::Range;

use super::BtfError;

pub(super) const KIND_INT: u32 = 1;
pub(super) const KIND_PTR: u32 = 2;
pub(super) const KIND_ARRAY: u32 = 3;
pub(super) const KIND_STRUCT: u32 = 4;
pub(super) const KIND_UNION: u32 = 5;
pub(super) const KIND_ENUM: u32 = 6;
pub(super) const KIND_TYPEDEF: u32 = 8;
pub(super) const KIND_VOLATILE: u32 = 9;
pub(super) const KIND_CONST: u32 = 10;
pub(super) const KIND_RESTRICT: u32 = 11;
pub(super) const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_DECL_TAG: u32 = 17;
pub(super) const KIND_TYPE_TAG: u32 = 18;
pub(super) const KIND_ENUM64: u32 = 19;

const MAGIC: u16 = 0xeb9f;
const RECORD: usize = 12;
/// More than any kernel has: a bound on what a broken file can make us allocate.
const MAX_TYPES: usize = 4_000_000;

/// A parsed BTF section, or that of the kernel and one of a module.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Offset of each type's record in `data`; the type's id is its index plus one (id 0 is `void`).
    records: Vec<u32>,
    /// Where the strings are in `data`: those of the kernel and, for a module, its own, whose offsets go on
    /// from there.
    strings: Vec<Range<usize>>,
}

/// One type record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) name: u32,
    pub(super) kind: u32,
    /// Number of members, parameters, ... that follow.
    pub(super) vlen: u32,
    pub(super) kind_flag: bool,
    /// Size in bytes, or the id of the type that is referred to.
    pub(super) size_or_type: u32,
    /// Where the trailing data begins.
    pub(super) tail: usize,
}

impl Btf {
    /// Parses a BTF section.
    ///
    /// # Errors
    /// When the bytes are not BTF in this machine's byte order, or are cut short.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let Sections { types, strings } = Sections::of(&data)?;
        let records = index(&data, types, 0)?;
        Ok(Self { data, records, strings: vec![strings] })
    }

    /// With the section of a module, whose types go on where the kernel's end.
    pub(super) fn extended(&self, module: &[u8]) -> Result<Self, BtfError> {
        let Sections { types, strings } = Sections::of(module)?;
        let base = self.data.len();
        let records = index(module, types, base)?;
        let own = strings.start + base..strings.end + base;
        Ok(Self {
            data: [&self.data, module].concat(),
            records: [&self.records[..], &records].concat(),
            strings: self.strings.iter().cloned().chain([own]).collect(),
        })
    }

    /// Number of types, `void` not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no type at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn record(&self, id: u32) -> Option<Record> {
        let offset = *self.records.get((id as usize).checked_sub(1)?)?;
        record_at(&self.data, offset as usize).ok()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Record> + '_ {
        self.records.iter().filter_map(|offset| record_at(&self.data, *offset as usize).ok())
    }

    pub(super) fn string(&self, offset: u32) -> &[u8] {
        self.strings_from(offset).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Whether a string is this one. Looks no further than at as many bytes: in a broken file a string may
    /// have no end, and each type may begin in it.
    pub(super) fn is_string(&self, offset: u32, text: &str) -> bool {
        let rest = self.strings_from(offset).strip_prefix(text.as_bytes());
        rest.is_some_and(|rest| matches!(rest, [] | [0, ..]))
    }

    /// All strings of a section from one of them on.
    fn strings_from(&self, offset: u32) -> &[u8] {
        let mut offset = offset as usize;
        for strings in &self.strings {
            if offset < strings.len() {
                return self.data.get(strings.start + offset..strings.end).unwrap_or_default();
            }
            offset -= strings.len();
        }
        &[]
    }

    pub(super) fn word(&self, offset: usize) -> u32 {
        u32_at(&self.data, offset).unwrap_or(0)
    }

    /// The first type of one of these kinds with this name.
    pub(super) fn find(&self, name: &str, kinds: &[u32]) -> Option<u32> {
        (1..=u32::try_from(self.records.len()).ok()?).find(|id| {
            self.record(*id)
                .is_some_and(|record| kinds.contains(&record.kind) && self.is_string(record.name, name))
        })
    }
}

/// Where the parts of a section are.
struct Sections {
    types: Range<usize>,
    strings: Range<usize>,
}

impl Sections {
    fn of(data: &[u8]) -> Result<Self, BtfError> {
        if u16_at(data, 0)? != MAGIC {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        let header = u32_at(data, 4)? as usize;
        let section = |offset: usize, length: usize| -> Result<Range<usize>, BtfError> {
            let start = header.checked_add(u32_at(data, offset)? as usize);
            let start = start.ok_or(BtfError::Malformed("a section starts beyond the end"))?;
            let end = start.checked_add(u32_at(data, length)? as usize).filter(|end| *end <= data.len());
            Ok(start..end.ok_or(BtfError::Malformed("a section ends beyond the end"))?)
        };
        Ok(Self { types: section(8, 12)?, strings: section(16, 20)? })
    }
}

/// Offsets of the records of a section that lies at `base`.
fn index(data: &[u8], Range { start, end }: Range<usize>, base: usize) -> Result<Vec<u32>, BtfError> {
    let mut records = Vec::new();
    let mut offset = start;
    while offset < end {
        let record = record_at(data, offset)?;
        let position = u32::try_from(base + offset).map_err(|_| BtfError::Malformed("larger than 4 GiB"))?;
        if records.len() == MAX_TYPES {
            return Err(BtfError::Malformed("more types than any kernel has"));
        }
        records.push(position);
        offset = record.tail + tail_length(&record)?;
    }
    if offset == end { Ok(records) } else { Err(BtfError::Malformed("the last type is cut short")) }
}

fn record_at(data: &[u8], offset: usize) -> Result<Record, BtfError> {
    let info = u32_at(data, offset + 4)?;
    Ok(Record {
        name: u32_at(data, offset)?,
        kind: (info >> 24) & 0x1f,
        vlen: info & 0xffff,
        kind_flag: info >> 31 == 1,
        size_or_type: u32_at(data, offset + 8)?,
        tail: offset + RECORD,
    })
}

fn tail_length(record: &Record) -> Result<usize, BtfError> {
    let each = match record.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => return Ok(4),
        KIND_ARRAY => return Ok(12),
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12,
        KIND_ENUM | KIND_FUNC_PROTO => 8,
        KIND_PTR | 7..=12 | KIND_FLOAT | KIND_TYPE_TAG => 0,
        _ => {
            return Err(BtfError::Malformed(
                "a kind of type that is newer than this reader (it knows 1 to 19)",
            ));
        }
    };
    Ok(each * record.vlen as usize)
}

fn u16_at(data: &[u8], offset: usize) -> Result<u16, BtfError> {
    let bytes = data.get(offset..offset + 2).and_then(|bytes| bytes.try_into().ok());
    Ok(u16::from_ne_bytes(bytes.ok_or(BtfError::Malformed("cut short"))?))
}

fn u32_at(data: &[u8], offset: usize) -> Result<u32, BtfError> {
    let bytes = data.get(offset..offset.saturating_add(4)).and_then(|bytes| bytes.try_into().ok());
    Ok(u32::from_ne_bytes(bytes.ok_or(BtfError::Malformed("cut short"))?))
}
