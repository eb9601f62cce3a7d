//! Off means gone: a driver compiles to the same instructions as without memtrack.

mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use packages::cargo;

/// A package of the driver in `tests/off`.
fn package(name: &str) -> PathBuf {
    let root = packages::root();
    let manifest = format!(
        "[package]\nname = \"off\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = {driver:?}\n\n\
         [features]\nmemtrack = [\"dep:memtrack\"]\n\n\
         [dependencies]\nmemtrack = {{ path = {root:?}, optional = true }}\n\n\
         [profile.release]\ncodegen-units = 1\n\n[profile.dev]\ncodegen-units = 1\n",
        driver = root.join("tests/off/driver.rs"),
    );
    packages::package(name, &manifest)
}

/// The driver's instructions, by function.
fn assembly(package: &Path, profile: &str, features: &str) -> String {
    let output = package.join(format!("{profile}-{}.s", features.replace([',', '/'], "-")));
    let status = cargo(package, &["rustc", "--lib", "--profile", profile], features)
        .args(["--", "-Cdebuginfo=0", "-Cstrip=debuginfo"])
        .arg(format!("--emit=asm={}", output.display()))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{profile} {features}");
    let text = fs::read_to_string(&output).expect("the compiler writes assembly");
    assert!(text.contains("ExFreePoolWithTag"), "the driver's functions are there");
    // The file's name and the crate's hash are no instructions.
    text.lines()
        .filter(|line| !line.contains(".file") && !line.contains(".ident"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn off_is_the_same_instructions_as_without() {
    let package = package("off");
    let compiled = |profile: &str, features: &str| assembly(&package, profile, features);
    let plain = compiled("release", "");
    for off in ["memtrack/off", "memtrack/off,memtrack/sim", "memtrack/release_off,memtrack/sim"] {
        let features = format!("memtrack,{off}");
        assert!(
            compiled("release", &features) == plain,
            "{features}: not the instructions of the driver alone"
        );
    }
    for (profile, on) in [("release", "memtrack/sim"), ("dev", "memtrack/sim,memtrack/release_off")] {
        let tracked = compiled(profile, &format!("memtrack,{on}"));
        assert!(tracked.contains("memtrack_rt"), "{profile} {on}: not tracked, so nothing was compared");
    }
    assert!(!plain.contains("memtrack_rt"));
}

#[test]
fn without_a_kernel_it_says_that_it_tracks_nothing() {
    let package = package("idle");
    let said = |features| {
        let output = cargo(&package, &["check", "--lib"], features).output().expect("cargo runs");
        assert!(output.status.success(), "{features}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).contains("memtrack tracks nothing here: no kernel is chosen")
    };
    assert!(said("memtrack"));
    assert!(said("memtrack,memtrack/release_off"), "debug assertions are on");
    assert!(!said("memtrack,memtrack/off"));
    assert!(!said("memtrack,memtrack/sim"));
    assert!(!said(""));
}
