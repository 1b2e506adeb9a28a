//! What descriptors are called that outlive this process with the service manager. Pure.
//!
//! A set is all that one load of the programs left in the kernel, and what was saved of it. Its token keeps
//! it apart from other sets: one that was sent by half must not be taken for a part of the next.

use std::fmt;

/// How all names begin. What else a manager may keep for the service has others.
pub const PREFIX: &str = "hvs-";

/// Length of the longest name that systemd takes, bytes.
const LONGEST: usize = 255;

/// Which set: the moment of its load. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// That of a load at this moment of `CLOCK_BOOTTIME`, ns. A start takes longer than the millisecond that
    /// it is known by.
    #[must_use]
    pub const fn at(boottime_ns: u64) -> Self {
        Self(boottime_ns / 1_000_000)
    }

    /// As it was written.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// To be written.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What a descriptor of a set is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The map of this name.
    Map(String),
    /// The map of slots that is at this place of the map of segments.
    Segment(u32),
    /// The program of this name.
    Program(String),
    /// What attaches the program of this name.
    Link(String),
    /// The first of the files that the state is saved in by turns.
    StateA,
    /// The second.
    StateB,
    /// The file that says what all others have to be.
    Manifest,
}

/// As a person reads it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(name) => write!(f, "map {name}"),
            Self::Segment(number) => write!(f, "segment {number} of slots"),
            Self::Program(name) => write!(f, "program {name}"),
            Self::Link(name) => write!(f, "link of program {name}"),
            Self::StateA => f.write_str("first file of the state"),
            Self::StateB => f.write_str("second file of the state"),
            Self::Manifest => f.write_str("manifest"),
        }
    }
}

/// The name of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Whose part it is.
    pub set: Token,
    /// What it is of.
    pub part: Part,
}

impl Name {
    /// From its text; `None` for what [`Self::to_string`] never gives.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (token, part) = text.strip_prefix(PREFIX)?.split_once('-')?;
        let set = Token(u64::from_str_radix(token, 16).ok()?);
        let name = Self { set, part: Part::parse(part)? };
        // Numbers have other forms too, which would be a second name of the same part.
        (is_taken(text) && name.to_string() == text).then_some(name)
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "manifest" => return Some(Self::Manifest),
            "state-a" => return Some(Self::StateA),
            "state-b" => return Some(Self::StateB),
            _ => {}
        }
        let (kind, name) = text.split_once('-').filter(|(_, name)| !name.is_empty())?;
        match kind {
            "m" => Some(Self::Map(name.to_owned())),
            "s" => name.parse().ok().map(Self::Segment),
            "p" => Some(Self::Program(name.to_owned())),
            "l" => Some(Self::Link(name.to_owned())),
            _ => None,
        }
    }
}

/// As the manager has it.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-", self.set)?;
        match &self.part {
            Part::Map(name) => write!(f, "m-{name}"),
            Part::Segment(number) => write!(f, "s-{number:02}"),
            Part::Program(name) => write!(f, "p-{name}"),
            Part::Link(name) => write!(f, "l-{name}"),
            Part::StateA => f.write_str("state-a"),
            Part::StateB => f.write_str("state-b"),
            Part::Manifest => f.write_str("manifest"),
        }
    }
}

/// Whether systemd takes this for a name (`fdname_is_valid`). It separates names by colons.
#[must_use]
pub fn is_taken(text: &str) -> bool {
    let is_character = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b':';
    text.len() <= LONGEST && text.bytes().all(is_character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<(Part, &'static str)> {
        vec![
            (Part::Map("PIDS".to_owned()), "hvs-1f-m-PIDS"),
            (Part::Map(".bss.filter".to_owned()), "hvs-1f-m-.bss.filter"),
            (Part::Segment(0), "hvs-1f-s-00"),
            (Part::Segment(63), "hvs-1f-s-63"),
            (Part::Segment(100), "hvs-1f-s-100"),
            (Part::Program("walk_tasks".to_owned()), "hvs-1f-p-walk_tasks"),
            (Part::Link("sched-switch".to_owned()), "hvs-1f-l-sched-switch"),
            (Part::StateA, "hvs-1f-state-a"),
            (Part::StateB, "hvs-1f-state-b"),
            (Part::Manifest, "hvs-1f-manifest"),
        ]
    }

    #[test]
    fn each_part_has_a_name_that_leads_back_to_it() {
        for (part, text) in all() {
            let name = Name { set: Token::at(31_999_999), part };
            assert_eq!(name.to_string(), text);
            assert!(is_taken(text), "{text}");
            assert_eq!(Name::parse(text), Some(name));
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        let long = format!("hvs-1-m-{}", "x".repeat(LONGEST));
        for text in [
            "",
            "stored",
            "hvs-",
            "hvs-manifest",
            "hvs--manifest",
            "hvs-1",
            "hvs-1-",
            "hvs-1-m",
            "hvs-1-m-",
            "hvs-1-x-name",
            "hvs-1-state-c",
            "hvs-1-manifest-",
            "xhvs-1-manifest",
            // Of numbers the one form that they are written in.
            "hvs-01-manifest",
            "hvs-+1-manifest",
            "hvs-1F-manifest",
            "hvs-10000000000000000-manifest",
            "hvs-1-s-1",
            "hvs-1-s-001",
            "hvs-1-s-+1",
            "hvs-1-s--1",
            "hvs-1-s-4294967296",
            // What systemd does not take.
            "hvs-1-m-a:b",
            "hvs-1-m-a\nFDSTORE=1",
            "hvs-1-m-ä",
            &long,
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_load_has_a_greater_token() {
        assert!(Token::at(2_000_000) > Token::at(1_999_999));
        let last = Token::at(u64::MAX);
        assert_eq!(Token::from_number(last.number()), last);
        assert!(last > Token::at(u64::MAX / 2));
    }

    #[test]
    fn the_manifest_is_the_last_of_all_parts() {
        assert!(all().iter().all(|(part, _)| *part <= Part::Manifest));
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_the_name_that_it_is_or_not_at_all(
            text in "(hvs-)?[0-9a-f]{0,3}-?[mspl]?-?.{0,9}"
        ) {
            if let Some(name) = Name::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
