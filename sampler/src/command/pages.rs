//! `hvsampler pages`: manual pages and completions, for whoever makes packages. What the very binary writes
//! fits its command line.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// The section of the manual for administrators' commands.
const SECTION: &str = "8";

/// Writes a manual page for the command and one for each subcommand, and a completion for each shell.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn run(directory: &Path) -> Result<()> {
    let context = || format!("{}: cannot be written", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let pages: Vec<(String, Command)> =
        visible.map(|sub| (format!("{name}-{}", sub.get_name()), sub.clone())).collect();
    for (page, sub) in pages.into_iter().chain([(name.clone(), command.clone())]) {
        write_page(directory, &page, sub).with_context(context)?;
    }
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, &name, directory).with_context(context)?;
    }
    Ok(())
}

fn write_page(directory: &Path, name: &str, command: Command) -> Result<()> {
    let version = concat!("hvsampler ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.display_name(name)).title(name).section(SECTION).source(version);
    let mut file = File::create(directory.join(format!("{name}.{SECTION}")))?;
    Ok(man.render(&mut file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_that_is_shown_has_a_page_and_each_shell_a_completion() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path()).unwrap();
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let commands = ["-check", "-config", "-list", "-once", "-run", "-status", ""]
            .map(|sub| format!("hvsampler{sub}.8"));
        let completions = ["_hvsampler", "hvsampler.bash", "hvsampler.fish"].map(str::to_owned);
        let mut expected: Vec<String> = commands.into_iter().chain(completions).collect();
        expected.sort();
        assert_eq!(names, expected);
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(text("hvsampler-run.8").contains("start\\-delay"), "{}", text("hvsampler-run.8"));
        assert!(text("hvsampler.bash").contains("--start-delay"));
        assert!(!text("hvsampler.8").contains("pages"), "what is hidden has no page");
    }
}
