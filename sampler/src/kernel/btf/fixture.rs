//! Writes BTF for tests: kernels that were never built.

use super::Btf;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC_PROTO: u32 = 13;

/// A member as it is to be written.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) type_id: u32,
    pub(crate) bit_offset: u32,
    pub(crate) bits: u32,
}

/// A byte-aligned member.
pub(crate) fn member(name: &'static str, type_id: u32, offset: u32) -> Member {
    Member { name, type_id, bit_offset: offset * 8, bits: 0 }
}

/// Collects types; ids count from 1 in the order of the calls.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    /// Strings of the kernel that a module counts on from.
    strings_before: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    /// A module of a kernel: its types and strings count on from there.
    pub(crate) fn after(kernel: &Self) -> Self {
        Self { count: kernel.count, strings_before: length(&kernel.strings), ..Self::default() }
    }

    pub(crate) fn int(&mut self, bytes: u32) -> u32 {
        self.push(if bytes == 8 { "u64" } else { "other int" }, KIND_INT, 0, false, bytes, &[bytes * 8])
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.push("", KIND_PTR, 0, false, to, &[])
    }

    pub(crate) fn typedef(&mut self, name: &str, to: u32) -> u32 {
        self.push(name, KIND_TYPEDEF, 0, false, to, &[])
    }

    pub(crate) fn array(&mut self, of: u32, length: u32) -> u32 {
        let index = self.int(4);
        self.push("", KIND_ARRAY, 0, false, 0, &[of, index, length])
    }

    /// Enumerators count from `first`.
    pub(crate) fn enumeration(&mut self, first: u32, names: &[&str]) -> u32 {
        let tail: Vec<u32> =
            (first..).zip(names).flat_map(|(value, name)| [self.string(name), value]).collect();
        self.push("", KIND_ENUM, names.len(), false, 4, &tail)
    }

    pub(crate) fn prototype(&mut self, parameters: &[u32]) -> u32 {
        let tail: Vec<u32> = parameters.iter().flat_map(|id| [0, *id]).collect();
        self.push("", KIND_FUNC_PROTO, parameters.len(), false, 0, &tail)
    }

    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[Member]) -> u32 {
        self.compound(KIND_STRUCT, name, size, members)
    }

    pub(crate) fn union(&mut self, name: &str, size: u32, members: &[Member]) -> u32 {
        self.compound(KIND_UNION, name, size, members)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (length(&self.types), length(&self.strings));
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }

    pub(crate) fn build(&self) -> Btf {
        Btf::parse(self.bytes()).expect("the fixture is well-formed")
    }

    fn compound(&mut self, kind: u32, name: &str, size: u32, members: &[Member]) -> u32 {
        let flag = members.iter().any(|member| member.bits != 0);
        let mut tail = Vec::new();
        for member in members {
            let name = self.string(member.name);
            tail.extend([name, member.type_id, member.bit_offset | if flag { member.bits << 24 } else { 0 }]);
        }
        self.push(name, kind, members.len(), flag, size, &tail)
    }

    fn push(&mut self, name: &str, kind: u32, vlen: usize, flag: bool, size: u32, tail: &[u32]) -> u32 {
        let name = self.string(name);
        let info = (u32::from(flag) << 31) | (kind << 24) | u32::try_from(vlen).expect("few members");
        for word in [name, info, size].iter().chain(tail) {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings_before + length(&self.strings);
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("small")
}
