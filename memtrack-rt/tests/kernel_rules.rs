//! The rules of the kernel, read off the instructions of an optimised image: nothing in the runtime panics, touches
//! a floating-point register, or takes more of the stack than a kernel thread can spare.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::fs;
use std::path::Path;
use std::process::Command;

/// What one function may take of the stack, in bytes. Windows gives a kernel thread 24 KB on x64, and checks frames
/// of a page and more by a call that a driver may not have.
const FRAME_MAX: usize = 1024;

fn assembly() -> String {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    fs::create_dir_all(&package).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = format!(
        "[package]\nname = \"image\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = {image:?}\ncrate-type = [\"staticlib\"]\n\n\
         [dependencies]\nmemtrack-rt = {{ path = {root:?} }}\n\n\
         [profile.release]\npanic = \"abort\"\nlto = true\ncodegen-units = 1\n\n[workspace]\n",
        image = root.join("tests/kernel_rules/image.rs"),
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let output = package.join("image.s");
    let status = Command::new(env!("CARGO"))
        .args(["rustc", "--offline", "--quiet", "--release", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(package.join("target"))
        .args(["--", "-Cdebuginfo=0", "-Cllvm-args=--x86-asm-syntax=att"])
        .arg(format!("--emit=asm={}", output.display()))
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success());
    fs::read_to_string(output).expect("the compiler writes assembly")
}

/// The bytes that each function takes of the stack at its start: what it pushes and what it subtracts.
fn frames(assembly: &str) -> Vec<(&str, usize)> {
    let mut frames = Vec::new();
    for line in assembly.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [label] if label.ends_with(':') && !label.starts_with('.') => {
                frames.push((label.trim_end_matches(':'), 0))
            }
            ["pushq", _] => frames.last_mut().unwrap().1 += 8,
            ["subq", bytes, "%rsp"] => {
                frames.last_mut().unwrap().1 += bytes.trim_matches(['$', ',']).parse::<usize>().expect(line);
            }
            _ => {}
        }
    }
    frames
}

#[test]
fn the_runtime_keeps_the_rules_of_the_kernel() {
    let assembly = assembly();
    for function in ["allocate", "free", "list", "entry", "give", "delete", "check", "report", "unload"] {
        assert!(assembly.contains(&format!("driver_{function}:")), "{function} is not in the image");
    }
    let says = |what: &str| assembly.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    assert_eq!(says("panic"), [] as [&str; 0], "a panic is reachable, as far as the compiler knows");
    for float in ["%st(", "addsd", "mulsd", "divsd", "cvtsi2sd", "addss", "divss"] {
        assert_eq!(says(float), [] as [&str; 0], "floating point");
    }
    let largest =
        frames(&assembly).into_iter().max_by_key(|(_, bytes)| *bytes).expect("functions have frames");
    println!("the largest frame: {} bytes in {}", largest.1, largest.0);
    assert!(largest.1 <= FRAME_MAX, "{} takes {} bytes of stack", largest.0, largest.1);
}
