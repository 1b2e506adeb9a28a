//! Errors with all that caused them, for messages of one line.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
};

/// An error and what caused it; each cause that stands in the text already is left out.
pub(crate) struct Causes<'a>(pub(crate) &'a dyn Error);

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        f.write_str(&text)
    }
}
