//! Mistakes and what is said to them: one error each, at its place, with what to write instead. The same words with
//! memtrack off: run this once more with `--features off`.

use std::process::Command;

/// The compiler whose own words stand in `tests/ui-compiler`.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    if compiler().starts_with(COMPILER) {
        cases.compile_fail("tests/ui-compiler/*.rs");
        // What the compiler says of an argument shows the expansion, where there is one.
        if cfg!(not(feature = "off")) {
            cases.compile_fail("tests/ui-compiler/on/*.rs");
        }
    } else {
        println!("not compared: what a compiler other than {COMPILER}x says of mistakes in annotated code");
    }
}

fn compiler() -> String {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output().expect("the compiler says its version");
    String::from_utf8_lossy(&version.stdout).into_owned()
}
