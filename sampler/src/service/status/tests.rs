//! The socket with answers of the tests' own: those of the service are in `service/tests/status.rs`.

use std::{os::unix::fs::MetadataExt as _, time::Instant};

use tokio::io::AsyncReadExt as _;

use super::*;

/// Bound of every wait: reached only by a failure.
const LONG: Duration = Duration::from_secs(30);

/// More than the kernel keeps for a reader who is late.
const MUCH: usize = 4 << 20;

struct Setup {
    directory: tempfile::TempDir,
    _answering: Answering,
}

impl Setup {
    async fn new(bytes: usize, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let answer = Arc::new(move || "x".repeat(bytes));
        let answering = Answering::with(&directory.path().join("status"), answer, limits).await.unwrap();
        Self { directory, _answering: answering }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("status")).await.unwrap()
    }

    /// The whole answer.
    async fn ask(&self) -> Vec<u8> {
        read(self.connect().await).await
    }
}

async fn read(mut stream: UnixStream) -> Vec<u8> {
    let mut answer = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("no answer").unwrap();
    answer
}

/// Waits until the answer has begun: who asked has a place from then on.
async fn begun(stream: UnixStream) -> UnixStream {
    tokio::time::timeout(LONG, stream.readable()).await.expect("no answer").unwrap();
    stream
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let setup = Setup::new(MUCH, Limits { patience: LONG, ..LIMITS }).await;
    assert_eq!(setup.ask().await.len(), MUCH);
}

#[tokio::test]
async fn those_who_never_read_hold_up_nobody_until_their_places_are_taken() {
    let limits = Limits { clients: 3, patience: LONG * 10 };
    let setup = Setup::new(MUCH, limits).await;
    let mut silent = Vec::new();
    for _ in 1..limits.clients {
        silent.push(begun(setup.connect().await).await);
    }
    assert_eq!(setup.ask().await.len(), MUCH, "one place is left");
    silent.push(begun(setup.connect().await).await);
    let refused = String::from_utf8(setup.ask().await).unwrap();
    assert_eq!(refused, "{\"refused\":\"3 others are being answered; ask again\"}\n");
    // One that goes away makes room.
    silent.pop();
    let end = Instant::now() + LONG;
    while setup.ask().await.len() != MUCH {
        assert!(Instant::now() < end, "there is no room again");
    }
}

#[tokio::test]
async fn who_does_not_read_in_time_does_not_get_the_rest() {
    let setup = Setup::new(MUCH, Limits { clients: 1, patience: Duration::from_millis(50) }).await;
    let silent = begun(setup.connect().await).await;
    let end = Instant::now() + LONG;
    // The one place is free again.
    while setup.ask().await.starts_with(b"{\"refused\"") {
        assert!(Instant::now() < end, "its place is not free again");
    }
    assert!(read(silent).await.len() < MUCH);
}

#[test]
fn a_stranger_is_refused_and_hears_why_and_others_while_there_is_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::metadata(directory.path()).unwrap();
    let owner = Owner::of(&file);
    let own = Peer { uid: file.uid(), groups: Vec::new() };
    let stranger = Peer { uid: file.uid() + 1, groups: vec![file.gid() + 1] };
    assert_eq!(admit(&own, owner, LIMITS.clients - 1, LIMITS), Ok(()));
    let busy = admit(&own, owner, LIMITS.clients, LIMITS).unwrap_err();
    assert!(busy.contains("ask again"), "{busy}");
    let refused = admit(&stranger, owner, 0, LIMITS).unwrap_err();
    assert!(refused.ends_with(&format!("user {} is none of them", stranger.uid)), "{refused}");
}
