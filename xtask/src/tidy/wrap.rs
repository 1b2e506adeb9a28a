//! Wraps comments anew where one of their lines is too long.
//!
//! Only paragraphs with such a line change. Code, code blocks, lists, tables, headings, quotes and whatever
//! is indented in a comment stay as they are, and so does a comment behind code.

use super::lexer::{Kind, tokens};

/// The text with its comments wrapped; `extension` says whose they are.
pub(super) fn rewrap(extension: &str, text: &str, limit: usize) -> String {
    let markers = match extension {
        "rs" => rust_markers(text),
        "toml" | "sh" => hash_markers(extension, text),
        _ => return text.to_owned(),
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let mut wrapped: Vec<String> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(prefix) = markers.get(at).copied().flatten() else {
            wrapped.push(lines[at].to_owned());
            at += 1;
            continue;
        };
        let block = (at..).take_while(|line| markers.get(*line) == Some(&Some(prefix))).count();
        wrap_block(prefix, &lines[at..at + block], limit, &mut wrapped);
        at += block;
    }
    wrapped.join("\n")
}

/// For each line that is a comment alone: its indentation and marker.
fn rust_markers(text: &str) -> Vec<Option<&str>> {
    let mut markers = vec![None; text.split('\n').count()];
    for token in tokens(text).iter().filter(|token| token.kind == Kind::Comment) {
        let line_start = text[..token.start].rfind('\n').map_or(0, |at| at + 1);
        let alone = text[line_start..token.start].trim().is_empty();
        let marker = ["//!", "///", "//"].into_iter().find(|marker| token.text.starts_with(marker));
        // Four slashes are a line that somebody drew.
        let Some(marker) = marker.filter(|_| alone && !token.text.starts_with("////")) else { continue };
        markers[token.line - 1] = text.get(line_start..token.start + marker.len());
    }
    markers
}

/// The same for `#`, outside of what shells and TOML read as data.
fn hash_markers<'t>(extension: &str, text: &'t str) -> Vec<Option<&'t str>> {
    let mut data = Data::None;
    let mut markers = Vec::new();
    for line in text.split('\n') {
        let indent = line.len() - line.trim_start().len();
        let comment = line[indent..].starts_with('#') && !line.starts_with("#!");
        let outside = data == Data::None;
        markers.push(line.get(..=indent).filter(|_| comment && outside));
        if !(comment && outside) {
            data = data.after(extension, line);
        }
    }
    markers
}

/// Lines that are data and not code: a here-document, or a text of several lines.
#[derive(PartialEq, Eq)]
enum Data {
    None,
    Until(String),
    Quoted(&'static str),
}

impl Data {
    fn after(self, extension: &str, line: &str) -> Self {
        match self {
            Self::Until(word) if line.trim() == word => Self::None,
            Self::Quoted(quotes) if line.matches(quotes).count() % 2 == 1 => Self::None,
            Self::None if extension == "sh" => match line.split_once("<<") {
                Some((_, rest)) => {
                    let word: String = rest
                        .trim_start_matches(['-', ' ', '\'', '"', '\\'])
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    if word.is_empty() { Self::None } else { Self::Until(word) }
                }
                None => Self::None,
            },
            Self::None => {
                let opens = |quotes: &&str| line.matches(*quotes).count() % 2 == 1;
                ["\"\"\"", "'''"].into_iter().find(opens).map_or(Self::None, Self::Quoted)
            }
            still => still,
        }
    }
}

/// Lines of one comment, which all begin with the prefix.
fn wrap_block(prefix: &str, lines: &[&str], limit: usize, wrapped: &mut Vec<String>) {
    let mut fenced = false;
    let mut paragraph: Vec<&str> = Vec::new();
    for line in lines {
        let content = &line[prefix.len()..];
        let fence = content.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence && is_prose(content) {
            paragraph.push(line);
            continue;
        }
        wrap_paragraph(prefix, &paragraph, limit, wrapped);
        paragraph.clear();
        wrapped.push((*line).to_owned());
    }
    wrap_paragraph(prefix, &paragraph, limit, wrapped);
}

/// Whether a line of a comment is running text.
fn is_prose(content: &str) -> bool {
    let Some(text) = content.strip_prefix(' ') else { return false };
    let breaks_hard = text.ends_with("  ") || text.ends_with('\\');
    let first = text.split(' ').next().unwrap_or_default();
    let reference = text.starts_with('[') && text.contains("]: ");
    !text.starts_with(char::is_whitespace)
        && !text.trim().is_empty()
        && !breaks_hard
        && !reference
        && !is_mark(first)
}

/// What makes a list, a table, a heading, a quote or a fence of a line that begins with it.
fn is_mark(word: &str) -> bool {
    let numbered = word.strip_suffix(['.', ')']).is_some_and(|number| {
        !number.is_empty() && number.len() <= 3 && number.chars().all(|c| c.is_ascii_digit())
    });
    numbered
        || matches!(word, "-" | "*" | "+")
        || word.starts_with(['|', '>', '#', '<', '='])
        || word.starts_with("```")
}

fn wrap_paragraph(prefix: &str, lines: &[&str], limit: usize, wrapped: &mut Vec<String>) {
    if lines.iter().all(|line| line.chars().count() <= limit) {
        return wrapped.extend(lines.iter().map(|line| (*line).to_owned()));
    }
    let text: Vec<&str> = lines.iter().map(|line| line[prefix.len()..].trim()).collect();
    let mut current = String::new();
    for unit in units(&text.join(" ")) {
        let together = current.chars().count() + 1 + unit.chars().count();
        if !current.is_empty() && together > limit {
            wrapped.push(std::mem::take(&mut current));
        }
        if current.is_empty() {
            current.push_str(prefix);
        }
        current.push(' ');
        current.push_str(&unit);
    }
    wrapped.push(current);
}

/// Words, with what must not be parted kept as one: code between backticks, and what would mean something
/// else at the begin of a line.
fn units(text: &str) -> Vec<String> {
    let balanced = text.matches('`').count().is_multiple_of(2);
    let mut units: Vec<String> = Vec::new();
    let mut in_code = false;
    for word in text.split_whitespace() {
        match units.last_mut() {
            Some(unit) if in_code || is_mark(word) => {
                unit.push(' ');
                unit.push_str(word);
            }
            _ => units.push(word.to_owned()),
        }
        in_code ^= balanced && word.matches('`').count() % 2 == 1;
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 24;

    fn rust(text: &str) -> String {
        rewrap("rs", text, LIMIT)
    }

    #[test]
    fn a_paragraph_with_a_long_line_is_wrapped_and_no_other() {
        let text = "/// One two three four five six.\n/// Seven.\n///\n/// Short\n/// lines.\nfn f() {}\n";
        let wrapped = "/// One two three four\n/// five six. Seven.\n///\n/// Short\n/// lines.\nfn f() {}\n";
        assert_eq!(rust(text), wrapped);
        assert_eq!(rust(wrapped), wrapped, "once is enough");
    }

    #[test]
    fn each_marker_and_indentation_is_a_comment_of_its_own() {
        let text = "//! A a a a a a a a a a a a\n/// b\n    // C c c c c c c c c c c\n";
        let wrapped = "//! A a a a a a a a a a\n//! a a\n/// b\n    // C c c c c c c c c\n    // c c\n";
        assert_eq!(rust(text), wrapped);
    }

    #[test]
    fn code_texts_lists_tables_and_blocks_stay() {
        for text in [
            "let x = 1; // behind code it stays where it is\n",
            "let x = \"\n// no comment but a text, so it stays\n\";\n",
            "/// - a list whose item is long\n///   and goes on and on and on\n",
            "/// | a | table | of | many | columns |\n",
            "/// ```\n/// let much = \"code in here\" + 1;\n/// ```\n",
            "///     indented code that is too long\n",
            "/// 12. numbered, which is a list too\n",
            "//// a line that somebody has drawn\n",
        ] {
            assert_eq!(rust(text), text);
        }
    }

    /// Joined, they would be one heading.
    #[test]
    fn a_heading_and_its_text_stay_apart() {
        let text = "/// One two three four five six.\n/// # Errors\n/// One two three four five six.\n";
        let wrapped =
            "/// One two three four\n/// five six.\n/// # Errors\n/// One two three four\n/// five six.\n";
        assert_eq!(rust(text), wrapped);
        let long = "/// # Errors and what else there may be\n/// short\n";
        assert_eq!(rust(long), long, "a heading has one line");
    }

    #[test]
    fn no_line_begins_with_what_it_did_not_mean() {
        assert_eq!(rust("/// aaaa bbbb cccc dddd - eeee\n"), "/// aaaa bbbb cccc\n/// dddd - eeee\n");
        assert_eq!(rust("/// aaaa bbbb `cccc dddd eeee` f\n"), "/// aaaa bbbb\n/// `cccc dddd eeee` f\n");
    }

    #[test]
    fn shells_and_toml_have_one_marker_and_data() {
        let shell = "#!/bin/sh -a-very-long-line\n# one two three four five six\ncat <<'END' > x\n# one two three four five six\nEND\n# a\n";
        let wrapped = shell.replacen("# one two three four five six", "# one two three four\n# five six", 1);
        assert_eq!(rewrap("sh", shell, LIMIT), wrapped);
        let toml = "x = \"\"\"\n# one two three four five six\n\"\"\"\ny = 1 # one two three four five six\n";
        assert_eq!(rewrap("toml", toml, LIMIT), toml);
    }
}
