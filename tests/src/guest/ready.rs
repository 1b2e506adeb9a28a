//! The line with which a guest's process says that all its vCPUs have run.

use serde::{Deserialize, Serialize};

const WORD: &str = "ready ";

/// A guest that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The VMM's process id: it identifies the VM.
    pub pid: u32,
    /// The vCPUs, in the order of the command line.
    pub vcpus: Vec<ReadyVcpu>,
}

/// One vCPU of a guest that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyVcpu {
    /// The vCPU's id.
    pub index: u32,
    /// Its thread's id.
    pub tid: u32,
}

/// A line that is no ready line.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// It does not begin with `ready`.
    #[error("expected a line `ready {{…}}`, got {line:?}")]
    NotReady {
        /// The line.
        line: String,
    },
    /// What follows `ready` is not the JSON of a [`Ready`].
    #[error("the ready line is not understood: {source}")]
    Json {
        /// What the parser says.
        #[from]
        source: serde_json::Error,
    },
}

impl Ready {
    /// The line, without its end.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn line(&self) -> Result<String, ReadyError> {
        Ok(format!("{WORD}{}", serde_json::to_string(self)?))
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is no ready line.
    pub fn parse(line: &str) -> Result<Self, ReadyError> {
        let json = line
            .strip_prefix(WORD)
            .ok_or_else(|| ReadyError::NotReady { line: line.trim_end().to_owned() })?;
        Ok(serde_json::from_str(json)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_as_documented_and_read_back() {
        let ready = Ready { pid: 7, vcpus: vec![ReadyVcpu { index: 0, tid: 9 }] };
        let line = ready.line().unwrap();
        assert_eq!(line, r#"ready {"pid":7,"vcpus":[{"index":0,"tid":9}]}"#);
        assert_eq!(Ready::parse(&line).unwrap(), ready);
    }

    #[test]
    fn other_lines_are_refused() {
        assert!(matches!(Ready::parse("").unwrap_err(), ReadyError::NotReady { .. }));
        assert!(matches!(Ready::parse("ready {").unwrap_err(), ReadyError::Json { .. }));
    }
}
