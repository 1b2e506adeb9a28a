//! Reading what platforms keep of their guests in files.
//!
//! A file of another's may be no file, may be endless, and may lie on a file system that answers no more, as
//! that of Proxmox VE does when its cluster has no quorum or its daemon hangs. Nothing interrupts a thread
//! that waits for such a file system. So each directory has a thread of its own for its reads, and a time
//! limit: what did not answer in time is asked no more until it has answered.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel},
    },
    thread,
    time::Duration,
};

use crate::kernel::Root;

/// Time that a read may take. A local one takes microseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of a file that are read. Of libvirt's status files the largest are some hundreds of KiB.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 65_536;

/// Where a platform keeps what it knows of guests, relative to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Area {
    /// Status files of libvirt's domains that run.
    Libvirt,
    /// Configurations of Proxmox VE, on a file system in user space.
    Proxmox,
    /// One directory for each pod, made by kubelet.
    PodLogs,
    /// Bundles of containerd.
    Containerd,
    /// Bundles of CRI-O.
    Crio,
}

const AREAS: [&str; 5] = [
    "run/libvirt/qemu",
    "etc/pve/qemu-server",
    "var/log/pods",
    "run/containerd/io.containerd.runtime.v2.task/k8s.io",
    "run/containers/storage/overlay-containers",
];

/// Why there is no answer although there may be one.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The file system is slow, or hangs.
    #[error("{}: no answer in time; see whether its file system hangs", path.display())]
    Unanswered {
        /// What was to be read.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a file is, as far as a look at it says: a file that is written anew has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Self { inode: found.ino(), bytes: found.size(), modified })
    }
}

/// A file that was looked at, or a directory, and what it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    area: Area,
    path: PathBuf,
    /// Absent where it was not there, or did not answer.
    stamp: Option<Stamp>,
}

/// What a file was before it was read, so that a later change shows, and what was read.
type Answer = (Option<Stamp>, io::Result<Option<Vec<u8>>>);
type Question = Box<dyn FnOnce() -> Answer + Send>;

/// The thread that reads in one area.
struct Reader {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
    /// The answer to a question that was given up is still to come.
    is_behind: bool,
}

/// The files that platforms keep.
pub struct Files {
    root: Root,
    patience: Duration,
    readers: [Mutex<Option<Reader>>; AREAS.len()],
    unanswered: AtomicU64,
}

impl Files {
    /// Those below a root.
    #[must_use]
    pub fn below(root: Root) -> Self {
        Self {
            root,
            patience: PATIENCE,
            readers: [const { Mutex::new(None) }; AREAS.len()],
            unanswered: AtomicU64::new(0),
        }
    }

    /// Reads that were given up, because the file system did not answer in time.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Whether any of these files is another one now, or has come or gone. Reads none of them. What does not
    /// answer has not changed, as far as anybody knows.
    #[must_use]
    pub fn have_changed(&self, seen: &[Seen]) -> bool {
        seen.iter().any(|Seen { area, path, stamp }| {
            let of = path.clone();
            let now = self.ask(*area, path, Box::new(move || (Stamp::of(&of), Ok(None))));
            now.is_ok_and(|(now, _)| now != *stamp)
        })
    }

    /// `None` of what cannot be the name of a file in the area.
    fn path(&self, area: Area, name: &[&str]) -> Option<PathBuf> {
        let is_plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(['/', '\0']);
        let path = self.root.path(AREAS[area as usize]);
        name.iter().all(is_plain).then(|| name.iter().fold(path, |path, part| path.join(part)))
    }

    fn ask(&self, area: Area, path: &Path, question: Question) -> Result<Answer, FileError> {
        let failed = |source| FileError::Read { path: path.to_owned(), source };
        // Held while waiting: one area is asked by one at a time, and nobody waits for long.
        let reader = self.readers[area as usize].lock();
        let mut place = reader.unwrap_or_else(PoisonError::into_inner);
        let reader = match &mut *place {
            Some(reader) => reader,
            none => none.insert(Reader::start(area).map_err(failed)?),
        };
        match reader.ask(question, self.patience) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                Err(FileError::Unanswered { path: path.to_owned() })
            }
            Err(error) => {
                // The next one who asks starts another.
                *place = None;
                Err(failed(error))
            }
        }
    }
}

/// Reads what platforms keep of one guest, and notes what was looked at.
pub(super) struct Look<'a> {
    files: &'a Files,
    seen: RefCell<Vec<Seen>>,
}

impl<'a> Look<'a> {
    pub(super) const fn at(files: &'a Files) -> Self {
        Self { files, seen: RefCell::new(Vec::new()) }
    }

    /// What was looked at.
    pub(super) fn seen(self) -> Vec<Seen> {
        self.seen.into_inner()
    }

    /// The content of a file, `None` where there is none. `name` is its path in the area, component by
    /// component.
    pub(super) fn read(&self, area: Area, name: &[&str]) -> Result<Option<Vec<u8>>, FileError> {
        let Some(path) = self.files.path(area, name) else { return Ok(None) };
        let of = path.clone();
        let (seen, content) = self.ask(area, path, Box::new(move || (Stamp::of(&of), read(&of))));
        self.seen.borrow_mut().push(seen);
        content
    }

    /// The name of an entry of the area that ends so, `None` where there is none.
    pub(super) fn find(&self, area: Area, end: String) -> Result<Option<Vec<u8>>, FileError> {
        let Some(path) = self.files.path(area, &[]) else { return Ok(None) };
        let of = path.clone();
        let (seen, name) =
            self.ask(area, path, Box::new(move || (Stamp::of(&of), find(&of, end.as_bytes()))));
        // Once found it stays: what else comes and goes in the directory says nothing of this guest.
        if !matches!(name, Ok(Some(_))) {
            self.seen.borrow_mut().push(seen);
        }
        name
    }

    fn ask(
        &self,
        area: Area,
        path: PathBuf,
        question: Question,
    ) -> (Seen, Result<Option<Vec<u8>>, FileError>) {
        match self.files.ask(area, &path, question) {
            Ok((stamp, read)) => {
                let read = read.map_err(|source| FileError::Read { path: path.clone(), source });
                (Seen { area, path, stamp }, read)
            }
            Err(error) => (Seen { area, path, stamp: None }, Err(error)),
        }
    }
}

impl Reader {
    fn start(area: Area) -> io::Result<Self> {
        let (questions, to_answer) = channel::<Question>();
        let (to_give, answers) = channel();
        thread::Builder::new().name(format!("files-{}", area as usize)).spawn(move || {
            for question in to_answer {
                if to_give.send(question()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { questions, answers, is_behind: false })
    }

    /// `None` where no answer came in time.
    fn ask(&mut self, question: Question, patience: Duration) -> io::Result<Option<Answer>> {
        let ended = || io::Error::other("the thread that reads has ended");
        if self.is_behind {
            match self.answers.try_recv() {
                Ok(_) => self.is_behind = false,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
        self.questions.send(question).map_err(|_| ended())?;
        match self.answers.recv_timeout(patience) {
            Ok(answer) => Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => {
                self.is_behind = true;
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

/// Reads a regular file that is not too long. A FIFO would wait for its writer, and a link may lead anywhere.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(FLAGS).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    content(file).map(Some)
}

fn content(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("is longer than {MAX_FILE} bytes")));
    }
    Ok(content)
}

fn find(dir: &Path, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries.take(MAX_ENTRIES) {
        let name = entry?.file_name();
        if name.as_bytes().ends_with(end) {
            return Ok(Some(name.as_bytes().to_vec()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command, time::Instant};

    use super::*;

    struct Setup {
        root: tempfile::TempDir,
        files: Files,
    }

    impl Setup {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            AREAS.iter().for_each(|area| fs::create_dir_all(root.path().join(area)).unwrap());
            Self { files: Files::below(Root::at(root.path())), root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(AREAS[Area::Libvirt as usize]).join(name)
        }

        fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
            Look::at(&self.files).read(Area::Libvirt, &[name]).map_err(|error| error.to_string())
        }

        fn find(&self, end: &str) -> Option<Vec<u8>> {
            Look::at(&self.files).find(Area::PodLogs, end.to_owned()).unwrap()
        }
    }

    #[test]
    fn only_a_regular_file_of_bounded_length_is_read() {
        let setup = Setup::new();
        fs::write(setup.path("file"), "text").unwrap();
        assert_eq!(setup.read("file").unwrap().unwrap(), b"text");
        assert_eq!(setup.read("none").unwrap(), None);
        File::create(setup.path("full")).unwrap().set_len(MAX_FILE).unwrap();
        assert_eq!(setup.read("full").unwrap().unwrap().len() as u64, MAX_FILE);
        File::create(setup.path("long")).unwrap().set_len(10 << 20).unwrap();
        assert!(setup.read("long").unwrap_err().ends_with("long: is longer than 1048576 bytes"));
        symlink("file", setup.path("link")).unwrap();
        assert!(setup.read("link").is_err());
        fs::create_dir(setup.path("dir")).unwrap();
        assert!(setup.read("dir").unwrap_err().ends_with("dir: is no regular file"));
        let fifo = setup.path("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(setup.read("fifo").unwrap_err().ends_with("fifo: is no regular file"));
        assert_eq!(setup.files.unanswered(), 0, "a FIFO keeps nobody waiting");
    }

    #[test]
    fn a_reader_that_has_ended_is_replaced() {
        let setup = Setup::new();
        fs::write(setup.path("file"), "text").unwrap();
        let ask = |question| setup.files.ask(Area::Libvirt, &setup.path("file"), question);
        let panics: Question = Box::new(|| panic!("as the test asks"));
        assert!(ask(panics).is_err());
        assert_eq!(setup.read("file").unwrap().unwrap(), b"text");
    }

    #[test]
    fn no_name_leaves_its_area() {
        let setup = Setup::new();
        fs::write(setup.root.path().join("secret"), "text").unwrap();
        for name in ["", ".", "..", "../../../secret", "/secret", "a/b", "nul\0"] {
            assert_eq!(setup.read(name).unwrap(), None, "{name:?}");
        }
        assert!(setup.read(&"x".repeat(5000)).is_err(), "the kernel knows no such name");
    }

    #[test]
    fn a_file_system_that_hangs_is_asked_no_more_until_it_answers() {
        let mut setup = Setup::new();
        setup.files.patience = Duration::from_millis(20);
        fs::write(setup.path("file"), "text").unwrap();
        let (release, hangs) = channel::<()>();
        let hung: Question = Box::new(move || {
            let _ = hangs.recv();
            (None, Ok(None))
        });
        let began = Instant::now();
        let error = setup.files.ask(Area::Libvirt, Path::new("/x"), hung).unwrap_err();
        assert_eq!(error.to_string(), "/x: no answer in time; see whether its file system hangs");
        for _ in 0..1_000 {
            assert!(setup.read("file").is_err());
        }
        assert!(began.elapsed() < Duration::from_secs(10), "each of a thousand waits for nothing");
        assert_eq!(setup.files.unanswered(), 1_001);
        assert_eq!(setup.find("_x"), None, "others answer");
        release.send(()).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while setup.read("file").is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(setup.read("file").unwrap().unwrap(), b"text", "the late answer is nobody else's");
    }

    #[test]
    fn an_entry_is_found_by_its_end() {
        let setup = Setup::new();
        let area = setup.root.path().join(AREAS[Area::PodLogs as usize]);
        for name in ["a_b_c", "a_web_u-1", "x"] {
            fs::create_dir(area.join(name)).unwrap();
        }
        assert_eq!(setup.find("_u-1").unwrap(), b"a_web_u-1");
        assert_eq!(setup.find("_u-2"), None);
    }

    #[test]
    fn what_is_written_anew_comes_or_goes_has_changed() {
        let setup = Setup::new();
        let seen = |name: &str| {
            let look = Look::at(&setup.files);
            let _ = look.read(Area::Libvirt, &[name]);
            look.seen()
        };
        let (file, none) = (setup.path("file"), setup.path("none"));
        fs::write(&file, "text").unwrap();
        File::create(setup.path("long")).unwrap().set_len(10 << 20).unwrap();
        let [before, missing, long] = ["file", "none", "long"].map(seen);
        assert!(![&before, &missing, &long].iter().any(|seen| setup.files.have_changed(seen)));
        fs::write(setup.path("new"), "text").unwrap();
        fs::rename(setup.path("new"), &file).unwrap();
        assert!(setup.files.have_changed(&before), "as libvirt does it");
        let before = seen("file");
        fs::remove_file(&file).unwrap();
        assert!(setup.files.have_changed(&before));
        fs::write(&none, "text").unwrap();
        assert!(setup.files.have_changed(&missing));
    }
}
