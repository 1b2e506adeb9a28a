use std::sync::{Arc, Mutex};

use tracing::enabled;

use super::*;
use crate::config::LogLevel;

impl LogControl {
    /// Of no log.
    pub(in crate::service) fn none() -> Self {
        let lines = LogLines::start(io::sink(), 1, Form::Text, Limits::default()).unwrap();
        let settings = LogSettings { level: LogLevel::Off, ..LogSettings::default() };
        Self { levels: reload::Layer::new(filter(&settings)).1, lines }
    }
}

/// What this thread logs meanwhile, as lines of text.
pub(in crate::service) fn captured(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Written {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let lines = LogLines::start(written.clone(), ROOM, Form::Text, Limits::default()).unwrap();
    let layer = fmt::layer().with_writer(lines.clone()).with_ansi(false).without_time();
    let filter = filter(&LogSettings::default());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(layer), work);
    assert!(lines.flush(Duration::from_secs(20)));
    let written = written.0.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

#[test]
fn a_module_has_its_own_level_with_all_that_is_in_it() {
    let modules = [("export", LogLevel::Debug), ("export::client", LogLevel::Error)];
    let modules = modules.map(|(module, level)| (module.to_owned(), level)).into();
    let settings = LogSettings { level: LogLevel::Info, modules, ..LogSettings::default() };
    let subscriber = tracing_subscriber::registry().with(filter(&settings));
    tracing::subscriber::with_default(subscriber, || {
        assert!(enabled!(target: "hvsampler::agent::driver", Level::INFO));
        assert!(!enabled!(target: "hvsampler::agent::driver", Level::DEBUG));
        assert!(enabled!(target: "hvsampler::export::pipeline", Level::DEBUG), "a part of it");
        assert!(enabled!(target: "hvsampler::export::client::wires", Level::ERROR));
        assert!(!enabled!(target: "hvsampler::export::client::wires", Level::WARN));
        assert!(!enabled!(target: "hyper::client", Level::INFO), "libraries speak from warnings on");
    });
}
