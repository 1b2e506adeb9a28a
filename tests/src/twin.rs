//! Programs that tests and benchmarks alone load, in an object of their own.

use hvsampler::load::{self, Attach, Hook, LoadError, Loaded, Options, When};

/// The product's programs, and the others.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sampler-programs"));

/// The empty twin of the scheduler program, attached by [`load_empty`].
const EMPTY: &[Hook] = &[hook(
    "empty switch",
    &[Attach::BtfTracepoint { program: "empty_switch_btf", tracepoint: "sched_switch" }],
)];

/// That of the program on the block layer, attached by [`load_empty_request`].
const EMPTY_REQUEST: &[Hook] = &[hook(
    "empty request",
    &[Attach::BtfTracepoint { program: "empty_request_btf", tracepoint: "block_rq_complete" }],
)];

/// All that the product does not have.
pub const TWINS: &[Hook] = &[
    EMPTY[0],
    EMPTY_REQUEST[0],
    hook(
        "empty entry",
        &[Attach::RawTracepoint { program: "empty_kvm_raw", tracepoint: "kvm_entry", reads: 0 }],
    ),
];

const fn hook(name: &'static str, ways: &'static [Attach]) -> Hook {
    Hook { name, gives: "a price to compare with", ways, when: When::Start, needed: true, shape: |_| Ok(()) }
}

/// Attaches an empty program in the place of the scheduler's.
///
/// # Errors
/// As [`load::load`].
pub fn load_empty(options: Options) -> Result<Loaded, LoadError> {
    load::load_others(OBJECT, EMPTY, options)
}

/// Attaches an empty program where the block layer ends requests.
///
/// # Errors
/// As [`load::load`].
pub fn load_empty_request(options: Options) -> Result<Loaded, LoadError> {
    load::load_others(OBJECT, EMPTY_REQUEST, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_has_no_program_of_the_tests() {
        let has = |object: &[u8], name: &str| object.windows(name.len()).any(|at| at == name.as_bytes());
        for program in TWINS.iter().flat_map(|hook| hook.ways).map(|way| way.program()) {
            assert!(has(OBJECT, program), "{program} is nowhere");
            assert!(!has(load::OBJECT, program), "{program} is in the product");
        }
        assert!(has(load::OBJECT, "walk_tasks"), "names are looked for in the wrong way");
    }
}
