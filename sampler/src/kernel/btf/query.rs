//! Questions asked of BTF: where a member lies, what a tracepoint passes.

use super::{
    BtfError,
    parse::{
        Btf, KIND_ARRAY, KIND_CONST, KIND_ENUM, KIND_ENUM64, KIND_FUNC_PROTO, KIND_INT, KIND_PTR,
        KIND_RESTRICT, KIND_STRUCT, KIND_TYPE_TAG, KIND_TYPEDEF, KIND_UNION, KIND_VOLATILE,
    },
};

/// Depth of typedefs, qualifiers, arrays and nested structures that is followed; a loop in a broken file ends
/// here.
const MAX_DEPTH: u32 = 32;

/// Members that are looked at for one name: no structure of a kernel has a tenth of it, with those of its
/// structures without a name. In a broken file each of two may be the same structure again, and so on down.
const MAX_MEMBERS: u32 = 1 << 16;

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the outermost structure.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// A parameter of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// A pointer to the named structure.
    Struct(String),
    /// Anything else: number, pointer to something without a name.
    Other,
}

struct Found {
    bits: u32,
    type_id: u32,
    /// Of a bit field, in bits; 0 of any other member.
    width: u32,
}

impl Btf {
    /// Finds a member by its path, dots between nested structures; anonymous structures and unions are
    /// looked into, as C does. An element of an array is `member[ENUMERATOR]`.
    ///
    /// # Errors
    /// When the structure or the member does not exist, or the member is a bit field.
    pub fn field(&self, container: &str, path: &str) -> Result<Field, BtfError> {
        let missing = || BtfError::NoMember { container: container.into(), path: path.into() };
        let (bits, type_id) = self.locate(container, path)?;
        Ok(Field { offset: bits / 8, size: self.size(type_id, 0).ok_or_else(missing)? })
    }

    /// Finds a member that is a single bit of an outermost structure: how many bits from its start.
    ///
    /// # Errors
    /// When the structure or the member does not exist, or the member is anything else.
    pub fn bit(&self, container: &str, name: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoMember { container: container.into(), path: name.into() };
        let found = self.member_of(self.outermost(container)?, name).ok_or_else(missing)?;
        if found.width == 1 { Ok(found.bits) } else { Err(missing()) }
    }

    /// Name of the structure that a member is, whatever typedefs it is declared by; empty where the structure
    /// has none.
    ///
    /// # Errors
    /// When the structure or the member does not exist, or the member is something else.
    pub fn structure_of(&self, container: &str, path: &str) -> Result<String, BtfError> {
        let (_, type_id) = self.locate(container, path)?;
        let structure = self.record(type_id).filter(|record| record.kind == KIND_STRUCT);
        let name = structure.map(|record| String::from_utf8_lossy(self.string(record.name)).into_owned());
        name.ok_or_else(|| BtfError::NoStructure { container: container.into(), path: path.into() })
    }

    /// Where a member is, in bits, and its type.
    fn locate(&self, container: &str, path: &str) -> Result<(u32, u32), BtfError> {
        let missing = || BtfError::NoMember { container: container.into(), path: path.into() };
        let mut type_id = self.outermost(container)?;
        let mut bits = 0u32;
        for name in path.split('.') {
            let (name, index) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                Some((name, enumerator)) => (name, Some(enumerator)),
                None => (name, None),
            };
            let found = self.member_of(type_id, name).ok_or_else(missing)?;
            if found.width != 0 || found.bits % 8 != 0 {
                return Err(BtfError::BitField { container: container.into(), path: path.into() });
            }
            bits = bits.checked_add(found.bits).ok_or_else(missing)?;
            type_id = self.strip(found.type_id).ok_or_else(missing)?;
            if let Some(enumerator) = index {
                let element = self.element(type_id, enumerator).ok_or_else(missing)?;
                bits = bits.checked_add(element.bits).ok_or_else(missing)?;
                type_id = element.type_id;
            }
        }
        Ok((bits, type_id))
    }

    /// Where the element of an array is whose index an enumerator is.
    fn element(&self, array: u32, enumerator: &str) -> Option<Found> {
        let record = self.record(array).filter(|record| record.kind == KIND_ARRAY)?;
        let type_id = self.strip(self.word(record.tail))?;
        let index = self.enumerator(enumerator).filter(|index| *index < self.word(record.tail + 8))?;
        let bits = self.size(type_id, 0)?.checked_mul(8)?.checked_mul(index)?;
        Some(Found { bits, type_id, width: 0 })
    }

    /// Value of an enumerator of any enumeration of 32 bits: the first of that name.
    #[must_use]
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        let enumerations = self.all().filter(|record| record.kind == KIND_ENUM);
        let mut enumerators =
            enumerations.flat_map(|record| (0..record.vlen as usize).map(move |n| record.tail + n * 8));
        enumerators.find(|at| self.is_string(self.word(*at), name)).map(|at| self.word(at + 4))
    }

    fn outermost(&self, container: &str) -> Result<u32, BtfError> {
        let found = self.find(container, &[KIND_STRUCT, KIND_UNION]);
        found.ok_or_else(|| BtfError::NoStruct(container.into()))
    }

    /// The parameters of a tracepoint, without the leading `void *__data`.
    ///
    /// # Errors
    /// When the kernel has no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Result<Vec<Parameter>, BtfError> {
        let missing = || BtfError::NoTracepoint(name.into());
        let typedef = self.find(&format!("btf_trace_{name}"), &[KIND_TYPEDEF]).ok_or_else(missing)?;
        let pointer = self.record(self.strip(typedef).ok_or_else(missing)?).ok_or_else(missing)?;
        let prototype =
            self.strip(pointer.size_or_type).and_then(|id| self.record(id)).ok_or_else(missing)?;
        if pointer.kind != KIND_PTR || prototype.kind != KIND_FUNC_PROTO {
            return Err(missing());
        }
        let parameters = (1..prototype.vlen as usize).map(|n| self.word(prototype.tail + n * 8 + 4));
        Ok(parameters.map(|id| self.parameter(id)).collect())
    }

    fn parameter(&self, id: u32) -> Parameter {
        let pointer = self.strip(id).and_then(|id| self.record(id)).filter(|record| record.kind == KIND_PTR);
        let target =
            pointer.and_then(|record| self.strip(record.size_or_type)).and_then(|id| self.record(id));
        match target {
            Some(record) if record.kind == KIND_STRUCT => {
                Parameter::Struct(String::from_utf8_lossy(self.string(record.name)).into_owned())
            }
            _ => Parameter::Other,
        }
    }

    fn member_of(&self, type_id: u32, name: &str) -> Option<Found> {
        let mut left = MAX_MEMBERS;
        self.member(type_id, name, 0, &mut left)
    }

    /// `left` is how many members may still be looked at.
    fn member(&self, type_id: u32, name: &str, depth: u32, left: &mut u32) -> Option<Found> {
        let record = self.record(type_id)?;
        if depth > MAX_DEPTH || !matches!(record.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for at in (0..record.vlen as usize).map(|n| record.tail + n * 12) {
            *left = left.checked_sub(1)?;
            let (member_name, member_type, position) = (self.word(at), self.word(at + 4), self.word(at + 8));
            // With the kind flag set the upper byte is the width of a bit field, 0 for an ordinary member.
            let (bits, width) =
                if record.kind_flag { (position & 0x00ff_ffff, position >> 24) } else { (position, 0) };
            if self.is_string(member_name, name) {
                return Some(Found { bits, type_id: member_type, width });
            }
            if self.is_string(member_name, "")
                && let Some(inner) =
                    self.strip(member_type).and_then(|inner| self.member(inner, name, depth + 1, left))
            {
                return Some(Found { bits: bits.checked_add(inner.bits)?, ..inner });
            }
        }
        None
    }

    /// Follows typedefs and qualifiers to the type that they stand for.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let record = self.record(id)?;
            match record.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = record.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let record = self.record(self.strip(id)?)?;
        match record.kind {
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 => Some(record.size_or_type),
            KIND_PTR => Some(8),
            KIND_ARRAY if depth < MAX_DEPTH => {
                let element = self.size(self.word(record.tail), depth + 1)?;
                element.checked_mul(self.word(record.tail + 8))
            }
            _ => None,
        }
    }
}
