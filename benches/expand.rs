//! What the attribute costs while a driver is compiled: the same module of 5,000 lines with 200 pool calls, built with
//! memtrack and without it, in turns. `benches/expand/device.rs` is what it consists of.
//!
//! ```text
//! cargo bench --bench expand
//! ```
//! Times are those of cargo's whole run, in debug builds of a library. Its dependencies are built before.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const DEVICE: &str = include_str!("expand/device.rs");
const DEVICES: usize = 25;
const ROUNDS: usize = 9;
const PROMISED: Duration = Duration::from_secs(2);

/// A kernel to link with is not needed for a library.
const BINDINGS: &str = "
/// The kernel's functions, declared as bindgen does.
#[allow(non_snake_case, missing_docs)]
mod ntddk {
    use core::ffi::{c_char, c_void};
    unsafe extern \"C\" {
        pub fn DbgPrint(format: *const c_char, ...) -> i32;
        pub fn ExAllocatePool2(flags: u64, bytes: u64, tag: u32) -> *mut c_void;
        pub fn ExAllocatePoolWithTag(pool: i32, bytes: usize, tag: u32) -> *mut c_void;
        pub fn ExAllocatePoolZero(pool: i32, bytes: usize, tag: u32) -> *mut c_void;
        pub fn ExFreePool(block: *mut c_void);
        pub fn ExFreePoolWithTag(block: *mut c_void, tag: u32);
    }
}
";

/// What a developer waits for.
struct Build {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Whether the compiler may use what it knows of the build before.
    incremental: bool,
}

const BUILDS: [Build; 3] = [
    Build { name: "check, from nothing", arguments: &["check"], incremental: false },
    Build { name: "build, from nothing", arguments: &["rustc"], incremental: false },
    Build { name: "build, one line changed", arguments: &["rustc"], incremental: true },
];

fn main() {
    // What cargo and a person write behind `cargo bench`: `--bench`, `--test`, and names of benchmarks.
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if names.peek().is_some() && !names.any(|name| "expand".contains(name.as_str())) {
        return;
    }
    let quick = arguments.iter().any(|argument| argument == "--test");
    let (devices, rounds) = if quick { (1, 1) } else { (DEVICES, ROUNDS) };

    let mut package = Package::new(devices);
    let (lines, calls) = package.size();
    println!("debug builds of {lines} lines with {calls} pool calls, medians of {rounds} each");
    println!(
        "{:<26}{:>10}{:>12}{:>12}{:>15}   below {PROMISED:?}",
        "", "without", "memtrack", "difference", "for each call"
    );
    for build in &BUILDS {
        let (without, with) = package.compare(build, rounds);
        let difference = with.as_secs_f64() - without.as_secs_f64();
        println!(
            "{:<26}{:>8.2} s{:>10.2} s{:>10.2} s{:>12.2} ms   {}",
            build.name,
            without.as_secs_f64(),
            with.as_secs_f64(),
            difference,
            difference * 1000.0 / calls as f64,
            if difference < PROMISED.as_secs_f64() { "yes" } else { "NO" },
        );
    }
}

/// A package of the driver, where cargo may build it in its own ways.
struct Package {
    folder: PathBuf,
    driver: String,
    /// How often its source was written.
    changes: u32,
}

impl Package {
    fn new(devices: usize) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("expand");
        fs::create_dir_all(folder.join("src")).expect("the target directory can be written");
        // Incremental builds are asked for one by one, in `time`, so that dependencies stay as they are.
        let manifest = format!(
            "[package]\nname = \"expand\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
             [features]\nmemtrack = [\"dep:memtrack\"]\n\n\
             [dependencies]\nmemtrack = {{ path = {root:?}, optional = true, features = [\"sim\"] }}\n\n\
             [profile.dev]\nincremental = false\n\n[workspace]\n",
        );
        fs::write(folder.join("Cargo.toml"), manifest).expect("the package can be written");
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("the workspace has a Cargo.lock");
        Self { folder, driver: driver(devices), changes: 0 }
    }

    /// The lines and the pool calls of the annotated module.
    fn size(&self) -> (usize, usize) {
        let calls = |name| self.driver.matches(name).count();
        let called = [
            "ExAllocatePool2(",
            "ExAllocatePoolWithTag(",
            "ExAllocatePoolZero(",
            "ExFreePool(",
            "ExFreePoolWithTag(",
        ];
        (self.driver.lines().count(), called.into_iter().map(calls).sum())
    }

    /// The medians without memtrack and with it.
    fn compare(&mut self, build: &Build, rounds: usize) -> (Duration, Duration) {
        // The first builds the dependencies, and is what an incremental one starts from.
        self.time(build, false);
        self.time(build, true);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            without.push(self.time(build, false));
            with.push(self.time(build, true));
        }
        (median(without), median(with))
    }

    /// Changes one line, so that the driver must be compiled, and times that.
    fn time(&mut self, build: &Build, memtrack: bool) -> Duration {
        self.changes += 1;
        let source = format!(
            "//! A driver for `benches/expand.rs`.\n#![no_std]\n#![allow(missing_docs, clippy::all)]\n{BINDINGS}\n\
             const CHANGED: u32 = {};\n\n\
             #[cfg_attr(feature = \"memtrack\", memtrack::instrument)]\n{}",
            self.changes, self.driver,
        );
        fs::write(self.folder.join("src/lib.rs"), source).expect("the package can be written");

        let features = if memtrack { "memtrack" } else { "" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(build.arguments)
            .args(["--offline", "--quiet", "--lib", "--features", features])
            .arg("--manifest-path")
            .arg(self.folder.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(self.folder.join("target"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_INCREMENTAL");
        if build.incremental {
            let known = self.folder.join("incremental").join(if memtrack { "memtrack" } else { "without" });
            cargo.arg("--").arg(format!("-Cincremental={}", known.display()));
        }
        let start = Instant::now();
        let status = cargo.status().expect("cargo runs");
        let took = start.elapsed();
        assert!(status.success(), "the driver compiles");
        took
    }
}

/// The module: so many devices.
fn driver(devices: usize) -> String {
    // Behind what is written round them, documentation of the file is none.
    let device = DEVICE.replace("//!", "//");
    let devices: String =
        (0..devices).map(|number| format!("pub mod device_{number} {{\n{device}}}\n")).collect();
    format!("pub mod driver {{\n{devices}}}\n")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
