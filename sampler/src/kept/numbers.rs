//! Numbers, and arrays of anything.

use super::{Keep, Reader, Shape, Writer};

macro_rules! numbers {
    ($($type:ident),*) => {$(
        impl Keep for $type {
            const SHAPE: u64 = Shape::of(stringify!($type)).end();

            #[inline]
            fn put(&self, to: &mut Writer<'_>) {
                to.bytes(&self.to_le_bytes());
            }

            #[inline]
            fn take(from: &mut Reader<'_>) -> Option<Self> {
                from.array().map(Self::from_le_bytes)
            }

            fn put_all(all: &[Self], to: &mut Writer<'_>) {
                match to.room(size_of_val(all)) {
                    Some(room) => {
                        let (room, _) = room.as_chunks_mut();
                        room.iter_mut().zip(all).for_each(|(room, one)| *room = one.to_le_bytes());
                    }
                    None => all.iter().for_each(|one| one.put(to)),
                }
            }

            fn take_all<const N: usize>(from: &mut Reader<'_>) -> Option<[Self; N]> {
                let (all, _) = from.bytes(size_of::<[Self; N]>())?.as_chunks();
                let all: &[_; N] = all.try_into().ok()?;
                Some(all.map(Self::from_le_bytes))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i64);

impl Keep for bool {
    const SHAPE: u64 = Shape::of("bool").end();

    fn put(&self, to: &mut Writer<'_>) {
        to.bytes(&[u8::from(*self)]);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Keep, const N: usize> Keep for [T; N] {
    const SHAPE: u64 = Shape::of("array").number(N as u64).number(T::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        T::put_all(self, to);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        T::take_all(from)
    }
}
