//! What one Rust file says of modules: its children, what it imports, which paths it names.

use std::collections::BTreeSet;

use super::lexer::{Kind, Token, tokens};

/// A file as far as modules are concerned. What is for tests alone is left out.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// `mod x;`, each with the modules inside this file that it stands in.
    pub(super) children: Vec<Vec<String>>,
    pub(super) uses: Vec<Use>,
    /// Paths of two or more words in code.
    pub(super) paths: Vec<Named>,
    /// Names that the file defines itself.
    pub(super) items: BTreeSet<String>,
}

/// One name that a `use` brings, its tree taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// Its name here; `*` for all, `_` for a trait without a name.
    pub(super) name: String,
    pub(super) path: Named,
    /// Whether others may have it from here.
    pub(super) public: bool,
}

/// A path as it is written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) words: Vec<String>,
    /// Modules inside the file that it stands in, from which `self` and `super` count.
    pub(super) within: Vec<String>,
    pub(super) line: usize,
}

/// Words after which the name of an item comes.
const DEFINES: [&str; 8] = ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        let mut tokens = tokens(text);
        tokens.retain(|token| !matches!(token.kind, Kind::Comment | Kind::Text));
        let mut parser = Parser { tokens, at: 0, depth: 0, within: Vec::new(), source: Self::default() };
        while parser.step() {}
        parser.source
    }
}

struct Parser<'s> {
    tokens: Vec<Token<'s>>,
    at: usize,
    /// Braces that are open.
    depth: usize,
    /// Modules that are open, with the braces around each.
    within: Vec<(String, usize)>,
    source: Source,
}

impl<'s> Parser<'s> {
    fn peek(&self, ahead: usize) -> Option<Token<'s>> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn sees(&self, ahead: usize, text: &str) -> bool {
        self.peek(ahead).is_some_and(|token| token.is(text))
    }

    fn sees_all(&self, texts: &[&str]) -> bool {
        texts.iter().enumerate().all(|(ahead, text)| self.sees(ahead, text))
    }

    fn word(&self, ahead: usize) -> Option<&'s str> {
        self.peek(ahead).filter(|token| token.kind == Kind::Word).map(|token| token.text)
    }

    fn within(&self) -> Vec<String> {
        self.within.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Takes the next construct; false at the end.
    fn step(&mut self) -> bool {
        let Some(token) = self.peek(0) else { return false };
        if self.sees_all(&["#", "[", "cfg", "(", "test", ")"])
            || self.sees_all(&["#", "[", "cfg", "(", "all", "(", "test"])
        {
            self.skip_item();
        } else if token.is("use") {
            self.take_use();
        } else if token.is("mod") && self.word(1).is_some() {
            self.take_module();
        } else if token.kind == Kind::Word {
            self.take_path();
        } else {
            self.count_brace();
            self.at += 1;
        }
        true
    }

    fn count_brace(&mut self) {
        if self.sees(0, "{") {
            self.depth += 1;
        } else if self.sees(0, "}") {
            self.depth = self.depth.saturating_sub(1);
            if self.within.last().is_some_and(|(_, depth)| *depth == self.depth) {
                self.within.pop();
            }
        }
    }

    /// Passes over an item with its attributes: to its semicolon, or to the end of its block.
    fn skip_item(&mut self) {
        while self.sees(0, "#") {
            self.at += 1;
            self.skip_group();
        }
        let visibility = if self.sees_all(&["pub", "("]) { 4 } else { usize::from(self.sees(0, "pub")) };
        let block_ends = !self.sees(visibility, "use");
        while let Some(token) = self.peek(0) {
            if token.is("}") {
                return;
            }
            let block = token.is("{");
            self.skip_group();
            if token.is(";") || (block && block_ends) {
                return;
            }
        }
    }

    /// Passes over one token, or over all up to the bracket that closes it.
    fn skip_group(&mut self) {
        let mut open = 0_usize;
        while let Some(token) = self.peek(0) {
            self.at += 1;
            match token.text {
                "(" | "[" | "{" => open += 1,
                ")" | "]" | "}" => open = open.saturating_sub(1),
                _ => {}
            }
            if open == 0 {
                return;
            }
        }
    }

    fn take_module(&mut self) {
        let mut path = self.within();
        path.extend(self.word(1).map(str::to_owned));
        if self.sees(2, ";") {
            self.source.children.push(path);
        } else if let (true, Some(name)) = (self.sees(2, "{"), path.pop()) {
            self.within.push((name, self.depth));
        }
        self.at += 2;
    }

    /// A path in code; also notes the name of an item that is defined here.
    fn take_path(&mut self) {
        let Some(token) = self.peek(0) else { return };
        let macro_name = token.is("macro_rules").then(|| self.word(2)).flatten();
        let pointer = self.at.checked_sub(1).is_some_and(|before| self.tokens[before].is("*"));
        let item = (DEFINES.contains(&token.text) && !pointer).then(|| self.word(1)).flatten();
        self.source.items.extend(macro_name.or(item).map(str::to_owned));
        let mut words = vec![token.text.to_owned()];
        self.at += 1;
        while self.sees(0, "::")
            && let Some(word) = self.word(1)
        {
            words.push(word.to_owned());
            self.at += 2;
        }
        if words.len() > 1 {
            self.source.paths.push(Named { words, within: self.within(), line: token.line });
        }
    }

    fn take_use(&mut self) {
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.tokens.get(at));
        let is_before = |back, text| before(back).is_some_and(|token| token.is(text));
        let public = is_before(1, "pub")
            || (is_before(1, ")")
                && (2..8).take_while(|back| !is_before(*back, ";")).any(|back| is_before(back, "pub")));
        self.at += 1;
        self.take_tree(&[], public);
    }

    /// One branch of a `use`, up to what ends it.
    fn take_tree(&mut self, prefix: &[String], public: bool) {
        let line = self.peek(0).map_or(0, |token| token.line);
        let mut words = prefix.to_vec();
        loop {
            if self.sees(0, "::") {
                self.at += 1;
            } else if self.sees(0, "{") {
                self.at += 1;
                while self.peek(0).is_some() && !self.sees(0, "}") {
                    self.take_tree(&words, public);
                    self.at += usize::from(self.sees(0, ","));
                }
                self.at += 1;
                return;
            } else if self.sees(0, "*") {
                self.at += 1;
                return self.add_use("*".to_owned(), words, line, public);
            } else if self.sees(0, "as") {
                let name = self.word(1).unwrap_or("_").to_owned();
                self.at += 2;
                return self.add_use(name, words, line, public);
            } else if let Some(word) = self.word(0) {
                if word != "self" || words.is_empty() {
                    words.push(word.to_owned());
                }
                self.at += 1;
            } else {
                let name = words.last().cloned().unwrap_or_default();
                // A stray token must not hold the parser up.
                self.at += usize::from(!self.sees(0, ",") && !self.sees(0, "}"));
                return self.add_use(name, words, line, public);
            }
        }
    }

    fn add_use(&mut self, name: String, words: Vec<String>, line: usize, public: bool) {
        let path = Named { words, within: self.within(), line };
        self.source.uses.push(Use { name, path, public });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<(String, String, bool, usize)> {
        let source = Source::parse(text);
        let flat = |u: Use| (u.name, u.path.words.join("::"), u.public, u.path.line);
        source.uses.into_iter().map(flat).collect()
    }

    fn one(name: &str, path: &str, public: bool, line: usize) -> (String, String, bool, usize) {
        (name.to_owned(), path.to_owned(), public, line)
    }

    #[test]
    fn a_tree_is_taken_apart() {
        let text = "use crate::{\n    a::{self, B as C, *},\n    d,\n};\npub(crate) use self::e::F as _;\n";
        assert_eq!(
            uses(text),
            [
                one("a", "crate::a", false, 2),
                one("C", "crate::a::B", false, 2),
                one("*", "crate::a", false, 2),
                one("d", "crate::d", false, 3),
                one("_", "self::e::F", true, 5),
            ]
        );
    }

    #[test]
    fn what_is_for_tests_alone_is_left_out() {
        let text = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[allow(x)]\nuse a::{b, c};\nmod d;\n\
                    #[cfg(test)]\nmod more { use super::*; mod e; }\n#[cfg(not(test))]\nuse f::g;\n";
        assert_eq!(Source::parse(text).children, [["d"]]);
        assert_eq!(uses(text), [one("g", "f::g", false, 10)]);
    }

    #[test]
    fn a_path_knows_the_modules_that_it_stands_in() {
        let source =
            Source::parse("mod a { fn f() { super::x::y(); } mod b; }\nfn g() { c::D::<u8>::new() }\n");
        assert_eq!(source.children, [["a", "b"]]);
        let paths: Vec<_> = source.paths.iter().map(|p| (p.words.join("::"), p.within.join("::"))).collect();
        let expected = [("super::x::y", "a"), ("c::D", "")];
        assert_eq!(paths, expected.map(|(path, within)| (path.to_owned(), within.to_owned())));
        assert!(["f", "g"].iter().all(|name| source.items.contains(*name)));
    }

    #[test]
    fn comments_and_texts_name_nothing() {
        assert!(Source::parse("// a::b\nconst X: &str = \"use c::d;\";\n").paths.is_empty());
    }
}
