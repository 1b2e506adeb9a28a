//! The few forms of the protobuf wire format that OTLP metrics need, each with its length.
//!
//! All field numbers here are below 16, so every tag is one byte.

use bytes::BufMut;

/// Wire type of integers of variable length.
const VARINT: u8 = 0;
/// Wire type of eight bytes, little-endian.
const FIXED64: u8 = 1;
/// Wire type of strings and nested messages.
const LENGTH: u8 = 2;

const fn tag(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

/// Bytes of a fixed64 field.
pub(super) const FIXED64_FIELD: usize = 9;

/// Bytes of `value` as a varint.
pub(super) const fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and zero still takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Bytes of a string or nested message of `len` bytes, its tag and length included.
pub(super) const fn delimited_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Writes a varint.
pub(super) fn put_varint(buffer: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

/// Writes a varint field.
pub(super) fn put_varint_field(buffer: &mut impl BufMut, field: u8, value: u64) {
    buffer.put_u8(tag(field, VARINT));
    put_varint(buffer, value);
}

/// Writes a fixed64 field.
pub(super) fn put_fixed64(buffer: &mut impl BufMut, field: u8, value: u64) {
    buffer.put_u8(tag(field, FIXED64));
    buffer.put_u64_le(value);
}

/// Writes tag and length of a nested message, whose `len` bytes must follow.
pub(super) fn put_header(buffer: &mut impl BufMut, field: u8, len: usize) {
    buffer.put_u8(tag(field, LENGTH));
    put_varint(buffer, len as u64);
}

/// Writes a string or a nested message.
pub(super) fn put_delimited(buffer: &mut impl BufMut, field: u8, bytes: &[u8]) {
    put_header(buffer, field, bytes.len());
    buffer.put_slice(bytes);
}

/// Writes a string field; like every proto3 field it is left out when empty.
pub(super) fn put_string(buffer: &mut impl BufMut, field: u8, text: &str) {
    if !text.is_empty() {
        put_delimited(buffer, field, text.as_bytes());
    }
}

/// A value of an attribute.
#[derive(Clone, Copy)]
pub(super) enum AnyValue<'a> {
    /// Text.
    String(&'a str),
    /// An integer.
    Int(i64),
}

/// Writes a `KeyValue` as `field` of the message around it.
pub(super) fn put_attribute(buffer: &mut Vec<u8>, field: u8, key: &str, value: AnyValue<'_>) {
    const KEY: u8 = 1;
    const VALUE: u8 = 2;
    let any_len = match value {
        AnyValue::String(text) => delimited_len(text.len()),
        AnyValue::Int(number) => 1 + varint_len(number as u64),
    };
    let key_len = if key.is_empty() { 0 } else { delimited_len(key.len()) };
    put_header(buffer, field, key_len + delimited_len(any_len));
    put_string(buffer, KEY, key);
    put_header(buffer, VALUE, any_len);
    // A member of a oneof is written even when it is empty or zero: its presence is its meaning.
    match value {
        AnyValue::String(text) => put_delimited(buffer, 1, text.as_bytes()),
        AnyValue::Int(number) => put_varint_field(buffer, 3, number as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_is_what_put_varint_writes() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX]) {
            let mut buffer = Vec::new();
            put_varint(&mut buffer, value);
            assert_eq!(varint_len(value), buffer.len(), "{value}");
            assert_eq!(prost::encoding::encoded_len_varint(value), buffer.len(), "{value}");
        }
    }
}
