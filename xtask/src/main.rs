//! `cargo xtask kernel-test` builds drivers on Linux, loads them in Wine, and looks at what they say and what they are.
//! `cargo xtask load` does so for one driver, for whoever writes it. See `tests/kernel/README.md`.

mod drivers;
mod frames;
mod image;
mod kernel_test;
mod log;
mod requirements;
mod windows_test;
mod wine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use lexopt::{Arg, ValueExt as _};

use drivers::{Driver, Profile};
use wine::Wine;

const USAGE: &str = "\
usage: cargo xtask kernel-test
       cargo xtask load [--release] [--features LIST] [--command COMMAND]... DIRECTORY [NAME=NUMBER]...
       cargo xtask windows-test
       cargo xtask lint
       cargo xtask missing

kernel-test  builds the drivers of examples/ and tests/kernel/, loads and unloads them in Wine, and checks what they
             print, and their images.
load         builds the driver package in DIRECTORY, loads it with these values in its service's registry key, runs the
             commands, unloads it, and prints what it said, and behind > what they did.
windows-test builds tests of the simulated kernel for Windows, and runs them in Wine.
lint         checks the format of these drivers, and runs clippy on them.
missing      prints the packages that all this needs and that are not installed.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Arg::Value(task)) if task == "kernel-test" => match arguments.next()? {
            None => kernel_test::run(),
            Some(other) => Err(other.unexpected().into()),
        },
        Some(Arg::Value(task)) if task == "windows-test" => windows_test::run(),
        Some(Arg::Value(task)) if task == "lint" => kernel_test::lint(),
        Some(Arg::Value(task)) if task == "missing" => {
            println!("{}", requirements::missing().join(" "));
            Ok(())
        }
        Some(Arg::Value(task)) if task == "load" => load(&mut arguments),
        Some(Arg::Short('h') | Arg::Long("help")) => {
            println!("{USAGE}");
            Ok(())
        }
        Some(Arg::Value(task)) => bail!("there is no task {}\n{USAGE}", task.display()),
        Some(other) => Err(other.unexpected().into()),
        None => bail!("which task?\n{USAGE}"),
    }
}

fn load(arguments: &mut lexopt::Parser) -> Result<()> {
    let mut profile = Profile::Dev;
    let mut features = String::new();
    let mut commands = Vec::new();
    let mut directory = None;
    let mut values = Vec::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("release") => profile = Profile::Release,
            Arg::Long("features") => features = arguments.value()?.string()?,
            Arg::Long("command") => commands.push(arguments.value()?.string()?),
            Arg::Value(path) if directory.is_none() => directory = Some(PathBuf::from(path)),
            Arg::Value(value) => values.push(registry_value(&value.string()?)?),
            Arg::Short('h') | Arg::Long("help") => {
                println!("{USAGE}");
                return Ok(());
            }
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    let directory = directory.with_context(|| format!("which driver?\n{USAGE}"))?;
    requirements::check()?;
    let driver = Driver::at(&directory)?;
    eprintln!("xtask: builds {}", driver.name());
    let image = driver.build(profile, &features, driver.name())?;
    let values: Vec<_> = values.iter().map(|(name, number)| (name.as_str(), *number)).collect();
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    eprintln!("xtask: loads {} {values:?}", driver.name());
    let log = Wine::start()?.load(&image, driver.name(), &values, &commands)?;
    for line in log.printed() {
        println!("{line}");
    }
    for line in log.commands() {
        println!("> {line}");
    }
    log.is_clean()
}

/// `NAME=NUMBER`.
fn registry_value(text: &str) -> Result<(String, u32)> {
    let (name, number) =
        text.split_once('=').with_context(|| format!("{text}: a registry value is NAME=NUMBER"))?;
    let number = match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    let number = number.with_context(|| format!("{text}: a registry value is NAME=NUMBER"))?;
    if name.is_empty() || !name.chars().all(|character| character.is_ascii_alphanumeric()) {
        bail!("{text}: the name of a registry value has letters and digits here");
    }
    Ok((name.to_owned(), number))
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the repository")
}

/// Where everything is built.
fn workshop() -> PathBuf {
    root().join("target/kernel")
}
