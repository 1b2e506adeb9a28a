//! What is to be known of the block layer's requests beside where their members are.

use crate::kernel::btf::Btf;

/// The flag of requests that are in the middle of a sequence with flushes. Kernels whose types say it have it
/// in an enumeration (6.12 and later); before, `RQF_FLUSH_SEQ` was a macro of this value from 4.8 on.
pub(super) fn flush_sequence(btf: &Btf) -> u32 {
    const MACRO: u32 = 1 << 4;
    btf.enumerator("__RQF_FLUSH_SEQ").and_then(|bit| 1_u32.checked_shl(bit)).unwrap_or(MACRO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::fixture::Builder;

    #[test]
    fn the_flag_is_where_the_kernel_s_types_say_or_where_it_was_before_they_did() {
        assert_eq!(flush_sequence(&Builder::new().build()), 16);
        let mut btf = Builder::new();
        btf.enumeration(0, &["__RQF_STARTED", "__RQF_FLUSH_SEQ"]);
        assert_eq!(flush_sequence(&btf.build()), 2);
        let mut btf = Builder::new();
        btf.enumeration(32, &["__RQF_FLUSH_SEQ"]);
        assert_eq!(flush_sequence(&btf.build()), 16, "there is no such bit");
    }
}
