//! What bytes look like, as one number.

use super::Keep;

/// FNV-1a over names and numbers, by the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(u64);

impl Shape {
    /// Begins with the name of a type.
    #[must_use]
    pub const fn of(name: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).name(name)
    }

    /// With a name more.
    #[must_use]
    pub const fn name(self, name: &str) -> Self {
        let bytes = name.as_bytes();
        // The length keeps names apart that follow each other.
        self.number(bytes.len() as u64).bytes(bytes)
    }

    /// With a number more: a length, or the shape of a part.
    #[must_use]
    pub const fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// The number that stands for all of it.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.0
    }

    const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0 = (self.0 ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        self
    }
}

/// The shape of the field that this function gives.
#[must_use]
pub const fn of_field<S, F: Keep>(_: fn(&S) -> &F) -> u64 {
    F::SHAPE
}
