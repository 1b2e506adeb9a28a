//! The journal: an entry for each event, with its fields, and the socket that takes entries.

use std::{
    ffi::OsStr,
    fmt::{Debug, Write as _},
    fs::File,
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt as _, net::UnixDatagram},
    },
    path::PathBuf,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use super::{
    entry::{entry, line_of, put},
    lines::LogLines,
};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// What stands before the name of a field of ours, so that it is none of the journal's.
const PREFIX: &str = "HVSAMPLER_";

/// Longest name of a field that the journal takes.
const NAME_BYTES: usize = 64;

/// Whether this descriptor is the journal's: `JOURNAL_STREAM` has its device and inode, as systemd.exec(5)
/// says. Whoever starts a program with another standard error leaves the variable as it was.
pub(super) fn is_behind(stream: Option<&OsStr>, descriptor: &impl AsFd) -> bool {
    let named = || {
        let (device, inode) = stream?.to_str()?.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    };
    let found = || {
        let metadata = File::from(descriptor.as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    named().is_some_and(|named| found() == Some(named))
}

/// An entry for the journal of each event.
pub(super) struct Journal {
    lines: LogLines,
}

impl Journal {
    pub(super) const fn new(lines: LogLines) -> Self {
        Self { lines }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.lines.put(entry_of(event));
    }
}

fn entry_of(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    let mut found = Found::default();
    event.record(&mut found);
    let Found { message, named, fields, target } = found;
    let mut entry = entry(*metadata.level(), &format!("{message}{named}"));
    put(&mut entry, "TARGET", target.as_deref().unwrap_or_else(|| metadata.target()));
    if let Some(file) = metadata.file() {
        put(&mut entry, "CODE_FILE", file);
    }
    if let Some(line) = metadata.line() {
        put(&mut entry, "CODE_LINE", &line.to_string());
    }
    for (name, value) in fields {
        put(&mut entry, &field_name(name), &value);
    }
    entry
}

/// The journal takes capital letters, digits and underscores, and leaves out fields with other names.
fn field_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(name.chars().map(fit)).take(NAME_BYTES).collect()
}

/// What an event has.
#[derive(Default)]
struct Found {
    message: String,
    /// All fields, as they follow the message in a line.
    named: String,
    fields: Vec<(&'static str, String)>,
    /// Of a record of the crate `log`, which all have the same.
    target: Option<String>,
}

impl Found {
    /// `shown` is the value as a line has it.
    fn take(&mut self, field: &Field, value: String, shown: &str) {
        match field.name() {
            "message" => self.message = value,
            "log.target" => self.target = Some(value),
            // What else such a record says of where it is from.
            name if name.starts_with("log.") => {}
            name => {
                let _ = write!(self.named, " {name}={shown}");
                self.fields.push((name, value));
            }
        }
    }
}

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned(), &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        let shown = value.clone();
        self.take(field, value, &shown);
    }
}

/// The journal as something to write entries to, one at a time. It waits for the journal for as long as it
/// takes: it is for the thread that writes lines.
pub(super) struct JournalSocket<W> {
    socket: UnixDatagram,
    path: PathBuf,
    /// Where the line of an entry goes that the journal does not take: it is away, or the entry is longer
    /// than a datagram may be.
    beside: W,
}

impl<W> JournalSocket<W> {
    /// # Errors
    /// When no socket can be made.
    pub(super) fn open(path: impl Into<PathBuf>, beside: W) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.into(), beside })
    }
}

impl<W: Write> Write for JournalSocket<W> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        if self.socket.send_to(entry, &self.path).is_err() {
            let mut line = line_of(entry).to_vec();
            line.push(b'\n');
            self.beside.write_all(&line)?;
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.beside.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ffi::OsString, time::Duration};

    use tracing::Level;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{
        super::{entry::tests::read, limits::Limits, lines::Form},
        *,
    };

    const LONG: Duration = Duration::from_secs(20);

    /// The journal's end.
    struct Listener {
        directory: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Listener {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(directory.path().join("journal")).unwrap();
            socket.set_read_timeout(Some(LONG)).unwrap();
            Self { directory, socket }
        }

        fn lines(&self) -> LogLines {
            let out = JournalSocket::open(self.directory.path().join("journal"), io::sink()).unwrap();
            LogLines::start(out, 16, Form::Journal, Limits::default()).unwrap()
        }

        fn next(&self) -> BTreeMap<String, String> {
            let mut entry = vec![0; 1 << 16];
            let length = self.socket.recv(&mut entry).expect("nothing has come");
            entry.truncate(length);
            read(&entry)
        }
    }

    #[test]
    fn an_event_arrives_with_its_fields_and_its_line_has_them_too() {
        let listener = Listener::new();
        let subscriber = tracing_subscriber::registry().with(Journal::new(listener.lines()));
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::other("no\nroom");
            tracing::warn!(%error, guest = "we\"b", vcpus = 2, "guest {}", "appeared");
        });
        let entry = listener.next();
        let field = |name: &str| entry.get(name).map(String::as_str);
        assert_eq!(field("MESSAGE"), Some("guest appeared error=no\nroom guest=\"we\\\"b\" vcpus=2"));
        assert_eq!(field("PRIORITY"), Some("4"));
        assert_eq!(field("SYSLOG_IDENTIFIER"), Some("hvsampler"));
        assert_eq!(field("TARGET"), Some(module_path!()));
        assert!(field("CODE_FILE").is_some_and(|file| file.ends_with("journal.rs")), "{entry:?}");
        assert!(field("CODE_LINE").is_some_and(|line| line.parse::<u32>().is_ok()), "{entry:?}");
        let own = ["HVSAMPLER_ERROR", "HVSAMPLER_GUEST", "HVSAMPLER_VCPUS"].map(field);
        assert_eq!(own, [Some("no\nroom"), Some("we\"b"), Some("2")]);
    }

    #[test]
    fn names_of_fields_are_such_that_the_journal_keeps_them() {
        assert_eq!(field_name("log.bpf-level"), "HVSAMPLER_LOG_BPF_LEVEL");
        assert_eq!(field_name(&"x".repeat(100)).len(), NAME_BYTES);
    }

    #[test]
    fn what_the_journal_does_not_take_goes_to_standard_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut beside = Vec::new();
        let mut away = JournalSocket::open(directory.path().join("none"), &mut beside).unwrap();
        away.write_all(&entry(Level::INFO, "first\nline")).unwrap();
        assert_eq!(beside, b"first\nline\n");
        // Longer than a datagram may be.
        let listener = Listener::new();
        let path = listener.directory.path().join("journal");
        let mut beside = Vec::new();
        let long = "x".repeat(16 << 20);
        JournalSocket::open(path, &mut beside).unwrap().write_all(&entry(Level::INFO, &long)).unwrap();
        assert_eq!(beside.len(), long.len() + 1);
    }

    #[test]
    fn the_journal_is_there_where_its_variable_names_this_very_stream() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let (device, inode) = (metadata.dev(), metadata.ino());
        let is = |text: &str| is_behind(Some(&OsString::from(text)), &file);
        assert!(is(&format!("{device}:{inode}")));
        for other in [format!("{device}:{}", inode + 1), format!("{}:{inode}", device + 1), String::new()] {
            assert!(!is(&other), "{other}");
        }
        assert!(!is("a:b") && !is_behind(None, &file));
    }
}
