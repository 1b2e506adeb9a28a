//! No circle between the modules of a crate.
//!
//! A module may use what its own parents define, and they what is inside them: a folder is one thing whose
//! `mod.rs` holds the words that its files share. Every other way back to where one came from is a circle.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::graph::{Graph, is_within};

/// A circle that is known, and why it is still there.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) library: &'static str,
    /// Each file of the circle lies in one of the modules of these names.
    pub(super) modules: &'static [&'static str],
    pub(super) why: &'static str,
}

pub(super) const KNOWN: [Known; 0] = [];

/// Judges the circles of a crate, and says which of the known ones are gone.
pub(super) fn check(library: &str, graph: &Graph, known: &[Known]) -> Result<()> {
    let mut circles = Vec::new();
    let mut used = BTreeSet::new();
    for circle in find(graph) {
        match known.iter().find(|known| known.library == library && covers(known, graph, &circle)) {
            Some(known) => {
                println!("tidy: {library}: the circle of {} is known: {}", known.name, known.why);
                used.insert(known.name);
            }
            None => circles.push(describe(graph, &circle)),
        }
    }
    for known in known.iter().filter(|known| known.library == library && !used.contains(known.name)) {
        println!(
            "tidy: {library}: the circle of {} is gone: take its row out of KNOWN in circles.rs",
            known.name
        );
    }
    if circles.is_empty() {
        return Ok(());
    }
    bail!("{library}: move what ties the circle into a file that both sides use\n{}", circles.join("\n"))
}

fn covers(known: &Known, graph: &Graph, circle: &BTreeSet<usize>) -> bool {
    let inside = |path: &[String]| path.iter().any(|word| known.modules.contains(&word.as_str()));
    circle.iter().all(|index| inside(&graph.modules[*index].path))
}

/// The circles: sets of modules each of which leads to all others.
fn find(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..graph.modules.len()).map(|from| reach(graph, from)).collect();
    let mut circles: Vec<BTreeSet<usize>> = Vec::new();
    for (from, leads_to) in reached.iter().enumerate() {
        let circle: BTreeSet<usize> =
            leads_to.iter().copied().filter(|to| reached[*to].contains(&from)).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reach(graph: &Graph, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(at) = todo.pop() {
        for to in counted(graph, at) {
            if reached.insert(to) {
                todo.push(to);
            }
        }
    }
    reached
}

/// Where a module leads, its own parents aside.
fn counted(graph: &Graph, from: usize) -> impl Iterator<Item = usize> {
    graph
        .edges
        .range((from, 0)..(from + 1, 0))
        .map(|((_, to), _)| *to)
        .filter(move |to| !is_within(&graph.modules[from], &graph.modules[*to]))
}

fn describe(graph: &Graph, circle: &BTreeSet<usize>) -> String {
    let mut lines = Vec::new();
    for from in circle {
        for to in counted(graph, *from).filter(|to| circle.contains(to)) {
            let Some(edge) = graph.edges.get(&(*from, to)) else { continue };
            let names: Vec<&str> = edge.names.iter().map(String::as_str).collect();
            lines.push(format!(
                "  {}:{} takes {} from {}",
                graph.modules[*from].file.display(),
                edge.line,
                names.join(", "),
                graph.modules[to].file.display()
            ));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{super::graph::tests::house, *};

    const CIRCLE: [(&str, &str); 4] = [
        ("lib.rs", "mod a;\nmod b;\n"),
        ("a/mod.rs", "mod inner;\npub use self::inner::go;\n"),
        ("a/inner.rs", "use crate::b::Size;\npub fn go() -> Size { Size }\n"),
        ("b.rs", "use crate::a;\npub struct Size;\nfn f() { a::go(); }\n"),
    ];

    #[test]
    fn a_circle_through_a_re_export_is_found_with_what_ties_it() {
        let error = check("house", &house(&CIRCLE), &[]).unwrap_err().to_string();
        assert!(
            error.contains("a/inner.rs:1 takes Size from b.rs\n  b.rs:3 takes go from a/inner.rs"),
            "{error}"
        );
    }

    #[test]
    fn a_known_circle_passes_and_no_larger_one() {
        let known = |modules| Known { name: "a and b", library: "house", modules, why: "" };
        check("house", &house(&CIRCLE), &[known(&["a", "b"])]).unwrap();
        check("house", &house(&CIRCLE), &[known(&["a"])]).unwrap_err();
        check("other", &house(&CIRCLE), &[known(&["a", "b"])]).unwrap_err();
    }

    #[test]
    fn a_parent_and_its_children_are_no_circle_but_a_way_round_is() {
        let family = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "mod child;\npub struct Word;\nfn f() { child::g(); }\n"),
            ("a/child.rs", "use super::Word;\npub fn g() {}\n"),
            ("b.rs", "pub fn h() {}\n"),
        ];
        check("house", &house(&family), &[]).unwrap();
        let mut round = family;
        round[2].1 = "pub fn g() { crate::b::h() }\n";
        round[3].1 = "pub fn h() -> crate::a::Word {}\n";
        let error = check("house", &house(&round), &[]).unwrap_err().to_string();
        assert_eq!(error.matches(" takes ").count(), 3, "{error}");
    }

    #[test]
    fn tests_tie_no_circle() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use crate::b::X;\npub struct Y;\n"),
            ("b.rs", "pub struct X;\n#[cfg(test)]\nmod tests { use crate::a::Y; }\n"),
        ];
        check("house", &house(&files), &[]).unwrap();
    }
}
