//! Hostile text on a terminal.
//!
//! A guest's name may hold anything: escape sequences that redraw the screen, newlines that fake a row, marks
//! that reverse the reading order. Whatever does not print as itself is shown as an escape.

use unicode_width::UnicodeWidthChar as _;

const ELLIPSIS: char = '…';

/// Whether a character prints as itself and moves the cursor forward: no control, format, combining or
/// private character, no blank but the space, nothing that Unicode has not assigned.
#[must_use]
pub fn is_plain(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

/// A text on one line that shows what is in it, for all the terminal can be trusted with. The escapes are
/// Rust's (`\n`, `\u{1b}`), and a backslash is doubled, so that none is mistaken for another.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut shown, c);
    }
    shown
}

/// Like [`printable`], in at most `columns` columns; an ellipsis in the last one says that there was more.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    let mut shown = String::new();
    let mut unit = String::new();
    let mut used = 0;
    // Where to cut should the text turn out too long: the last place that leaves a column for the ellipsis.
    let mut cut = 0;
    for c in text.chars() {
        unit.clear();
        push(&mut unit, c);
        used += columns_of(&unit);
        if used > columns {
            shown.truncate(cut);
            if columns > 0 {
                shown.push(ELLIPSIS);
            }
            break;
        }
        shown.push_str(&unit);
        if used < columns {
            cut = shown.len();
        }
    }
    shown
}

/// Columns that a text from [`printable`] or [`fit`] takes on a terminal.
#[must_use]
pub fn columns_of(shown: &str) -> usize {
    shown.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// A number of things, as in `1 guest` and `2 guests`.
#[must_use]
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn push(shown: &mut String, c: char) {
    match c {
        '\\' => shown.push_str("\\\\"),
        c if is_plain(c) => shown.push(c),
        c => shown.extend(c.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_print_is_escaped() {
        assert_eq!(printable("web-1 \"prod\" 'a' ä 東"), "web-1 \"prod\" 'a' ä 東");
        assert_eq!(printable("a\nb\tc"), "a\\nb\\tc");
        assert_eq!(printable("\x1b[2J\u{9b}31m\x7f"), "\\u{1b}[2J\\u{9b}31m\\u{7f}");
        assert_eq!(printable("a\u{202e}b\u{2066}c\u{200b}"), "a\\u{202e}b\\u{2066}c\\u{200b}");
        assert_eq!(printable("e\u{301}"), "e\\u{301}");
        assert_eq!(printable("\\n"), "\\\\n");
    }

    #[test]
    fn long_text_is_cut_at_a_column() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdefg", 6), "abcde…");
        assert_eq!(fit("東京東京", 6), "東京…");
        assert_eq!(fit("東京東", 6), "東京東");
        assert_eq!(fit("abcd\n", 6), "abcd\\n");
        assert_eq!(fit("abcde\n", 6), "abcde…");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit("", 3), "");
    }

    proptest! {
        #[test]
        fn any_text_stays_on_one_line_and_in_its_columns(text: String, columns in 0..40_usize) {
            let shown = fit(&text, columns);
            prop_assert!(columns_of(&shown) <= columns);
            prop_assert!(shown.chars().all(is_plain));
            prop_assert!(printable(&text).chars().all(is_plain));
        }
    }
}
