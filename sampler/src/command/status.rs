//! `hvsampler status`: the running service is asked how it is.

mod page;

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    runtime::{Builder, Runtime},
};

use crate::{
    cli::StatusArgs,
    service::status::{Refusal, SCHEMA, Status},
};

/// How long the service may take to answer. It takes a millisecond, on a host whose CPUs are taken more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read. A service of 256 threads says some thirty thousand.
const MOST_BYTES: u64 = 1 << 20;

/// Asks, and renders the answer; every line ends with a newline.
///
/// # Errors
/// Nobody answers, or not to this user, or something that is no answer.
pub fn run(args: &StatusArgs) -> Result<String> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let text = ask(&runtime, &args.socket, PATIENCE)?;
    let document = document(&text)?;
    // Programs may understand what another version says.
    Ok(if args.json { text } else { page::render(&status(document)?) })
}

/// The answer as it is sent. A socket that cannot take one more connection is not waited for either.
fn ask(runtime: &Runtime, socket: &Path, patience: Duration) -> Result<String> {
    let question = async {
        let stream = UnixStream::connect(socket).await?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = runtime.block_on(async { tokio::time::timeout(patience, question).await });
    let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(|error| anyhow!("{}: {}", socket.display(), why(&error)))?;
    String::from_utf8(answer).with_context(|| format!("{}: no hvsampler answers there", socket.display()))
}

/// Why there is no answer, and what to do.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "no service answers there: it does not run (`systemctl status hvsampler`), or \
                                    its status_socket is another one (--socket)"
                .to_owned()
        }
        io::ErrorKind::ConnectionRefused => "the service that made this socket is gone: it was killed \
                                             (`systemctl status hvsampler`)"
            .to_owned(),
        io::ErrorKind::PermissionDenied => "root, the user of the service and its group may ask".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            "the service does not answer: it is busy, or stands still".to_owned()
        }
        _ => error.to_string(),
    }
}

/// What answers, if it is a service that does.
fn document(text: &str) -> Result<Value> {
    const STRANGER: &str = "what answers is no hvsampler";
    let document: Value = serde_json::from_str(text).context(STRANGER)?;
    if let Ok(Refusal { refused }) = Refusal::deserialize(&document) {
        bail!("the service does not answer: {refused}");
    }
    if document["schema"].is_string() { Ok(document) } else { Err(anyhow!(STRANGER)) }
}

fn status(document: Value) -> Result<Status> {
    const OTHER: &str = "the service is of another version; ask with --json";
    match document["schema"].as_str() {
        Some(SCHEMA) => serde_json::from_value(document).context(OTHER),
        schema => bail!("{OTHER}: it says {}", schema.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::net::UnixListener,
        thread::{self, JoinHandle},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    struct Setup {
        directory: tempfile::TempDir,
        runtime: Runtime,
    }

    impl Setup {
        fn new() -> Self {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            Self { directory: tempfile::tempdir().unwrap(), runtime }
        }

        fn path(&self) -> std::path::PathBuf {
            self.directory.path().join("status")
        }

        /// Somebody who answers once.
        fn answers(&self, text: &'static str) -> JoinHandle<()> {
            let listener = UnixListener::bind(self.path()).unwrap();
            thread::spawn(move || listener.accept().unwrap().0.write_all(text.as_bytes()).unwrap())
        }

        fn error(&self, patience: Duration) -> String {
            format!("{:#}", ask(&self.runtime, &self.path(), patience).unwrap_err())
        }
    }

    #[test]
    fn what_keeps_a_service_from_answering_is_named_with_the_socket() {
        let setup = Setup::new();
        let path = setup.path().display().to_string();
        let nobody = setup.error(LONG);
        assert!(nobody.starts_with(&path) && nobody.contains("does not run"), "{nobody}");
        let listener = UnixListener::bind(setup.path()).unwrap();
        let silent = setup.error(Duration::from_millis(20));
        assert!(silent.starts_with(&path) && silent.contains("stands still"), "{silent}");
        drop(listener);
        let gone = setup.error(LONG);
        assert!(gone.starts_with(&path) && gone.contains("is gone"), "{gone}");
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let setup = Setup::new();
        let service = setup.answers("{\"schema\":\"x\"}\n");
        assert_eq!(ask(&setup.runtime, &setup.path(), LONG).unwrap(), "{\"schema\":\"x\"}\n");
        service.join().unwrap();
    }

    #[test]
    fn what_is_no_status_is_an_error_that_says_what_it_is() {
        let error = |text: &str| format!("{:#}", document(text).and_then(status).unwrap_err());
        assert!(error("{\"refused\":\"not now\"}\n").ends_with("does not answer: not now"));
        assert!(error("{\"schema\":\"hvsampler.status/2\"}").ends_with("--json: it says hvsampler.status/2"));
        assert!(error("{\"schema\":\"hvsampler.status/1\"}").contains("another version; ask with --json"));
        for other in ["", "HTTP/1.1 400 Bad Request", "{}", "[1]", "null", "{\"schema\":1}"] {
            assert!(error(other).contains("no hvsampler"), "{other}: {}", error(other));
        }
    }
}
