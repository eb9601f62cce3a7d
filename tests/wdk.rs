//! The feature `wdk`, and a driver that chooses its kernel by features of its own, as the README shows. On Windows it is
//! wdk-sys that memtrack reaches; here `tests/wdk-sys` stands in for it.

mod packages;

use std::path::PathBuf;

fn package() -> PathBuf {
    let root = packages::root();
    let manifest = format!(
        "[package]\nname = \"driver\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = {driver:?}\n\n\
         [features]\n\
         kernel = [\"memtrack/wdk\", \"dep:wdk-sys\"]\n\
         desk = [\"memtrack/sim\"]\n\
         off = [\"memtrack/off\"]\n\n\
         [dependencies]\n\
         memtrack = {{ path = {root:?} }}\n\
         wdk-sys = {{ version = \"0.5\", optional = true }}\n\
         memtrack-sim = {{ path = {sim:?} }}\n\n\
         [patch.crates-io]\nwdk-sys = {{ path = {binding:?} }}\n",
        driver = root.join("tests/wdk/driver.rs"),
        sim = root.join("memtrack-sim"),
        binding = root.join("tests/wdk-sys"),
    );
    packages::package("wdk", &manifest)
}

#[test]
fn a_driver_chooses_its_kernel_by_a_feature() {
    let package = package();
    let run = |features| {
        let output = packages::cargo(&package, &["test", "--lib"], features).output().expect("cargo runs");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{features}: {text}");
    };
    for features in ["kernel", "kernel,off", "desk", "desk,off"] {
        run(features);
    }
}

#[test]
fn two_kernels_are_one_too_many() {
    let output =
        packages::cargo(&package(), &["check", "--lib"], "kernel,desk").output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("error: memtrack's features `sim` and `wdk` are both on"), "{said}");
    assert_eq!(
        said.matches("\nerror").count() + usize::from(said.starts_with("error")),
        2,
        "one, and cargo's: {said}"
    );
}

#[test]
fn without_a_kernel_there_is_no_ntddk_and_the_compiler_says_which_features_bring_it() {
    let output = packages::cargo(&package(), &["check", "--lib"], "off").output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("unresolved import `memtrack::ntddk`"), "{said}");
    assert!(said.contains("feature = \"sim\"") && said.contains("feature = \"wdk\""), "{said}");
}
