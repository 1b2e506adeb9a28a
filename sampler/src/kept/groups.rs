//! Options, lists, maps and sets; several values that are one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Keep, Reader, Shape, Writer};

impl<T: Keep> Keep for Option<T> {
    const SHAPE: u64 = Shape::of("option").number(T::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Some(if bool::take(from)? { Some(T::take(from)?) } else { None })
    }
}

/// Of a value that several share each has its own afterwards.
macro_rules! pointers {
    ($($pointer:ident),*) => {$(
        impl<T: Keep> Keep for $pointer<T> {
            const SHAPE: u64 = T::SHAPE;

            fn put(&self, to: &mut Writer<'_>) {
                T::put(self, to);
            }

            fn take(from: &mut Reader<'_>) -> Option<Self> {
                T::take(from).map(Self::new)
            }
        }
    )*};
}

pointers!(Arc, Box);

macro_rules! tuples {
    ($($(($name:ident $place:tt))*;)*) => {$(
        impl<$($name: Keep),*> Keep for ($($name,)*) {
            const SHAPE: u64 = Shape::of("tuple")$(.number($name::SHAPE))*.end();

            fn put(&self, to: &mut Writer<'_>) {
                $(self.$place.put(to);)*
            }

            fn take(from: &mut Reader<'_>) -> Option<Self> {
                Some(($($name::take(from)?,)*))
            }
        }
    )*};
}

tuples! {
    (A 0) (B 1);
    (A 0) (B 1) (C 2);
    (A 0) (B 1) (C 2) (D 3);
}

fn put_list<T: Keep>(list: &[T], to: &mut Writer<'_>) {
    (list.len() as u32).put(to);
    T::put_all(list, to);
}

/// How many values follow: each has a byte at least.
fn take_length(from: &mut Reader<'_>) -> Option<usize> {
    let length = u32::take(from)? as usize;
    (length <= from.left()).then_some(length)
}

impl<T: Keep> Keep for Vec<T> {
    const SHAPE: u64 = Shape::of("list").number(T::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        put_list(self, to);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let length = take_length(from)?;
        // No more room than what is left could fill.
        let room = from.left() / size_of::<T>().max(1);
        let mut list = Self::with_capacity(length.min(room));
        for _ in 0..length {
            list.push(T::take(from)?);
        }
        Some(list)
    }
}

impl<T: Keep> Keep for Arc<[T]> {
    const SHAPE: u64 = Vec::<T>::SHAPE;

    fn put(&self, to: &mut Writer<'_>) {
        put_list(self, to);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Vec::take(from).map(Self::from)
    }
}

impl<K: Keep + Ord, V: Keep> Keep for BTreeMap<K, V> {
    const SHAPE: u64 = Shape::of("map").number(K::SHAPE).number(V::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        (self.len() as u32).put(to);
        for (key, value) in self {
            key.put(to);
            value.put(to);
        }
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let mut map = Self::new();
        for _ in 0..take_length(from)? {
            let key = K::take(from)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return None;
            }
            map.insert(key, V::take(from)?);
        }
        Some(map)
    }
}

impl<T: Keep + Ord> Keep for BTreeSet<T> {
    const SHAPE: u64 = Shape::of("set").number(T::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        (self.len() as u32).put(to);
        self.iter().for_each(|one| one.put(to));
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let mut set = Self::new();
        for _ in 0..take_length(from)? {
            let one = T::take(from)?;
            if set.last().is_some_and(|last| *last >= one) {
                return None;
            }
            set.insert(one);
        }
        Some(set)
    }
}
