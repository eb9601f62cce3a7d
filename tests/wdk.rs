//! The feature `wdk`, and a driver that chooses its kernel by features of its own, as the README shows. On Windows it is
//! wdk-sys that memtrack reaches; here `tests/wdk-sys` stands in for it.

mod packages;

use std::fs;
use std::path::{Path, PathBuf};

fn package() -> PathBuf {
    package_over("wdk", &packages::root().join("tests/wdk-sys"))
}

/// The driver's package, with this binding in place of wdk-sys.
fn package_over(name: &str, binding: &Path) -> PathBuf {
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
    );
    packages::package(name, &manifest)
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

/// What the compiler says of memtrack over a binding that differs from tests/wdk-sys.
fn said_over(name: &str, changes: &[(&str, &str)]) -> String {
    let root = packages::root();
    let binding = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-binding"));
    fs::create_dir_all(binding.join("src")).unwrap();
    let manifest = fs::read_to_string(root.join("tests/wdk-sys/Cargo.toml")).unwrap();
    let sim = format!("{:?}", root.join("memtrack-sim"));
    fs::write(binding.join("Cargo.toml"), manifest.replace("\"../../memtrack-sim\"", &sim)).unwrap();
    let mut source = fs::read_to_string(root.join("tests/wdk-sys/src/lib.rs")).unwrap();
    for (was, is) in changes {
        assert!(source.contains(was), "{was}");
        source = source.replacen(was, is, 1);
    }
    fs::write(binding.join("src/lib.rs"), source).unwrap();
    let package = package_over(name, &binding);
    let output = packages::cargo(&package, &["check", "--lib"], "kernel").output().expect("cargo runs");
    assert!(!output.status.success(), "memtrack fits another binding");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_binding_that_differs_is_an_error_that_names_what_differs() {
    let said =
        said_over("other-size", &[("GENERAL_LOOKASIDE, KIRQL,", "GENERAL_LOOKASIDE, ULONG as KIRQL,")]);
    assert!(
        said.contains("where KIRQL has 1 bytes; this one differs, and memtrack does not fit it"),
        "{said}"
    );

    let place = "    /// All memory of a simulated machine is there.\n";
    let other = "    pub unsafe extern \"C\" fn ExFreePoolWithTag(_: PVOID, _: u64) {}\n\n";
    let said =
        said_over("other-function", &[("ExFreePoolWithTag, ", ""), (place, &format!("{other}{place}"))]);
    assert!(said.contains("agreement.rs") && said.contains("ExFreePoolWithTag"), "{said}");
}
