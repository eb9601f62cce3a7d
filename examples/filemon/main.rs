//! filemon, a small file-activity monitor in a driver's shape, driven with real files.
//!
//! ```text
//! cargo run --example filemon -- [--fixed] [--bugs] [DIR]
//! ```
//! walks DIR (this repository, if none is given), opens and reads each file, and sends the driver a request for each
//! operation. The driver makes one honest mistake, which the leak report names at the end; with `--fixed` it makes
//! none. With `--bugs` it makes six others, on purpose, each of which is reported where it shows.

extern crate memtrack_sim as wdk_sys;

mod bugs;
mod driver;
mod io;
mod log;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use bugs::mistakes;
use driver::filemon;
use io::{DRIVER_OBJECT, IRP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_READ};
use memtrack_sim::{Machine, NT_SUCCESS, PVOID};

const USAGE: &str = "usage: cargo run --example filemon -- [--fixed] [--bugs] [DIR]";
/// As much of each file as is read.
const READ_BYTES: u64 = 8192;
/// Files between two visits of the log's reader.
const FILES_PER_FETCH: usize = 50;

fn main() -> ExitCode {
    let mut directory = None;
    let mut with_bugs = false;
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--fixed") => filemon::FIXED.store(true, Ordering::Relaxed),
            Some("--bugs") => with_bugs = true,
            Some("--help" | "-h") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(option) if option.starts_with('-') => {
                eprintln!("filemon: there is no option {option}\n{USAGE}");
                return ExitCode::from(2);
            }
            _ if directory.is_none() => directory = Some(PathBuf::from(argument)),
            _ => {
                eprintln!("filemon: one directory is enough\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let directory = directory.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    if let Err(error) = fs::read_dir(&directory) {
        eprintln!("filemon: cannot walk {}: {error}", directory.display());
        return ExitCode::from(2);
    }
    monitor(&directory, with_bugs);
    ExitCode::SUCCESS
}

/// Loads the driver, lets it see every file under `directory`, and make its `bugs`, and unloads it.
fn monitor(directory: &Path, with_bugs: bool) {
    let machine = Machine::boot();
    machine.echo(true);
    let mut driver = DRIVER_OBJECT::default();
    let status = filemon::driver_entry(&mut driver);
    assert!(NT_SUCCESS(status), "the driver does not load: {status:#x}");

    let mut files = Vec::new();
    walk(directory, &mut files);
    let mut requests = 0;
    let mut refused = 0;
    let mut log_bytes = 0;
    for (count, file) in files.iter().enumerate() {
        let name = file.strip_prefix(directory).unwrap_or(file).to_string_lossy();
        for status in visit(&driver, file, &name) {
            requests += 1;
            refused += usize::from(!NT_SUCCESS(status));
        }
        if count % FILES_PER_FETCH == 0 {
            log_bytes += fetch(&driver);
        }
    }
    println!(
        "filemon: {} files, {requests} requests, {refused} of them refused, {log_bytes} bytes of log fetched",
        files.len()
    );

    if with_bugs {
        mistakes::make_all();
    }

    memtrack::print_stats("Filemon");
    memtrack::report("Filemon");
    driver.unload();
}

/// The files under `directory`, but for hidden ones and what builds leave behind.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            walk(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}

/// Opens, reads and closes one file, and returns what the driver said to each.
fn visit(driver: &DRIVER_OBJECT, file: &Path, name: &str) -> Vec<i32> {
    let mut name = name.as_bytes().to_vec();
    let mut data = Vec::new();
    // A file that the host cannot read reads as empty.
    let _ = File::open(file).map(|file| file.take(READ_BYTES).read_to_end(&mut data));

    let mut create = request(IRP_MJ_CREATE, null_mut(), &mut name);
    let opened = driver.call(&mut create);
    if !NT_SUCCESS(opened) {
        return vec![opened];
    }
    let read = driver.call(&mut request(IRP_MJ_READ, create.FsContext, &mut data));
    let closed = driver.call(&mut request(IRP_MJ_CLOSE, create.FsContext, &mut []));
    vec![opened, read, closed]
}

/// Fetches what the log holds, and returns how much that was.
fn fetch(driver: &DRIVER_OBJECT) -> usize {
    let mut room = vec![0; 4096];
    let mut total = 0;
    loop {
        let mut irp = request(IRP_MJ_DEVICE_CONTROL, null_mut(), &mut room);
        let status = driver.call(&mut irp);
        if !NT_SUCCESS(status) || irp.Information == 0 {
            return total;
        }
        total += irp.Information;
    }
}

fn request(function: usize, file: PVOID, data: &mut [u8]) -> IRP {
    IRP {
        MajorFunction: function,
        FsContext: file,
        SystemBuffer: data.as_mut_ptr(),
        Length: data.len(),
        Information: 0,
    }
}
