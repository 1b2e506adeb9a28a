//! Files and lines of a length that one reads.
//!
//! A line may be longer where it cannot be broken: a row of a table, in Markdown or in a comment, a word with
//! a URL in it that crosses the limit, and in Rust a text that does. Golden files, schemas and licences are
//! no sources and are not looked at.

use anyhow::{Result, bail};

use super::{
    files::File,
    lexer::{Kind, tokens},
};

/// Lines of a Rust file, tests included.
const FILE_LIMIT: usize = 500;
/// Characters of a line; rustfmt holds code to the same, see rustfmt.toml.
pub(super) const LINE_LIMIT: usize = 110;

/// Kinds of files whose lines are held.
pub(super) const EXTENSIONS: [&str; 4] = ["rs", "md", "sh", "toml"];
/// Folders and files whose lines are held.
pub(super) const HELD: [&str; 1] = [""];

pub(super) fn check(files: &[File]) -> Result<()> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "rs") {
        let lines = file.text.lines().count();
        if lines > FILE_LIMIT {
            let place = (file.path.display(), FILE_LIMIT + 1);
            faults.push(format!(
                "  {}:{}: {lines} lines, {FILE_LIMIT} at most; split the file",
                place.0, place.1
            ));
        }
    }
    for file in files.iter().filter(|file| file.is_in(&HELD)) {
        for (line, length) in long_lines(file.extension(), &file.text) {
            let path = file.path.display();
            faults.push(format!("  {path}:{line}: {length} characters, {LINE_LIMIT} at most"));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("`cargo xtask tidy --fix` wraps comments, other lines are broken by hand\n{}", faults.join("\n"))
}

/// Numbers and lengths of the lines that are too long and can be broken.
fn long_lines(extension: &str, text: &str) -> Vec<(usize, usize)> {
    let in_text = if extension == "rs" { crossing_texts(text) } else { Vec::new() };
    let numbered = (1..).zip(text.lines());
    let long = numbered.filter(|(_, line)| line.chars().count() > LINE_LIMIT);
    let breakable = long.filter(|(number, line)| {
        !is_row(extension, line) && !crosses_with_url(line) && !in_text.contains(number)
    });
    breakable.map(|(number, line)| (number, line.chars().count())).collect()
}

/// Whether a line is a row of a Markdown table.
fn is_row(extension: &str, line: &str) -> bool {
    let line = line.trim_start();
    match extension {
        "md" => line.starts_with('|'),
        "rs" => line.starts_with("//") && line.trim_start_matches(['/', '!', ' ']).starts_with('|'),
        _ => false,
    }
}

/// Whether the word at the limit is one with a URL.
fn crosses_with_url(line: &str) -> bool {
    let Some((limit, _)) = line.char_indices().nth(LINE_LIMIT) else { return false };
    let from = line[..limit].rfind(' ').map_or(0, |at| at + 1);
    let to = line[limit..].find(' ').map_or(line.len(), |at| limit + at);
    line[from..to].contains("://")
}

/// Lines of Rust on which the limit is crossed inside a text.
fn crossing_texts(source: &str) -> Vec<usize> {
    let mut limits = Vec::new();
    let mut start = 0;
    for (number, line) in (1..).zip(source.split('\n')) {
        if let Some((at, _)) = line.char_indices().nth(LINE_LIMIT) {
            limits.push((number, start + at));
        }
        start += line.len() + 1;
    }
    let texts: Vec<_> = tokens(source).into_iter().filter(|token| token.kind == Kind::Text).collect();
    limits.retain(|(_, at)| texts.iter().any(|text| text.start < *at && *at < text.end()));
    limits.into_iter().map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn long(extension: &str, text: &str) -> Vec<usize> {
        long_lines(extension, text).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn characters_count_and_not_bytes() {
        let fits = "é".repeat(LINE_LIMIT);
        assert_eq!(long("md", &format!("{fits}\n{fits}é\n")), [2]);
    }

    #[test]
    fn what_cannot_be_broken_may_be_longer() {
        let wide = "w ".repeat(60);
        assert_eq!(long("md", &format!("| {wide} |\n{wide}\n")), [2]);
        assert_eq!(long("rs", &format!("//! | {wide} |\nx | {wide}\n")), [2]);
        assert_eq!(long("sh", &format!("| {wide} |\n")), [1], "tables are Markdown's");
        let url = format!("{} https://example.org/{}", "w".repeat(80), "p".repeat(80));
        assert_eq!(long("md", &format!("{url}\nhttps://example.org {wide}\n")), [2]);
        let call = format!("f(\"{wide}\");\n// \"{wide}\"\nlet x = \"\"; // {wide}\n");
        assert_eq!(long("rs", &call), [2, 3]);
    }

    #[test]
    fn a_long_file_is_named_wherever_it_is() {
        let file = |lines| File { path: PathBuf::from("far/away.rs"), text: "\n".repeat(lines) };
        check(&[file(FILE_LIMIT)]).unwrap();
        let error = check(&[file(FILE_LIMIT + 1)]).unwrap_err().to_string();
        assert!(error.contains("far/away.rs:501"), "{error}");
    }
}
