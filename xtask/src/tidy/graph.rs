//! The modules of a crate, and which takes which names from which.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::parse::{Named, Source};

/// Reads a file of the crate; none when there is no such file.
pub(super) type Read<'r> = &'r dyn Fn(&Path) -> Option<String>;

/// How long a chain of re-exports may be before it counts as endless.
const CHAIN: usize = 16;

/// A module that is a file.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    /// From the crate's root, which has none.
    pub(super) path: Vec<String>,
    source: Source,
    /// Full paths of the imported names.
    imports: BTreeMap<String, Vec<String>>,
    /// Full paths of what is imported whole.
    globs: Vec<Vec<String>>,
}

/// One file takes names from another.
#[derive(Debug, Default)]
pub(super) struct Edge {
    pub(super) names: BTreeSet<String>,
    /// Where the first is named.
    pub(super) line: usize,
}

/// A name out of another crate.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Foreign {
    pub(super) from: usize,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// Whether a `use` brings it.
    pub(super) import: bool,
}

/// A crate.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) modules: Vec<Module>,
    /// By the indices of both modules.
    pub(super) edges: BTreeMap<(usize, usize), Edge>,
    pub(super) foreign: BTreeSet<Foreign>,
    library: String,
}

/// What a full path leads to.
enum Target {
    /// A name that this module defines.
    Name(usize, String),
    /// The module itself.
    Module(usize),
}

/// What a module takes: from which module, which name, and where it says so.
#[derive(Default)]
struct Taken {
    names: Vec<(usize, String, usize)>,
    /// Modules that are imported as such.
    whole: Vec<(usize, String, usize)>,
    foreign: Vec<Foreign>,
}

impl Graph {
    /// The crate of a library of this name. `roots` are the files that declare its modules: `lib.rs` first,
    /// where it has one, then `main.rs`, whose modules are taken for the crate's too.
    pub(super) fn of(library: &str, roots: &[PathBuf], read: Read<'_>) -> Self {
        let mut graph = Self {
            modules: Vec::new(),
            edges: BTreeMap::new(),
            foreign: BTreeSet::new(),
            library: library.to_owned(),
        };
        for root in roots {
            graph.add(root.clone(), &[], read);
        }
        for index in 0..graph.modules.len() {
            graph.read_imports(index);
        }
        for index in 0..graph.modules.len() {
            graph.connect(index);
        }
        graph
    }

    fn add(&mut self, file: PathBuf, path: &[String], read: Read<'_>) {
        let Some(text) = read(&file) else { return };
        let source = Source::parse(&text);
        let folder = folder_of_children(&file);
        let children = source.children.clone();
        let module =
            Module { file, path: path.to_vec(), source, imports: BTreeMap::new(), globs: Vec::new() };
        self.modules.push(module);
        for child in children {
            let base = folder.join(child.join("/"));
            let file = [base.with_extension("rs"), base.join("mod.rs")];
            let file = file.into_iter().find(|file| read(file).is_some());
            if let Some(file) = file {
                self.add(file, &[path, &child].concat(), read);
            }
        }
    }

    fn read_imports(&mut self, index: usize) {
        let module = &self.modules[index];
        let (mut imports, mut globs) = (BTreeMap::new(), Vec::new());
        for import in &module.source.uses {
            let Some(path) = self.full_path(module, &import.path) else { continue };
            match import.name.as_str() {
                "*" => globs.push(path),
                "_" => {}
                name => drop(imports.insert(name.to_owned(), path)),
            }
        }
        let module = &mut self.modules[index];
        (module.imports, module.globs) = (imports, globs);
    }

    /// A path counted from the crate's root; none where it leads out of the crate.
    fn full_path(&self, module: &Module, named: &Named) -> Option<Vec<String>> {
        let mut base: Vec<String> = [module.path.clone(), named.within.clone()].concat();
        let mut words = named.words.as_slice();
        match words.first()?.as_str() {
            "crate" => base.clear(),
            name if name == self.library => base.clear(),
            "self" => {}
            "super" => {
                while words.get(1).is_some_and(|word| word == "super") {
                    base.pop()?;
                    words = &words[1..];
                }
                base.pop()?;
            }
            head => {
                if self.find(&[base.as_slice(), &[head.to_owned()]].concat()).is_some() {
                    return Some([base, words.to_vec()].concat());
                }
                let import = module.imports.get(head)?;
                return Some([import.as_slice(), &words[1..]].concat());
            }
        }
        base.extend_from_slice(&words[1..]);
        Some(base)
    }

    fn find(&self, path: &[String]) -> Option<usize> {
        self.modules.iter().position(|module| module.path == path)
    }

    /// Follows a full path through modules and re-exports to where the name is defined.
    fn target(&self, path: &[String], chain: usize) -> Option<Target> {
        let depth = (0..=path.len()).rev().find(|depth| self.find(&path[..*depth]).is_some())?;
        let module = self.find(&path[..depth])?;
        let Some(name) = path.get(depth) else { return Some(Target::Module(module)) };
        let own = &self.modules[module];
        if chain == 0 || own.source.items.contains(name) {
            return Some(Target::Name(module, name.clone()));
        }
        let onward = own.imports.get(name).map(|import| [import.as_slice(), &path[depth + 1..]].concat());
        if let Some(onward) = onward.filter(|onward| onward != path) {
            return self.target(&onward, chain - 1);
        }
        let glob = own.globs.iter().filter(|glob| *glob != &own.path);
        let through =
            glob.filter_map(|glob| self.target(&[glob.as_slice(), &path[depth..]].concat(), chain - 1));
        let defined = |target: &Target| match target {
            Target::Name(module, name) => self.modules[*module].source.items.contains(name),
            Target::Module(_) => true,
        };
        through.into_iter().find(defined).or_else(|| Some(Target::Name(module, name.clone())))
    }

    fn connect(&mut self, index: usize) {
        let Taken { names, mut whole, foreign } = self.taken(index);
        // What is taken from an imported module is seen where it is named; what is not seen counts as the
        // whole module.
        whole.retain(|(to, name, _)| {
            let seen = |taken: usize| taken == *to || is_within(&self.modules[taken], &self.modules[*to]);
            name == "*" || !names.iter().any(|(taken, _, _)| seen(*taken))
        });
        for (to, name, line) in names.into_iter().chain(whole).filter(|(to, _, _)| *to != index) {
            let edge = self.edges.entry((index, to)).or_default();
            edge.line = if edge.line == 0 { line } else { edge.line.min(line) };
            edge.names.insert(name);
        }
        self.foreign.extend(foreign);
    }

    /// All that a module takes from others, and from where.
    fn taken(&self, index: usize) -> Taken {
        let module = &self.modules[index];
        let mut taken = Taken::default();
        let uses = module.source.uses.iter().map(|import| (&import.path, Some(import)));
        let paths = module.source.paths.iter().map(|path| (path, None));
        for (named, import) in uses.chain(paths) {
            let Some(path) = self.full_path(module, named) else {
                let foreign = Foreign {
                    from: index,
                    path: named.words.clone(),
                    line: named.line,
                    import: import.is_some(),
                };
                taken.foreign.push(foreign);
                continue;
            };
            let Some(target) = self.target(&path, CHAIN) else { continue };
            let (Target::Name(to, _) | Target::Module(to)) = target;
            if import.is_some_and(|import| import.public) && is_within(&self.modules[to], module) {
                continue;
            }
            match target {
                Target::Name(_, name) => taken.names.push((to, name, named.line)),
                Target::Module(_) => {
                    taken.whole.extend(import.map(|import| (to, import.name.clone(), named.line)));
                }
            }
        }
        taken
    }
}

/// Whether the module stands somewhere inside the other.
pub(super) fn is_within(inner: &Module, outer: &Module) -> bool {
    inner.path.len() > outer.path.len() && inner.path.starts_with(&outer.path)
}

fn folder_of_children(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => folder,
        Some(stem) => folder.join(stem),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The graph of a made-up crate of the name `house`.
    pub(in crate::tidy) fn house(files: &[(&str, &str)]) -> Graph {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        Graph::of("house", &["lib.rs".into(), "main.rs".into()], &|path: &Path| files.get(path).cloned())
    }

    fn edges(graph: &Graph) -> Vec<String> {
        let file = |index: usize| graph.modules[index].file.display().to_string();
        let names = |edge: &Edge| edge.names.iter().cloned().collect::<Vec<_>>().join(", ");
        graph.edges.iter().map(|((a, b), e)| format!("{} -> {}: {}", file(*a), file(*b), names(e))).collect()
    }

    #[test]
    fn a_name_is_where_it_is_defined_and_not_where_it_is_re_exported() {
        let graph = house(&[
            ("lib.rs", "pub mod model;\npub mod show;\n"),
            ("model/mod.rs", "mod account;\npub use self::account::Account;\npub use account::inner::*;\n"),
            ("model/account.rs", "pub mod inner;\npub struct Account;\n"),
            ("model/account/inner.rs", "pub fn deep() {}\n"),
            ("show.rs", "use crate::model::{self, Account};\nfn f() { model::deep(); Account::new(); }\n"),
        ]);
        assert_eq!(
            edges(&graph),
            ["show.rs -> model/account.rs: Account", "show.rs -> model/account/inner.rs: deep"]
        );
    }

    #[test]
    fn super_self_and_the_names_of_children_lead_to_files() {
        let graph = house(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "mod c;\nfn f() { c::g(); self::c::h(); }\n"),
            ("a/c.rs", "use super::super::b::X;\nfn g() { super::f(); }\nfn h() {}\n"),
            ("b.rs", "pub struct X;\n"),
            ("main.rs", "use house::b;\nfn main() { b::X; }\n"),
        ]);
        assert_eq!(
            edges(&graph),
            ["a.rs -> a/c.rs: g, h", "a/c.rs -> a.rs: f", "a/c.rs -> b.rs: X", "main.rs -> b.rs: X"]
        );
    }

    #[test]
    fn a_module_counts_whole_where_nothing_of_it_is_named() {
        let graph = house(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use crate::b;\n#[serde(with = \"b\")]\nstruct A;\n"),
            ("b.rs", "use super::a::*;\n"),
        ]);
        assert_eq!(edges(&graph), ["a.rs -> b.rs: b", "b.rs -> a.rs: *"]);
    }

    #[test]
    fn what_comes_from_other_crates_is_known_by_its_line() {
        let graph = house(&[("lib.rs", "use std::fs;\nfn f() { libc::open(); Vec::new(); fs::read(); }\n")]);
        let foreign: Vec<_> = graph.foreign.iter().map(|f| (f.path.join("::"), f.line)).collect();
        let expected = [("Vec::new", 2), ("fs::read", 2), ("libc::open", 2), ("std::fs", 1)];
        assert_eq!(foreign, expected.map(|(path, line)| (path.to_owned(), line)));
    }
}
