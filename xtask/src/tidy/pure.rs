//! Modules that ask nothing of the system: every value and every moment is handed to them.
//!
//! Of the rooms that make system calls they may name plain values alone. The room `model` is held more
//! strictly, see `directions.rs`.

use anyhow::{Result, bail};

use super::{
    directions::{OUTSIDE, has_module, is_in, place},
    graph::{Foreign, Graph},
};

/// A module with all that is in it.
pub(super) struct Pure {
    module: &'static str,
    /// Plain values of rooms that make system calls, which it may name.
    values: &'static [&'static str],
}

const fn pure(module: &'static str, values: &'static [&'static str]) -> Pure {
    Pure { module, values }
}

/// Those that ARCHITECTURE.md calls pure.
pub(super) const PURE: [Pure; 13] = [
    pure("agent/rhythm", &[]),
    pure("audit/bounds", &["Schedstat"]),
    pure("audit/hour", &[]),
    pure("kernel/descriptors", &[]),
    pure("service/systemd/watch", &[]),
    pure("source/groups", &["GuestGroup"]),
    pure("source/host", &[]),
    pure("source/io/attached", &["FoundDevices"]),
    pure("source/io/owners", &[]),
    pure("source/io/places", &[]),
    pure("source/kvm/carry", &[]),
    pure("source/kvm/reach", &["Reach"]),
    pure("source/kvm/slots", &["Listed", "Reach"]),
];

/// Rooms that make system calls.
const CALLERS: [&str; 3] = ["collect", "load", "kernel"];
/// What of the standard library makes them.
const CALLS: [&str; 7] = ["env", "fs", "io", "net", "os", "process", "thread"];
/// What reads a clock.
const CLOCKS: [&str; 2] = ["Instant::now", "SystemTime::now"];

/// Judges the pure modules of the sampler.
pub(super) fn check(graph: &Graph, all: &[Pure]) -> Result<()> {
    let mut faults = Vec::new();
    for pure in all {
        if !has_module(graph, pure.module) {
            faults.push(format!("  no module is in {}: take its row out of PURE", pure.module));
        }
        faults.extend(taken(graph, pure));
        faults.extend(asked(graph, pure));
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("hand the value over from outside, or take the row out of PURE in pure.rs\n{}", faults.join("\n"))
}

/// Names of rooms that make system calls, other than plain values.
fn taken(graph: &Graph, pure: &Pure) -> Vec<String> {
    let mut faults = Vec::new();
    for ((from, to), edge) in &graph.edges {
        let (from, to) = (&graph.modules[*from], &graph.modules[*to]);
        if !is_in(from, pure.module) || !CALLERS.iter().any(|room| is_in(to, room)) {
            continue;
        }
        for name in edge.names.iter().filter(|name| !pure.values.contains(&name.as_str())) {
            let (at, to) = (place(from, edge.line), to.file.display());
            faults.push(format!("  {at} takes {name} from {to}; {} is pure", pure.module));
        }
    }
    faults
}

/// What makes a system call or reads a clock.
fn asked(graph: &Graph, pure: &Pure) -> Vec<String> {
    let is_fault = |foreign: &&Foreign| {
        // Of `use<>`, which captures and imports nothing, nothing is left.
        let Some(head) = foreign.path.first().map(String::as_str) else { return false };
        let outside = foreign.import && !OUTSIDE.contains(&head);
        let calls = head == "std" && foreign.path.iter().any(|word| CALLS.contains(&word.as_str()));
        let reads = CLOCKS.iter().any(|clock| foreign.path.join("::").ends_with(clock));
        outside || calls || reads
    };
    let of_module = graph.foreign.iter().filter(|foreign| is_in(&graph.modules[foreign.from], pure.module));
    let describe = |foreign: &Foreign| {
        let at = place(&graph.modules[foreign.from], foreign.line);
        format!("  {at} takes {}; {} is pure", foreign.path.join("::"), pure.module)
    };
    of_module.filter(is_fault).map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::graph::tests::house, *};

    fn verdict(rule: &str, rows: &[Pure]) -> String {
        let graph = house(&[
            ("lib.rs", "mod collect;\nmod rule;\n"),
            ("collect.rs", "pub enum Reach { All }\npub fn read() {}\n"),
            ("rule.rs", rule),
        ]);
        check(&graph, rows).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn plain_values_may_be_named_and_nothing_may_be_asked() {
        let rows = [pure("rule", &["Reach"])];
        let values = "use std::time::Instant;\nuse crate::collect::Reach;\nfn f() { g(Reach::All) }\n";
        assert_eq!(verdict(values, &rows), "");
        for line in [
            "use crate::collect::{Reach, read};",
            "fn f() { crate::collect::read() }",
            "fn f() { std::fs::read(x) }",
            "use libc::open;",
            "fn f() { std::time::Instant::now() }",
            "fn f() { Instant::now() }",
        ] {
            let said = verdict(line, &rows);
            assert!(said.contains("sampler/src/rule.rs:1 takes") && said.contains("rule is pure"), "{said}");
        }
    }

    #[test]
    fn a_row_needs_a_module() {
        let said = verdict("", &[pure("attic", &[])]);
        assert!(said.contains("no module is in attic"), "{said}");
    }
}
