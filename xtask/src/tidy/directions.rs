//! Nothing in the sampler imports to its left.
//!
//! `main`, `command` and `service` start what `agent` runs; data flows from `kernel` and `load` through
//! `collect` and `source` into `model`, from which the exporters take it. Each room says which rooms it may
//! import from.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::graph::{Graph, Module};

/// A room: a module at the top of the sampler with all that is in it, or a module inside one that has rules
/// of its own.
pub(super) struct Room {
    name: &'static str,
    /// Rooms it may import from, besides itself. `sampler_ebpf` is what is shared with the programs, or one
    /// module of that.
    may: &'static [&'static str],
}

/// An import that a room may not have, and why it is still there.
pub(super) struct Exception {
    from: &'static str,
    to: &'static str,
    names: &'static [&'static str],
    why: &'static str,
}

const fn room(name: &'static str, may: &'static [&'static str]) -> Room {
    Room { name, may }
}

pub(super) const ROOMS: [Room; 23] = [
    room("main", &["cli", "command"]),
    room(
        "command",
        &[
            "cli", "service", "agent", "config", "lock", "export", "source", "collect", "load", "kernel",
            "model", "duration",
        ],
    ),
    // Of the table it takes the names of columns.
    room("cli", &["service", "config", "export/settings", "export/table", "model", "duration"]),
    room("service", &["agent", "audit", "config", "export", "kernel", "model", "duration"]),
    room("agent", &["source", "collect", "load", "kernel", "model", "kept"]),
    // Asks the kernel by a way of its own: what it compares with must not come from a source.
    room("audit", &["collect", "kernel", "model"]),
    room("config", &["export/settings", "model", "duration"]),
    // Settings of the export are read by the configuration, so they know nothing of what they set; of the
    // model they take the names that an operator may write.
    room("export/settings", &["model", "duration"]),
    // What writes knows nothing of what sends, and what sends nothing of what is written.
    room("export/otlp", &["export/resource", "export/settings", "model"]),
    room("export/json", &["export/terminal", "model"]),
    room("export/client", &["export/settings"]),
    room("export/pipeline", &["export/client", "export/otlp", "export/resource", "export/settings", "model"]),
    room("export/table", &["export/terminal", "model"]),
    room("export", &["model", "duration"]),
    // Of guests of any hypervisor: it knows no source.
    room("source/io", &["collect", "model", "kept", "sampler_ebpf"]),
    room("source/kvm", &["source", "collect", "load", "kernel", "model", "kept", "sampler_ebpf"]),
    room("source", &["collect", "load", "kernel", "model", "kept", "sampler_ebpf"]),
    room("collect", &["load", "kernel", "model", "sampler_ebpf"]),
    room("load", &["kernel", "kept", "sampler_ebpf"]),
    room("kernel", &["model", "sampler_ebpf"]),
    // Pure: see `OUTSIDE`. Of what is shared with the programs it has the form of histograms alone, which is
    // OTLP's and no hypervisor's.
    room("model", &["kept", "sampler_ebpf/histogram"]),
    // How values outlive the process, and not which: who has such values says so beside their types.
    room("kept", &[]),
    room("duration", &[]),
];

/// Rooms that nothing of the flow passes through; they import nothing of the house.
const ALONE: [&str; 1] = ["lock"];

pub(super) const EXCEPTIONS: [Exception; 0] = [];

/// What is shared with the programs.
const SHARED: &str = "sampler_ebpf";

/// The room that makes no system call and reads no clock, and the crates it may use.
const PURE: &str = "model";
pub(super) const OUTSIDE: [&str; 5] = ["std", "core", "alloc", "serde", "sampler_ebpf"];
const IMPURE: [&str; 9] = ["env", "fs", "io", "net", "os", "process", "thread", "Instant", "SystemTime"];

/// Judges the sampler's imports.
pub(super) fn check(graph: &Graph, rooms: &[Room], exceptions: &[Exception]) -> Result<()> {
    let mut faults = strangers(graph, rooms);
    let mut used = vec![false; exceptions.len()];
    for ((from, to), edge) in &graph.edges {
        let (from, to) = (&graph.modules[*from], &graph.modules[*to]);
        let Some(room) = room_of(from, rooms).filter(|room| !may_import(room, to, rooms)) else { continue };
        let excepted = |exception: &Exception| {
            (exception.from, first(to)) == (room.name, exception.to)
                && edge.names.iter().all(|name| exception.names.contains(&name.as_str()))
        };
        match exceptions.iter().position(excepted) {
            Some(index) => {
                println!(
                    "tidy: {} takes {} from {}: {}",
                    room.name,
                    exceptions[index].names.join(", "),
                    exceptions[index].to,
                    exceptions[index].why
                );
                used[index] = true;
            }
            None => {
                let names: Vec<&str> = edge.names.iter().map(String::as_str).collect();
                let (at, names, place) = (place(from, edge.line), names.join(", "), to.file.display());
                faults.push(format!("  {at} takes {names} from {place}; {}", rule(room)));
            }
        }
    }
    faults.extend(foreign(graph, rooms));
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        let (from, to) = (exception.from, exception.to);
        println!("tidy: {from} takes nothing from {to} now: take its row out of EXCEPTIONS in directions.rs");
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("move the name to the right, or hand the value over from the left\n{}", faults.join("\n"))
}

/// Judges the rows: each names rooms that there are.
pub(super) fn check_rows(graph: &Graph, rooms: &[Room]) -> Result<()> {
    let names = rooms.iter().flat_map(|room| room.may.iter().chain([&room.name]));
    let own = names.filter(|name| !name.starts_with(SHARED));
    let empty: BTreeSet<_> = own.filter(|name| !has_module(graph, name)).copied().collect();
    if empty.is_empty() {
        return Ok(());
    }
    let empty = Vec::from_iter(empty).join(", ");
    bail!("no module is in these rooms, take them out of ROOMS in directions.rs: {empty}")
}

/// Modules of no room.
fn strangers(graph: &Graph, rooms: &[Room]) -> Vec<String> {
    let stranger = |module: &&Module| {
        module.path.len() == 1 && room_of(module, rooms).is_none() && !ALONE.contains(&first(module))
    };
    let fault = |module: &Module| format!("  {} is in no room: give it a row in ROOMS", place(module, 1));
    graph.modules.iter().filter(stranger).map(fault).collect()
}

/// Names out of other crates that a room may not have.
fn foreign(graph: &Graph, rooms: &[Room]) -> Vec<String> {
    let mut faults = Vec::new();
    for foreign in &graph.foreign {
        let module = &graph.modules[foreign.from];
        let Some(room) = room_of(module, rooms) else { continue };
        let path = foreign.path.join("::");
        // Of `use<>`, which captures and imports nothing, nothing is left.
        let Some(head) = foreign.path.first().map(String::as_str) else { continue };
        if head == SHARED && !may_share(room, &foreign.path) {
            faults.push(format!("  {} takes {path}; {}", place(module, foreign.line), rule(room)));
        }
        let outside = foreign.import && !OUTSIDE.contains(&head);
        let impure = head == "std" && foreign.path.iter().any(|word| IMPURE.contains(&word.as_str()));
        if room.name == PURE && (outside || impure) {
            faults.push(format!(
                "  {} takes {path}; {PURE} asks nothing of the system",
                place(module, foreign.line)
            ));
        }
    }
    faults
}

/// Whether a room may have this of what is shared with the programs.
fn may_share(room: &Room, path: &[String]) -> bool {
    let is_of = |allowed: &&str| {
        let mut path = path.iter();
        allowed.split('/').all(|word| path.next().is_some_and(|own| own == word))
    };
    room.may.iter().any(is_of)
}

fn room_of<'r>(module: &Module, rooms: &'r [Room]) -> Option<&'r Room> {
    rooms.iter().filter(|room| is_in(module, room.name)).max_by_key(|room| room.name.len())
}

pub(super) fn has_module(graph: &Graph, room: &str) -> bool {
    graph.modules.iter().any(|module| is_in(module, room))
}

pub(super) fn is_in(module: &Module, room: &str) -> bool {
    if module.path.is_empty() {
        return module.file.with_extension("").as_os_str() == room;
    }
    let mut path = module.path.iter();
    room.split('/').all(|word| path.next().is_some_and(|own| own == word))
}

fn may_import(room: &Room, to: &Module, rooms: &[Room]) -> bool {
    room_of(to, rooms).is_some_and(|other| other.name == room.name)
        || is_in(to, room.name)
        || room.may.iter().any(|allowed| is_in(to, allowed))
}

fn first(module: &Module) -> &str {
    module.path.first().map_or("", String::as_str)
}

pub(super) fn place(module: &Module, line: usize) -> String {
    format!("sampler/src/{}:{line}", module.file.display())
}

fn rule(room: &Room) -> String {
    match room.may {
        [] => format!("{} imports from no other room", room.name),
        may => format!("{} may import from {} alone", room.name, may.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::graph::tests::house, *};

    const HOUSE: [Room; 3] = [
        room("export/settings", &[]),
        room("export", &["model"]),
        room("model", &["sampler_ebpf/histogram"]),
    ];

    fn verdict(files: &[(&str, &str)], exceptions: &[Exception]) -> String {
        let lib = ("lib.rs", "mod export;\nmod model;\n");
        let all: Vec<_> = [lib].iter().chain(files).copied().collect();
        check(&house(&all), &HOUSE, exceptions).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn to_the_right_is_fine_and_to_the_left_is_not() {
        let export = ("export/mod.rs", "mod settings;\nuse crate::model::Vm;\nuse self::settings::S;\n");
        let settings = ("export/settings.rs", "pub struct S;\n");
        assert_eq!(verdict(&[export, settings, ("model.rs", "pub struct Vm;\n")], &[]), "");
        let model = ("model.rs", "pub struct Vm;\nfn f() { crate::export::json() }\n");
        let said = verdict(&[export, settings, model], &[]);
        assert!(said.contains("sampler/src/model.rs:2 takes json from export/mod.rs"), "{said}");
        let model = ("model.rs", "pub struct Vm;\n");
        let said = verdict(&[export, ("export/settings.rs", "use super::super::model::Vm;\n"), model], &[]);
        assert!(said.contains("export/settings imports from no other room"), "{said}");
    }

    #[test]
    fn an_exception_is_for_its_names_alone() {
        let files =
            [("export.rs", "pub struct A;\npub struct B;\n"), ("model.rs", "use crate::export::{A, B};\n")];
        let except = |names| [Exception { from: "model", to: "export", names, why: "" }];
        assert_eq!(verdict(&files, &except(&["A", "B"])), "");
        assert_ne!(verdict(&files, &except(&["A"])), "");
    }

    #[test]
    fn the_pure_room_asks_nothing_of_the_system() {
        let pure =
            "use serde::Serialize;\nuse std::collections::BTreeMap;\nuse sampler_ebpf::histogram::X;\n";
        assert_eq!(verdict(&[("model.rs", pure), ("export.rs", "use std::fs;\n")], &[]), "");
        for line in [
            "use std::time::{Duration, Instant};",
            "fn f() { std::fs::read(x) }",
            "use libc::open;",
            "use sampler_ebpf::abi::VcpuSlot;",
        ] {
            let said = verdict(&[("model.rs", line), ("export.rs", "")], &[]);
            assert!(said.contains("model.rs:1 takes"), "{line}: {said}");
        }
    }

    #[test]
    fn a_new_room_needs_a_row() {
        let said = verdict(&[("model.rs", "mod x;\n"), ("export.rs", "")], &[]);
        assert_eq!(said, "");
        let graph = house(&[("lib.rs", "mod attic;\n"), ("attic.rs", "")]);
        assert!(check(&graph, &HOUSE, &[]).unwrap_err().to_string().contains("attic.rs:1 is in no room"));
    }

    #[test]
    fn a_row_needs_a_module() {
        let files = [
            ("lib.rs", "mod export;\nmod model;\n"),
            ("export.rs", "mod settings;\n"),
            ("export/settings.rs", ""),
            ("model.rs", ""),
        ];
        check_rows(&house(&files), &HOUSE).unwrap();
        for (rows, missing) in [
            (&[room("attic", &[])][..], "attic"),
            (&[room("export", &["model", "export/cellar"])][..], "export/cellar"),
        ] {
            let said = check_rows(&house(&files), rows).unwrap_err().to_string();
            assert!(said.ends_with(&format!("in directions.rs: {missing}")), "{said}");
        }
    }
}
