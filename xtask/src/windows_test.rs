//! The simulated kernel's tests as programs of Windows, run in Wine: Windows is a machine that runs tests, and nothing takes
//! it for a kernel.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::drivers::RUSTC;
use crate::wine::Wine;
use crate::{requirements, workshop};

const TARGET: &str = "x86_64-pc-windows-gnu";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// Tests that need no cargo beside them.
const TESTS: [&str; 3] = ["calls", "detection", "lookaside"];

/// What Rust's standard library asks for random numbers, and Wine 8 has not.
const RANDOM: &str = "\
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE room, SIZE_T length) { return RtlGenRandom(room, (ULONG)length); }
";

pub fn run() -> Result<()> {
    requirements::check()?;
    let target = workshop().join("windows");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(crate::root())
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS")
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["test", "--no-run", "--quiet", "--locked", "--target", TARGET])
        .args(["-Zbuild-std=std,panic_unwind,test", "--config"])
        .arg(format!("target.{TARGET}.linker={COMPILER:?}"))
        .arg("--target-dir")
        .arg(&target);
    for test in TESTS {
        cargo.args(["--test", test]);
    }
    ensure!(cargo.status().context("cargo")?.success(), "the tests do not build for Windows");
    let programs = target.join(TARGET).join("debug/deps");
    random_numbers(&programs)?;
    let wine = Wine::start()?;
    for test in TESTS {
        let program = newest(&programs, test)?;
        let said = wine.program(&program)?;
        let result = said.lines().find(|line| line.starts_with("test result: "));
        match result {
            Some(result) if result.starts_with("test result: ok. ") && !result.contains(" 0 passed") => {
                println!("ok      {test}: {result}");
            }
            _ => bail!("{test}, as a program of Windows:\n{said}"),
        }
    }
    Ok(())
}

fn random_numbers(directory: &Path) -> Result<()> {
    let source = directory.join("bcryptprimitives.c");
    fs::write(&source, RANDOM)?;
    let status = Command::new(COMPILER)
        .args(["-shared", "-o"])
        .arg(directory.join("bcryptprimitives.dll"))
        .arg(&source)
        .arg("-ladvapi32")
        .status()?;
    ensure!(status.success(), "{COMPILER} does not compile {}", source.display());
    Ok(())
}

/// The program of this test that was built last.
fn newest(directory: &Path, test: &str) -> Result<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(test).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".exe")) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort();
    found.pop().map(|(_, path)| path).with_context(|| format!("the build made no {test}"))
}
