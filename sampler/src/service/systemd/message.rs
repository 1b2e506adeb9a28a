//! The text of messages: sd_notify(3).

use std::{fmt, time::Duration};

/// Bytes of a status. systemd takes 4,096 of a message.
const STATUS_BYTES: usize = 1024;

/// A line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The start, or a reload, is over.
    Ready,
    /// A reload begins. A manager with `Type=notify-reload` (systemd 253) takes it for the answer to its
    /// signal by the moment, of `CLOCK_MONOTONIC`.
    Reloading {
        monotonic_us: u64,
    },
    Stopping,
    /// A sign of life.
    Watchdog,
    /// What a person reads in `systemctl status`.
    Status(String),
    /// The start, or the stop, may take so long from now on.
    ExtendTimeout(Duration),
    /// The descriptor that comes with the message is to be kept under this name. It is not watched: a manager
    /// that waits for events on it (`FDPOLL`, systemd 246) takes what maps answer for an end, and lets go of
    /// them.
    Keep(String),
    /// What is kept under this name is not needed any more.
    Forget(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Reloading { monotonic_us } => write!(f, "RELOADING=1\nMONOTONIC_USEC={monotonic_us}"),
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
            Self::Status(status) => write!(f, "STATUS={}", one_line(status)),
            Self::ExtendTimeout(time) => write!(f, "EXTEND_TIMEOUT_USEC={}", time.as_micros()),
            Self::Keep(name) => write!(f, "FDSTORE=1\nFDPOLL=0\nFDNAME={}", one_line(name)),
            Self::Forget(name) => write!(f, "FDSTOREREMOVE=1\nFDNAME={}", one_line(name)),
        }
    }
}

/// A message of some lines.
pub(super) fn text(lines: &[Line]) -> String {
    lines.iter().map(Line::to_string).collect::<Vec<_>>().join("\n")
}

/// An error's text may have lines, and so may a name that came from outside, of which the manager would read each as an assignment.
fn one_line(text: &str) -> String {
    let end = text.floor_char_boundary(STATUS_BYTES);
    text[..end].trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_lines() {
        let lines = [
            Line::Reloading { monotonic_us: 7 },
            Line::Ready,
            Line::Stopping,
            Line::Watchdog,
            Line::ExtendTimeout(Duration::from_millis(1500)),
            Line::Status("2 guests".to_owned()),
        ];
        let expected = "RELOADING=1\nMONOTONIC_USEC=7\nREADY=1\nSTOPPING=1\nWATCHDOG=1\n\
                        EXTEND_TIMEOUT_USEC=1500000\nSTATUS=2 guests";
        assert_eq!(text(&lines), expected);
    }

    #[test]
    fn a_descriptor_is_kept_without_being_watched_until_it_is_forgotten() {
        let name = || "hvs-1f-m-PIDS".to_owned();
        assert_eq!(text(&[Line::Keep(name())]), "FDSTORE=1\nFDPOLL=0\nFDNAME=hvs-1f-m-PIDS");
        assert_eq!(text(&[Line::Forget(name())]), "FDSTOREREMOVE=1\nFDNAME=hvs-1f-m-PIDS");
        let hostile = Line::Forget("hvs-1\nREADY=1".to_owned());
        assert_eq!(text(&[hostile]), "FDSTOREREMOVE=1\nFDNAME=hvs-1 READY=1");
    }

    #[test]
    fn a_status_assigns_nothing_and_is_bounded() {
        let status = |text: &str| Line::Status(text.to_owned()).to_string();
        assert_eq!(status("bad file\nMAINPID=1\r\n"), "STATUS=bad file MAINPID=1");
        let long = status(&"é".repeat(STATUS_BYTES));
        assert_eq!(long.len(), "STATUS=".len() + STATUS_BYTES);
    }
}
