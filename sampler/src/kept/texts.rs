//! Texts.

use std::sync::Arc;

use super::{Keep, Reader, Shape, Writer};

/// Bytes of the longest text that is kept whole. Names and paths are shorter; of another the begin is kept.
const LONGEST: usize = u16::MAX as usize;

fn put(text: &str, to: &mut Writer<'_>) {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    (text.len() as u16).put(to);
    to.bytes(text.as_bytes());
}

fn take<'b>(from: &mut Reader<'b>) -> Option<&'b str> {
    let length = u16::take(from)?;
    str::from_utf8(from.bytes(usize::from(length))?).ok()
}

macro_rules! texts {
    ($($type:ty),*) => {$(
        impl Keep for $type {
            const SHAPE: u64 = Shape::of("text").end();

            fn put(&self, to: &mut Writer<'_>) {
                put(self, to);
            }

            fn take(from: &mut Reader<'_>) -> Option<Self> {
                take(from).map(Self::from)
            }
        }
    )*};
}

texts!(String, Arc<str>);
