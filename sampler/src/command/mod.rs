//! What each subcommand does.

pub mod check;
pub mod config;
mod entries;
pub mod list;
pub mod once;
pub mod pages;
pub mod run;
pub mod status;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;

use crate::{
    cli::{Cli, Command, ConfigCommand, SettingsArgs},
    config::{Config, Examined, Overrides},
    kernel::Root,
};

/// Does what the command line asks for; the exit status is part of each command's help.
///
/// # Errors
/// What kept the command from its work, with the fix where one is known.
pub fn dispatch(cli: &Cli) -> Result<ExitCode> {
    if let Some(root) = &cli.root {
        Root::set_system(root)?;
    }
    let root = Root::system();
    match &cli.command {
        Command::Check(args) => {
            let examined = Config::examine(args.config.as_deref(), &environment, &Overrides::default());
            let report = check::Report::of(&root)?.with_hooks(&root).with_configuration(&examined);
            print(&report.render(args.format)?)?;
            Ok(if report.can_work() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Run(args) => run::run(args),
        Command::Once(args) => {
            print(&once::run(args)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Config(ConfigCommand::Check(args)) => {
            let report = config::Report::of(&examined(args));
            print(&report.text())?;
            Ok(if report.can_be_used() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Config(ConfigCommand::Print(args)) => {
            print(&config::print(&examined(args))?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::List(args) => {
            print(&list::Listing::of(&root)?.render(args.format)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(args) => {
            print(&status::run(args)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Pages(args) => {
            pages::run(&args.directory)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn examined(args: &SettingsArgs) -> Examined {
    Config::examine(args.config.as_deref(), &environment, &args.overrides())
}

/// The variables of this process.
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The line that an error ends a command with.
#[must_use]
pub fn complaint(error: &anyhow::Error) -> String {
    format!("hvsampler: {error:#}\n")
}

/// A reader that has seen enough, as `head` has, is not an error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
