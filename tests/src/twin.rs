//! Programs that tests and benchmarks alone load, in an object of their own.

use hvsampler::load::{self, Attach, AttachError, Attached, Hook, LoadError, Loaded, Options, When};

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

/// Begin before the sampler's programs, and end after them, on the tracepoints where the scheduler has locked
/// interrupts out.
const STOPWATCH: &[Hook] = &[
    hook("switch begins", &[typed("switch_begins", "sched_switch")]),
    hook("move begins", &[typed("move_begins", "sched_migrate_task")]),
    hook("switch ends", &[typed("switch_ends", "sched_switch")]),
    hook("move ends", &[typed("move_ends", "sched_migrate_task")]),
];

/// All that the product does not have.
pub const TWINS: &[Hook] = &[
    EMPTY[0],
    EMPTY_REQUEST[0],
    STOPWATCH[0],
    STOPWATCH[1],
    STOPWATCH[2],
    STOPWATCH[3],
    hook(
        "empty entry",
        &[Attach::RawTracepoint { program: "empty_kvm_raw", tracepoint: "kvm_entry", reads: 0 }],
    ),
];

const fn typed(program: &'static str, tracepoint: &'static str) -> Attach {
    Attach::BtfTracepoint { program, tracepoint }
}

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

/// Attaches what begins before the sampler's programs, which are to be attached next. What ends after them is
/// loaded, and attached by [`end_after`].
///
/// # Errors
/// As [`load::load`].
pub fn load_stopwatch(options: Options) -> Result<Loaded, LoadError> {
    let mut watch = load::load_others(OBJECT, STOPWATCH, options)?;
    watch.attached[STOPWATCH.len() / 2..].iter_mut().for_each(Attached::pause);
    Ok(watch)
}

/// Attaches what ends after the programs that are attached by now.
///
/// # Errors
/// When the kernel refuses.
pub fn end_after(watch: &mut Loaded) -> Result<(), AttachError> {
    let Loaded { attached, object, .. } = watch;
    attached[STOPWATCH.len() / 2..].iter_mut().try_for_each(|attached| attached.resume(object))
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
