//! Off means gone: a driver compiles to the same instructions as without memtrack.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package of the driver in `tests/off`, where cargo may build it in its own ways.
fn package() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("off");
    fs::create_dir_all(&package).unwrap();
    let manifest = format!(
        "[package]\nname = \"off\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = {driver:?}\n\n\
         [features]\nmemtrack = [\"dep:memtrack\"]\n\n\
         [dependencies]\nmemtrack = {{ path = {root:?}, optional = true }}\n\n\
         [profile.release]\ncodegen-units = 1\n\n[profile.dev]\ncodegen-units = 1\n\n[workspace]\n",
        driver = root.join("tests/off/driver.rs"),
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    package
}

/// The driver's instructions, by function.
fn assembly(package: &Path, profile: &str, features: &str) -> String {
    let target = package.join("target");
    let output = package.join(format!("{profile}-{}.s", features.replace([',', '/'], "-")));
    let status = Command::new(env!("CARGO"))
        .args(["rustc", "--offline", "--quiet", "--lib", "--profile", profile, "--features", features])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-Cdebuginfo=0", "-Cstrip=debuginfo"])
        .arg(format!("--emit=asm={}", output.display()))
        .env_remove("RUSTFLAGS")
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
    let package = package();
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
