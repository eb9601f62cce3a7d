//! What must be installed, and how it gets there.

use std::path::Path;

use anyhow::{Result, bail};

/// Debian's packages, and a file that each brings.
const PACKAGES: [(&str, &str); 8] = [
    ("rustc-web", "/usr/bin/rustc"),
    ("rust-web-src", "/usr/lib/rustlib/src/rust/library/core/Cargo.toml"),
    ("lld-19", "/usr/bin/lld-link-19"),
    ("llvm-19", "/usr/bin/llvm-dlltool-19"),
    ("libclang1-19", "/usr/lib/llvm-19/lib/libclang-19.so.1"),
    ("mingw-w64-x86-64-dev", "/usr/share/mingw-w64/include/ddk/wdm.h"),
    ("gcc-mingw-w64-x86-64", "/usr/bin/x86_64-w64-mingw32-gcc"),
    ("wine64", "/usr/lib/wine/wine64"),
];

/// An error that names what is missing, if anything is.
pub fn check() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("drivers are built and loaded like this on Linux; on Windows, use the WDK: docs/windows.md");
    }
    advice(&missing()).map_or(Ok(()), |advice| bail!(advice))
}

/// The packages that are not installed.
pub fn missing() -> Vec<&'static str> {
    let missing = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists());
    missing.map(|(package, _)| *package).collect()
}

fn advice(missing: &[&str]) -> Option<String> {
    let (names, line) = (missing.join(", "), missing.join(" "));
    (!missing.is_empty()).then(|| {
        format!(
            "not installed: {names}\nOn Debian 12 or newer, this brings it:\n    \
             apt-get update && apt-get install -y --no-install-recommends {line}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_line_that_brings_it() {
        assert_eq!(advice(&[]), None);
        let said = advice(&["lld-19", "wine64"]).unwrap();
        assert!(said.starts_with("not installed: lld-19, wine64\n"), "{said}");
        assert!(
            said.ends_with("    apt-get update && apt-get install -y --no-install-recommends lld-19 wine64"),
            "{said}"
        );
    }
}
