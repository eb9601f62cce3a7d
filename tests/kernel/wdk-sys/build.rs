//! The bindings, from mingw-w64's headers for drivers, in the shape that wdk-build gives them; and an import library for
//! what they declare.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bindgen::{Builder, CodegenConfig, EnumVariation, Formatter, RustEdition, RustTarget};

const HEADERS: &str = "/usr/share/mingw-w64/include";
const DLLTOOL: &str = "llvm-dlltool-19";

/// Families of functions that drivers call; the headers declare thousands.
const FUNCTIONS: [&str; 9] = [
    "DbgPrint(Ex)?|vDbgPrintEx|DbgBreakPoint",
    "Ex(Allocate|Free|Initialize|Delete|Flush|Query|p).*",
    "K[de].*",
    "Kf.*",
    "Rtl(Init|Copy|Compare|Equal|Query|Capture|Unicode).*",
    "Io(Create|Delete|f|Get|Register|Unregister|Attach|Detach).*",
    "Ob(f|Reference).*",
    "Ps(Set|Remove|Create|Terminate|Get).*",
    "Mm(Get|Is).*|Zw(Open|Close|Query|Create|Write|Read).*",
];

/// What wdk-build leaves out as deprecated. It declares them for nobody, so drivers do.
const DEPRECATED: &str =
    "ExAllocatePool|ExAllocatePoolWithTag|ExAllocatePoolWithQuotaTag|ExAllocatePoolWithTagPriority";

/// What `src/pool.rs` and `src/irql.rs` define, because Wine's kernel does not have it, or does nothing there.
const DEFINED_HERE: [&str; 9] = [
    "ExAllocatePool2",
    "ExAllocatePool3",
    "ExAllocatePoolWithQuota",
    "ExFreePool",
    "ExFreePool2",
    "ExFreePoolWithTag",
    "KeAcquireSpinLockRaiseToDpc",
    "KeGetCurrentIrql",
    "KeReleaseSpinLock",
];

/// Wine's own, under the names that `src/pool.rs` calls them by.
const WINES: [&str; 2] = ["WineAllocatePool == ExAllocatePool", "WineFreePool == ExFreePool"];

fn main() -> Result<(), Box<dyn Error>> {
    wdk_build::configure_wdk_library_build()?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=include");
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let types = CodegenConfig::TYPES;
    let constants = CodegenConfig::VARS;
    let part = |part| settings(&here, &out).map(|settings| settings.with_codegen_config(part));
    part(types)?.generate()?.write_to_file(out.join("types.rs"))?;
    part(constants)?.generate()?.write_to_file(out.join("constants.rs"))?;
    let families =
        |settings: Builder| FUNCTIONS.iter().fold(settings, |all, family| all.allowlist_function(family));
    let functions = families(part(!(types | constants))?).generate()?.to_string();
    fs::write(out.join("ntddk.rs"), &functions)?;
    if env::var("CARGO_CFG_TARGET_OS")? == "windows" {
        import_library(&functions, &out)?;
    }
    Ok(())
}

/// wdk-build's settings: MSVC's types, C's types of 32-bit `long` on any host.
fn settings(here: &Path, out: &Path) -> Result<Builder, Box<dyn Error>> {
    let include = |path: &Path| format!("-I{}", path.display());
    let headers = Path::new(HEADERS);
    Ok(Builder::default()
        .header(here.join("include/driver.h").display().to_string())
        .use_core()
        .derive_default(true)
        .generate_cstr(true)
        .detect_include_paths(false)
        .default_enum_style(EnumVariation::ModuleConsts)
        .ctypes_prefix("crate::llp64")
        .rust_edition(RustEdition::Edition2024)
        .rust_target(RustTarget::stable(85, 0).map_err(|error| error.to_string())?)
        .formatter(Formatter::None)
        .must_use_type("NTSTATUS")
        .blocklist_item(DEPRECATED)
        // Bit fields in packed unions, which derive nothing.
        .opaque_type("_KGDTENTRY64|_KIDTENTRY64")
        .clang_args(["--target=x86_64-pc-windows-msvc", "-nostdinc", "-fno-builtin"])
        // mingw's headers know this compiler, and not MSVC's.
        .clang_args(["-fno-ms-compatibility", "-fms-extensions", "-fgnuc-version=4.2.1", "-fmsc-version=0"])
        .clang_args(["-D__MINGW32__", "-D__MINGW64__", "-D_WIN64", "-D_AMD64_", "-DAMD64", "-D_KERNEL_MODE"])
        .clang_args(["-D_WIN32_WINNT=0x0A00", "-DNTDDI_VERSION=0x0A00000C", "-Wno-everything"])
        .clang_arg(include(&here.join("include")))
        .clang_arg(include(&intrinsics(out)?))
        .clang_arg(include(&headers.join("ddk")))
        .clang_arg(include(headers)))
}

/// Empty headers in place of a compiler's own, whose functions no driver here calls.
fn intrinsics(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let directory = out.join("intrinsics");
    fs::create_dir_all(&directory)?;
    for header in ["emmintrin", "immintrin", "intrin", "mmintrin", "x86intrin", "xmmintrin"] {
        fs::write(directory.join(format!("{header}.h")), "#pragma once\n")?;
    }
    Ok(directory)
}

/// An import library of `ntoskrnl.exe`, for all functions but those that are defined here.
fn import_library(functions: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut definition = String::from("LIBRARY ntoskrnl.exe\nEXPORTS\n");
    let declared = functions
        .split("pub fn ")
        .skip(1)
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name.trim()));
    for name in declared.filter(|name| !DEFINED_HERE.contains(name)).chain(WINES) {
        writeln!(definition, "    {name}")?;
    }
    let source = out.join("ntoskrnl.def");
    fs::write(&source, definition)?;
    let status = Command::new(DLLTOOL)
        .args(["-m", "i386:x86-64", "-d"])
        .arg(&source)
        .arg("-l")
        .arg(out.join("ntoskrnl.lib"))
        .status()
        .map_err(|error| format!("{DLLTOOL}: {error}"))?;
    if !status.success() {
        return Err(format!("{DLLTOOL}: {status}").into());
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=dylib=ntoskrnl");
    Ok(())
}
