//! Packages that tests make, where cargo may build them in its own ways.
#![allow(unreachable_pub, reason = "shared by tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A package with this manifest, whose dependencies are this workspace's.
pub fn package(name: &str, manifest: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("Cargo.toml"), format!("{manifest}\n[workspace]\n")).unwrap();
    fs::copy(root().join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    package
}

pub fn cargo(package: &Path, arguments: &[&str], features: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(arguments)
        .args(["--offline", "--quiet", "--features", features])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(package.join("target"))
        .env_remove("RUSTFLAGS");
    cargo
}
