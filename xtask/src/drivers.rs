//! Driver packages, built for Windows on Linux: against the stand-ins for wdk-sys and wdk-build in tests/kernel, with the
//! standard library's own sources, by lld.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{root, workshop};

const TARGET: &str = "x86_64-pc-windows-msvc";
/// A compiler whose standard library's sources are installed beside it.
pub const RUSTC: &str = "/usr/bin/rustc";
const LINKER: &str = "/usr/bin/lld-link-19";
const LIBCLANG: &str = "/usr/lib/llvm-19/lib";

/// How a driver is compiled.
#[derive(Clone, Copy)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// A package that makes a driver.
pub struct Driver {
    directory: PathBuf,
    name: String,
}

impl Driver {
    /// The package in this directory.
    pub fn at(directory: &Path) -> Result<Self> {
        let directory = if directory.ends_with("Cargo.toml") {
            directory.parent().unwrap_or(directory)
        } else {
            directory
        };
        let manifest = directory.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("{}: not the directory of a driver's package", directory.display()))?;
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let name = name.with_context(|| format!("{}: a package with a name = \"…\"", manifest.display()))?;
        Ok(Self { directory: directory.canonicalize()?, name: name.to_owned() })
    }

    /// The package's name, which the service gets, too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Builds the driver, and returns where its image is kept, under this name.
    pub fn build(&self, profile: Profile, features: &str, kept: &str) -> Result<PathBuf> {
        let target = workshop().join("target");
        let output = self.cargo(profile, features, &target)?.output().context("cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{} does not build:\n{}", self.name, build_errors(&said));
        }
        eprint!("{said}");
        let made = self.made(&String::from_utf8_lossy(&output.stdout)).with_context(|| {
            format!(
                "{} makes no driver: its [lib] has no crate-type = [\"cdylib\"]",
                self.manifest().display()
            )
        })?;
        let image = workshop().join("images").join(format!("{kept}.sys"));
        fs::create_dir_all(workshop().join("images"))?;
        fs::copy(&made, &image)?;
        // Where the linker put it, which cargo does not know of.
        let map =
            made.with_file_name("deps").join(made.file_name().unwrap_or_default()).with_extension("map");
        fs::copy(&map, image.with_extension("map"))
            .with_context(|| format!("the build made no {}", map.display()))?;
        Ok(image)
    }

    /// The image that cargo has made of this package, as its messages say.
    fn made(&self, messages: &str) -> Option<PathBuf> {
        let manifest = self.manifest();
        messages.lines().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_ours = message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
            let files = message["filenames"].as_array().filter(|_| is_ours)?;
            files
                .iter()
                .filter_map(|file| file.as_str())
                .find(|file| file.ends_with(".dll"))
                .map(PathBuf::from)
        })
    }

    /// An error unless the driver is formatted, and lints have nothing to say. It is checked for this machine, because the
    /// toolchain that has clippy has no standard library for Windows.
    pub fn lint(&self) -> Result<()> {
        let format = Command::new("cargo")
            .args(["fmt", "--check"])
            .arg("--manifest-path")
            .arg(self.manifest())
            .status()?;
        if !format.success() {
            bail!("{} is not formatted", self.name);
        }
        let mut clippy = Command::new("cargo");
        clippy
            .current_dir(root())
            .env("RUSTC_BOOTSTRAP", "1")
            .env("LIBCLANG_PATH", LIBCLANG)
            .args(["clippy", "--quiet", "-Zlockfile-path"])
            .arg("--manifest-path")
            .arg(self.manifest())
            .arg("--target-dir")
            .arg(workshop().join("lint"));
        for setting in self.patches()? {
            clippy.args(["--config", &setting]);
        }
        if !clippy.args(["--", "-D", "warnings"]).status()?.success() {
            bail!("{} has lints", self.name);
        }
        Ok(())
    }

    fn manifest(&self) -> PathBuf {
        self.directory.join("Cargo.toml")
    }

    fn cargo(&self, profile: Profile, features: &str, target: &Path) -> Result<Command> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            // Not the package's own, where its settings for Windows are.
            .current_dir(root())
            // A toolchain's shim hands its own choice of compiler down by these.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTC", RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("LIBCLANG_PATH", LIBCLANG)
            .args(["build", "--quiet", "--lib", "--target", TARGET, "--profile", profile.name()])
            .arg("--message-format=json-render-diagnostics")
            .arg("-Zlockfile-path")
            .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"])
            .args(["--features", features])
            .arg("--manifest-path")
            .arg(self.manifest())
            .arg("--target-dir")
            .arg(target);
        if self.lock()?.starts_with(root().join("tests")) {
            cargo.arg("--locked");
        }
        for setting in self.settings()? {
            cargo.args(["--config", &setting]);
        }
        Ok(cargo)
    }

    /// The directory of the lock: the package's own one is for Windows, where wdk-sys is the published one. Drivers that are
    /// not the repository's get one when they are first built.
    fn lock(&self) -> Result<PathBuf> {
        let package = self.directory.file_name().unwrap_or_default();
        let kept = root().join("tests/kernel/locks").join(package);
        if self.directory.starts_with(root()) && kept.exists() {
            return Ok(kept);
        }
        let made = workshop().join("locks").join(package);
        fs::create_dir_all(&made)?;
        Ok(made)
    }

    /// What makes a build take the stand-ins.
    fn patches(&self) -> Result<Vec<String>> {
        let stand_in = |package: &str| quoted(&root().join("tests/kernel").join(package));
        let patch = |package| format!("patch.crates-io.{package}.path={}", stand_in(package));
        let lock = quoted(&self.lock()?.join("Cargo.lock"));
        Ok(vec![patch("wdk-sys"), patch("wdk-build"), format!("resolver.lockfile-path={lock}")])
    }

    fn settings(&self) -> Result<Vec<String>> {
        let mut settings = self.patches()?;
        let flags = [
            "-Clinker-flavor=lld-link",
            "-Ctarget-feature=+crt-static",
            "-Clink-arg=/MAP",
            // The image names its symbols' file, and not where it was built.
            "-Clink-arg=/PDBALTPATH:%_PDB%",
        ];
        settings.push(format!("target.{TARGET}.linker={LINKER:?}"));
        settings.push(format!("target.{TARGET}.rustflags={flags:?}"));
        // Not optimised, it needs functions that no kernel has.
        settings.push("profile.dev.package.compiler_builtins.opt-level=2".to_owned());
        Ok(settings)
    }
}

/// What a compiler said, as far as anybody reads it.
fn build_errors(said: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let mut errors = lines[..lines.len().min(LINES)].join("\n");
    if lines.len() > LINES {
        let _ = write!(errors, "\n… and {} lines more", lines.len() - LINES);
    }
    if said.contains("can't find crate for `std`") {
        errors.push_str(
            "\n\nNo driver has std. Is memtrack's feature `sim` on? It is for tests; a driver takes `wdk`.",
        );
    }
    errors
}

/// As a string of TOML.
fn quoted(path: &Path) -> String {
    format!("{path:?}")
}
