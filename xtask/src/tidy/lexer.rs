//! Rust source as tokens: enough to know code, comments and texts apart.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier, a keyword, or a number.
    Word,
    /// `::`.
    Separator,
    /// Any other single character.
    Sign,
    /// A string or a character, with its quotes.
    Text,
    /// One line or one block, with its slashes.
    Comment,
}

/// A token, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'s> {
    pub(super) kind: Kind,
    pub(super) text: &'s str,
    /// Of its first byte, in bytes.
    pub(super) start: usize,
    /// Of its first byte, from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        !matches!(self.kind, Kind::Text | Kind::Comment) && self.text == text
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// All tokens of a file. What is no Rust gives signs, never an error: the compiler judges that.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut start, mut line) = (0, 1);
    while let Some(rest) = source.get(start..).filter(|rest| !rest.is_empty()) {
        let (kind, length) = first(rest);
        let text = &rest[..length];
        if let Some(kind) = kind {
            tokens.push(Token { kind, text, start, line });
        }
        line += text.matches('\n').count();
        start += length;
    }
    tokens
}

/// Kind and length of what a text begins with; white space has no kind.
fn first(rest: &str) -> (Option<Kind>, usize) {
    let mut chars = rest.chars();
    let Some(head) = chars.next() else { return (None, 0) };
    if head.is_whitespace() {
        return (None, head.len_utf8());
    }
    if rest.starts_with("//") {
        return (Some(Kind::Comment), rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Some(Kind::Comment), block_comment(rest));
    }
    if let Some(length) = text(rest) {
        return (Some(Kind::Text), length);
    }
    // A lifetime or a label is one sign: its name is no word of the code.
    if head == '\'' {
        return (Some(Kind::Sign), 1 + rest[1..].find(|c| !is_word(c)).unwrap_or(rest.len() - 1));
    }
    if is_word(head) {
        let raw = if rest.starts_with("r#") { 2 } else { 0 };
        let length = rest[raw..].find(|c| !is_word(c)).unwrap_or(rest.len() - raw);
        return (Some(Kind::Word), raw + length);
    }
    if rest.starts_with("::") { (Some(Kind::Separator), 2) } else { (Some(Kind::Sign), head.len_utf8()) }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a string or character literal, if that is what comes first.
fn text(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"]
        .into_iter()
        .find(|prefix| {
            rest.strip_prefix(prefix).is_some_and(|tail| tail.trim_start_matches('#').starts_with('"'))
        })
        .unwrap_or_default();
    let body = &rest[prefix.len()..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        let from = hashes + 1;
        let length = body[from..].find(&end).map_or(body.len(), |at| from + at + end.len());
        return Some(prefix.len() + length);
    }
    if hashes > 0 {
        return None;
    }
    if body.starts_with('"') {
        return Some(prefix.len() + quoted(body, '"'));
    }
    let body = rest.strip_prefix('b').filter(|tail| tail.starts_with('\'')).unwrap_or(rest);
    character(body).map(|length| rest.len() - body.len() + length)
}

/// Length of a text between quotes with escapes.
fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

/// A character, as opposed to a lifetime or a label.
fn character(body: &str) -> Option<usize> {
    let mut chars = body.strip_prefix('\'')?.chars();
    let inner = chars.next()?;
    if inner == '\\' {
        return Some(quoted(body, '\''));
    }
    (chars.next() == Some('\'')).then(|| inner.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, &str)> {
        tokens(source).iter().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn paths_are_words_and_separators() {
        assert_eq!(
            kinds("use a::r#in;"),
            [
                (Kind::Word, "use"),
                (Kind::Word, "a"),
                (Kind::Separator, "::"),
                (Kind::Word, "r#in"),
                (Kind::Sign, ";"),
            ]
        );
    }

    #[test]
    fn what_looks_like_a_comment_in_a_text_is_none() {
        let source = r####"f("// \" no", r#"/* " no"#, b"x", '"', '\'', b'\\') // yes"####;
        let found = kinds(source);
        let of = |kind| found.iter().filter(|(k, _)| *k == kind).map(|(_, text)| *text).collect::<Vec<_>>();
        assert_eq!(of(Kind::Comment), ["// yes"]);
        assert_eq!(
            of(Kind::Text),
            [r#""// \" no""#, r###"r#"/* " no"#"###, "b\"x\"", "'\"'", r"'\''", r"b'\\'"]
        );
    }

    #[test]
    fn a_lifetime_opens_no_text() {
        assert!(kinds("fn f<'a>(x: &'a str) -> Box<dyn F + 'a> {}").iter().all(|(k, _)| *k != Kind::Text));
    }

    #[test]
    fn lines_are_counted_through_texts_and_nested_comments() {
        let source = "/* a /* b\n */ c */ \"x\ny\"\nlast";
        let last = tokens(source).pop().unwrap();
        assert_eq!((last.text, last.line), ("last", 4));
        assert_eq!(&source[last.start..last.end()], "last");
    }
}
