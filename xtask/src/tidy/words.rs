//! One word for one thing: those that are not used any more, and which to use.

use anyhow::{Result, bail};

use super::{
    files::File,
    lexer::{Kind, tokens},
};

/// Folders and files whose words are held.
const HELD: [&str; 10] = [
    "sampler",
    "sampler-ebpf",
    "tests",
    "xtask",
    "docs",
    "otel-config",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
];

/// Words in all their forms, and what to say.
const WORDS: [(&[&str], &str); 6] = [
    (
        &["tell", "tells", "telling", "told"],
        "an epoch, a set of features, an observation; as a verb: say, report, observe",
    ),
    (&["heed", "heeds", "heeded", "heeding"], "observe"),
    (&["hush", "hushes", "hushed", "hushing"], "suppress, detach"),
    (&["lay", "lays", "laid", "laying"], "attribute, compare, put"),
    (&["thief", "thieves", "theft", "thefts"], "occupant, attribution"),
    (&["suspect", "suspects", "culprit", "culprits"], "occupant"),
];

pub(super) fn check(files: &[File]) -> Result<()> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.is_in(&HELD)) {
        for (line, word, instead) in found(file.extension(), &file.text) {
            faults.push(format!("  {}:{line} says `{word}`; use: {instead}", file.path.display()));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("words that are not used any more\n{}", faults.join("\n"))
}

/// In Rust comments and identifiers are read, elsewhere all.
fn found(extension: &str, text: &str) -> Vec<(usize, String, &'static str)> {
    let pieces: Vec<(usize, &str)> = if extension == "rs" {
        let read = tokens(text).into_iter().filter(|token| matches!(token.kind, Kind::Word | Kind::Comment));
        read.flat_map(|token| (token.line..).zip(token.text.lines())).collect()
    } else {
        (1..).zip(text.lines()).collect()
    };
    let mut found = Vec::new();
    for (line, piece) in pieces {
        for word in words(piece) {
            let row = WORDS.iter().find(|(forms, _)| forms.contains(&word.as_str()));
            found.extend(row.map(|(_, instead)| (line, word, *instead)));
        }
    }
    found
}

/// The words of a text in small letters; names are taken apart at underscores and capitals.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for c in text.chars() {
        let ends = !c.is_alphabetic() || (small && c.is_uppercase());
        if ends {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        small = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn said(extension: &str, text: &str) -> Vec<(usize, String)> {
        found(extension, text).into_iter().map(|(line, word, _)| (line, word)).collect()
    }

    #[test]
    fn names_and_comments_are_read_and_texts_are_not() {
        let source =
            "fn is_told() {}\nstruct HushAll;\n/* a\nHeeds */\nconst X: &str = \"told\";\nlet layout = 1;\n";
        let expected = [(1, "told"), (2, "hush"), (4, "heeds")];
        assert_eq!(said("rs", source), expected.map(|(line, word)| (line, word.to_owned())));
        assert_eq!(said("md", "Who is\n`told`.\n"), [(2, "told".to_owned())]);
    }

    #[test]
    fn only_what_is_held_is_read() {
        let file = |path| File { path: PathBuf::from(path), text: "// told\n".to_owned() };
        check(&[file("elsewhere/a.rs")]).unwrap();
        let error = check(&[file("xtask/src/a.rs")]).unwrap_err().to_string();
        assert!(error.contains("xtask/src/a.rs:1 says `told`; use: "), "{error}");
    }
}
