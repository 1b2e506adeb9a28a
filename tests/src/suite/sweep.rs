//! Groups of the cpu hierarchy do not outlive the tests that made them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::oracle::{Controller, Hierarchy, sweep_groups};
use crate::runner::{Context, Outcome, Selection, Set, Test, run};

/// Time of a test that never ends: it makes its groups in a hundredth of it.
const SOON: Duration = Duration::from_secs(3);
/// Makes a group and one inside it, as a test with this process id would, and stays there.
const STAYS: &str = r#"mkdir -p "$1/hvsampler-tests-$$-0/hvsampler-tests-$$-1" &&
    echo $$ > "$1/hvsampler-tests-$$-0/hvsampler-tests-$$-1/cgroup.procs" &&
    echo $$ > "$2/inside" && exec sleep 1000"#;

/// A test whose time is over is killed, and then its groups are removed. A group with somebody in it stays,
/// and so does one with another name.
pub(super) fn of_what_was_killed(context: &Context) -> anyhow::Result<Outcome> {
    let hierarchy = Hierarchy::find(Controller::Cpu)?;
    let root = hierarchy.root();
    let foreign = Foreign::create(root.join(format!("hvsampler-foreign-{}-0", std::process::id())))?;
    let occupied = Occupied::create(root)?;
    let hanging =
        Test { name: "hangs", sets: &[Set::Native], needs: &[], limit: SOON, run: |_| unreachable!() };
    let command = |_: &Test, _: &Path| {
        let mut command = Command::new("sh");
        command.args(["-c", STAYS, "sh"]).args([root, context.directory()]);
        command
    };
    let selection = Selection { set: Set::Native, filter: None, except: Vec::new() };
    let mut lines = Vec::new();
    let tally = run(&[hanging], &selection, &command, &mut lines)?;
    let lines = String::from_utf8_lossy(&lines).into_owned();
    ensure!(tally.failed == 1 && lines.contains("its processes were killed"), "{lines}");
    let killed = fs::read_to_string(context.directory().join("inside")).context("it made no groups")?;
    let left = root.join(format!("hvsampler-tests-{}-0", killed.trim()));
    ensure!(!left.exists(), "{} is left over", left.display());
    ensure!(foreign.0.is_dir(), "a group with another name was removed");
    ensure!(occupied.path.is_dir(), "a group with a process in it was removed");
    let path = occupied.path.clone();
    drop(occupied);
    let swept = sweep_groups()?;
    ensure!(swept.contains(&path), "{} stays though nobody is in it: {swept:?}", path.display());
    Ok(Outcome::Passed("groups of a test that was killed are gone, with one inside the other".to_owned()))
}

/// A group that is not the tests'.
struct Foreign(PathBuf);

impl Foreign {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} is left over: {error}", self.0.display());
        }
    }
}

/// A group whose maker is gone while another process is in it.
struct Occupied {
    path: PathBuf,
    by: Child,
}

impl Occupied {
    fn create(root: &Path) -> anyhow::Result<Self> {
        let mut maker = Command::new("true").spawn()?;
        maker.wait()?;
        let path = root.join(format!("hvsampler-tests-{}-0", maker.id()));
        let by = Command::new("sleep").arg("1000").spawn()?;
        let occupied = Self { path, by };
        fs::create_dir(&occupied.path)?;
        fs::write(occupied.path.join("cgroup.procs"), occupied.by.id().to_string())?;
        Ok(occupied)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.by.kill();
        let _ = self.by.wait();
    }
}
